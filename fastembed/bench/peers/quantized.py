"""Sums of bags of a row-quantised table, which each contender packs itself."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from ... import QuantizedEmbedding
from ..timing import Answer, Array, Call
from .base import OURS, Contender, Inputs, sums_of_rows


def round_to_levels(table: Array, bits: int) -> Array:
    """Round a table of numbers from -0.5 to 0.5, in place, to levels that quantisation keeps.

    They are multiples of a step per row that float16 represents exactly: every format then has the
    same scale and bias, and there is one right answer.
    """
    levels = 2**bits - 1
    steps = np.random.default_rng(0).uniform(0.5, 1.0, (len(table), 1)).astype(np.float16).astype(table.dtype) / 2**bits
    table += table.dtype.type(0.5)
    table *= levels
    np.rint(table, out=table)
    table[:, 0], table[:, 1] = 0, levels
    table -= 2 ** (bits - 1)
    table *= steps
    return table


def quantized_answer(inputs: Inputs) -> Answer:
    """NumPy's sums of the rows of each bag; packing changes no number (`round_to_levels`)."""
    return (sums_of_rows(inputs.wte, inputs.ids[0]),)


def _ours(bits: int) -> Contender:
    def setup(inputs: Inputs) -> Call:
        layer, ids = QuantizedEmbedding.from_float(inputs.wte, bits=bits), inputs.ids
        out = np.full((len(ids[0]), layer.embedding_dim), 0.0, np.float32)
        return lambda k: layer.bag(ids[k], mode="sum", out=out)

    return Contender(OURS, "QuantizedEmbedding.bag, out=", setup)


def _torch(bits: int, is_own: bool) -> Contender:
    def setup(inputs: Inputs) -> Call:
        import torch

        ops, table = torch.ops.quantized, torch.from_numpy(inputs.wte)
        packed = ops.embedding_bag_byte_prepack(table) if bits == 8 else ops.embedding_bag_4bit_prepack(table)
        packed = packed if is_own else torch.from_numpy(packed.numpy().copy())
        bag = ops.embedding_bag_byte_rowwise_offsets if bits == 8 else ops.embedding_bag_4bit_rowwise_offsets
        ids = [torch.from_numpy(ids.ravel()) for ids in inputs.ids]
        offsets = torch.arange(len(inputs.ids[0])) * inputs.ids[0].shape[1]
        return lambda k: bag(packed, ids[k], offsets, False, 0, False, None, None, False)

    return Contender("torch", "ops.quantized of its own memory" if is_own else "ops.quantized of NumPy's memory", setup)


def fbgemm_packed(tables: Sequence[Array], n_cols: int, bits: int) -> Any:
    """fbgemm's table-batched embedding for inference, with copies of tables of packed rows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger().setLevel(logging.ERROR)  # the constructor logs each of its settings
        import torch
        from fbgemm_gpu.split_embedding_configs import SparseType
        from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation
        from fbgemm_gpu.split_table_batched_embeddings_ops_inference import IntNBitTableBatchedEmbeddingBagsCodegen

        spec = [("", len(table), n_cols, SparseType[f"INT{bits}"], EmbeddingLocation.HOST) for table in tables]
        bags = IntNBitTableBatchedEmbeddingBagsCodegen(spec, device="cpu", output_dtype=SparseType.FP32)
        bags.initialize_weights()
    n_bytes = n_cols * bits // 8
    for (elements, scales_and_biases), packed in zip(bags.split_embedding_weights(), tables, strict=True):
        trailers = np.ascontiguousarray(packed[:, n_bytes:]).view(np.float32 if bits == 8 else np.float16).astype(np.float16)
        elements.copy_(torch.from_numpy(packed[:, :n_bytes]))
        scales_and_biases.copy_(torch.from_numpy(trailers.view(np.uint8)))
    return bags


def _fbgemm(bits: int) -> Contender:
    def setup(inputs: Inputs) -> Call:
        import torch

        packed = QuantizedEmbedding.from_float(inputs.wte, bits=bits).packed
        bags = fbgemm_packed([packed], inputs.wte.shape[1], bits)
        ids = [torch.from_numpy(ids.ravel().astype(np.int32)) for ids in inputs.ids]
        offsets = torch.arange(len(inputs.ids[0]) + 1, dtype=torch.int32) * inputs.ids[0].shape[1]
        return lambda k: bags(ids[k], offsets)

    return Contender("fbgemm", "table-batched embedding for inference", setup)


QUANTIZED = {bits: (_ours(bits), _torch(bits, True), _torch(bits, False), _fbgemm(bits)) for bits in (8, 4)}
