"""Bags: the sum or the mean of some rows, of a table of the contender's own."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import EmbeddingBag
from ..timing import Answer, Array, Call
from .base import OURS, Contender, Inputs, sums_of_rows
from .forward import fbgemm_table


def bag_answer(mode: str) -> Any:
    """NumPy's sums of the rows of each bag, for the mean divided by their number."""

    def answer(inputs: Inputs) -> Answer:
        ids, table = inputs.ids[0], inputs.wte
        sums = sums_of_rows(table, ids)
        return (sums if mode == "sum" else sums / table.dtype.type(ids.shape[1]),)

    return answer


def _ours(mode: str) -> Contender:
    def setup(inputs: Inputs) -> Call:
        layer, ids = EmbeddingBag(*inputs.wte.shape, mode=mode, std=0.0), inputs.ids
        layer.weight[...] = inputs.wte
        out = np.full((len(ids[0]), layer.embedding_dim), 0.0, layer.dtype)
        return lambda k: layer(ids[k], out=out)

    return Contender(OURS, "EmbeddingBag, out=", setup)


def _numpy(mode: str) -> Contender:
    def setup(inputs: Inputs) -> Call:
        table, ids = inputs.wte, inputs.ids
        out = np.full((len(ids[0]), table.shape[1]), 0.0, table.dtype)
        rows = np.full((ids[0].size, table.shape[1]), 0.0, table.dtype)
        starts = np.arange(len(ids[0])) * ids[0].shape[1]

        def call(k: int) -> Array:
            np.take(table, ids[k].ravel(), axis=0, out=rows, mode="clip")
            np.add.reduceat(rows, starts, axis=0, out=out)
            return out if mode == "sum" else np.divide(out, table.dtype.type(ids[k].shape[1]), out=out)

        return call

    return Contender("numpy", "take(out=) + add.reduceat(out=)", setup)


def _torch(mode: str, is_own: bool) -> Contender:
    def setup(inputs: Inputs) -> Call:
        import torch

        table = torch.from_numpy(inputs.wte)
        table = table.clone() if is_own else table
        ids, bag = [torch.from_numpy(ids) for ids in inputs.ids], torch.nn.functional.embedding_bag

        def call(k: int) -> Any:
            with torch.no_grad():
                return bag(ids[k], table, mode=mode)

        return call

    return Contender("torch", "F.embedding_bag of its own memory" if is_own else "F.embedding_bag of NumPy's memory", setup)


def _fbgemm(mode: str) -> Contender:
    def setup(inputs: Inputs) -> Call:
        import torch
        from fbgemm_gpu.split_table_batched_embeddings_ops_common import PoolingMode

        bags = fbgemm_table(inputs.wte, pooling_mode=PoolingMode[mode.upper()])
        ids = [torch.from_numpy(ids.ravel()) for ids in inputs.ids]
        offsets = torch.arange(len(inputs.ids[0]) + 1) * inputs.ids[0].shape[1]

        def call(k: int) -> Any:
            with torch.no_grad():
                return bags(ids[k], offsets)

        return call

    return Contender("fbgemm", "table-batched embedding", setup)


BAGS = {mode: (_ours(mode), _numpy(mode), _torch(mode, True), _torch(mode, False), _fbgemm(mode)) for mode in ("sum", "mean")}
