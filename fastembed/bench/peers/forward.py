"""Forward, ``wte[ids] + wpe[:T]``.

FORWARD: into an array that the contender keeps; FRESH: into a new one; READ: NumPy then reads it.
"""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ... import gather_add
from ..timing import Array, Call, Ready
from .base import OURS, Contender, Inputs, contender


@contender(OURS, "gather_add(out=)")
def _ours_forward(inputs: Inputs) -> Call:
    wte, wpe, ids, out = inputs.wte, inputs.wpe, inputs.ids, inputs.buffer()
    return lambda k: gather_add(wte, ids[k], wpe, out=out)


@contender("numpy", "take(out=) + add(out=)")
def _numpy_take(inputs: Inputs) -> Call:
    wte, wpe, ids, out = inputs.wte, inputs.positions(), inputs.ids, inputs.buffer()

    def call(k: int) -> Array:
        np.take(wte, ids[k], axis=0, out=out, mode="clip")  # with mode="raise" take would buffer out
        return np.add(out, wpe, out=out)

    return call


@contender("numpy", "add(wte[ids], wpe, out=)")
def _numpy_index(inputs: Inputs) -> Call:
    wte, wpe, ids, out = inputs.wte, inputs.positions(), inputs.ids, inputs.buffer()
    return lambda k: np.add(wte[ids[k]], wpe, out=out)


@contender("torch", "add(F.embedding, wpe, out=)")
def _torch_embedding(inputs: Inputs) -> Call:
    import torch

    wte, wpe, out = torch.from_numpy(inputs.wte), torch.from_numpy(inputs.positions()), inputs.buffer()
    ids, target, embedding = [torch.from_numpy(ids) for ids in inputs.ids], torch.from_numpy(out), torch.nn.functional.embedding

    def call(k: int) -> Array:
        torch.add(embedding(ids[k], wte), wpe, out=target)
        return out

    return call


@contender("torch", "index_select(out=) + add_")
def _torch_index_select(inputs: Inputs) -> Call:
    import torch

    wte, wpe, out = torch.from_numpy(inputs.wte), torch.from_numpy(inputs.positions()), inputs.buffer()
    ids, target = [torch.from_numpy(ids.ravel()) for ids in inputs.ids], torch.from_numpy(out)
    rows = target.view(-1, out.shape[-1])

    def call(k: int) -> Array:
        torch.index_select(wte, 0, ids[k], out=rows)
        target.add_(wpe)
        return out

    return call


def fbgemm_table(table: Array, optimizer: str = "EXACT_SGD", **options: Any) -> Any:
    """`fbgemm_tables` of one table."""
    return fbgemm_tables([table], optimizer, **options)


def fbgemm_tables(tables: Sequence[Array], optimizer: str = "EXACT_SGD", **options: Any) -> Any:
    """fbgemm's table-batched embedding on the CPU, with copies of tables, and an optimiser."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger().setLevel(logging.ERROR)  # the constructor logs each of its settings
        import torch
        from fbgemm_gpu.split_embedding_configs import EmbOptimType
        from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation
        from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
            ComputeDevice,
            SplitTableBatchedEmbeddingBagsCodegen,
        )

        spec = [(*table.shape, EmbeddingLocation.HOST, ComputeDevice.CPU) for table in tables]
        bags = SplitTableBatchedEmbeddingBagsCodegen(spec, optimizer=EmbOptimType[optimizer], **options)
        for own, table in zip(bags.split_embedding_weights(), tables, strict=True):
            own.copy_(torch.from_numpy(table))
    return bags


@contender("fbgemm", "bag of two rows")
def _fbgemm_pairs(inputs: Inputs) -> Call:
    import torch

    bags, shape = fbgemm_table(inputs.stacked), (*inputs.ids[0].shape, inputs.wte.shape[1])
    pairs, offsets = [torch.from_numpy(pair.ravel()) for pair in inputs.pairs], torch.arange(len(inputs.pairs[0]) + 1) * 2

    def call(k: int) -> Any:
        with torch.no_grad():
            return bags(pairs[k], offsets).view(shape)

    return call


@contender("fbgemm", "bag of one row + add_")
def _fbgemm_single(inputs: Inputs) -> Call:
    import torch

    bags, shape = fbgemm_table(inputs.wte), (*inputs.ids[0].shape, inputs.wte.shape[1])
    ids, offsets = [torch.from_numpy(ids.ravel()) for ids in inputs.ids], torch.arange(inputs.ids[0].size + 1)
    wpe = torch.from_numpy(inputs.positions())

    def call(k: int) -> Any:
        with torch.no_grad():
            return bags(ids[k], offsets).view(shape).add_(wpe)

    return call


@contender("thinc", "gather_add of two rows")
def _thinc_pairs(inputs: Inputs) -> Call:
    from thinc.api import NumpyOps

    ops, table, shape = NumpyOps(), inputs.stacked, (*inputs.ids[0].shape, inputs.wte.shape[1])
    pairs = [pair.astype(np.uint32) for pair in inputs.pairs]
    return lambda k: ops.gather_add(table, pairs[k]).reshape(shape)


@functools.cache
def _numba_forward_kernel(parallel: bool) -> Any:
    import numba

    def loop(wte: Any, ids: Any, wpe: Any, out: Any) -> None:
        for i in numba.prange(ids.size):
            row, position = ids[i], i % len(wpe)
            for j in range(wte.shape[1]):
                out[i, j] = wte[row, j] + wpe[position, j]

    return numba.njit(loop, parallel=parallel, nogil=True)


def _numba_forward(inputs: Inputs, out_of: Callable[[], Array]) -> Call:
    import numba

    kernel = _numba_forward_kernel(numba.get_num_threads() > 1)
    wte, wpe, width, ids = inputs.wte, inputs.positions(), inputs.wte.shape[1], [ids.ravel() for ids in inputs.ids]

    def call(k: int) -> Array:
        out = out_of()
        kernel(wte, ids[k], wpe, out.reshape(-1, width))
        return out

    return call


@contender("numba", "njit loop into out")
def _numba_out(inputs: Inputs) -> Call:
    out = inputs.buffer()
    return _numba_forward(inputs, lambda: out)


FORWARD = (
    _ours_forward,
    _numpy_take,
    _numpy_index,
    _torch_embedding,
    _torch_index_select,
    _fbgemm_pairs,
    _fbgemm_single,
    _thinc_pairs,
    _numba_out,
)


@contender(OURS, "gather_add")
def _ours_fresh(inputs: Inputs) -> Call:
    wte, wpe, ids = inputs.wte, inputs.wpe, inputs.ids
    return lambda k: gather_add(wte, ids[k], wpe)


@contender("numpy", "wte[ids] + wpe")
def _numpy_fresh(inputs: Inputs) -> Call:
    wte, wpe, ids = inputs.wte, inputs.positions(), inputs.ids
    return lambda k: wte[ids[k]] + wpe


@contender("numpy", "take, then +=")
def _numpy_fresh_take(inputs: Inputs) -> Call:
    wte, wpe, ids = inputs.wte, inputs.positions(), inputs.ids

    def call(k: int) -> Array:
        out = wte.take(ids[k], axis=0)
        out += wpe
        return out

    return call


@contender("torch", "F.embedding + wpe")
def _torch_fresh(inputs: Inputs) -> Call:
    import torch

    wte, wpe, embedding = torch.from_numpy(inputs.wte), torch.from_numpy(inputs.positions()), torch.nn.functional.embedding
    ids = [torch.from_numpy(ids) for ids in inputs.ids]
    return lambda k: embedding(ids[k], wte) + wpe


@contender("torch", "F.embedding, then add_")
def _torch_fresh_add(inputs: Inputs) -> Call:
    import torch

    wte, wpe, embedding = torch.from_numpy(inputs.wte), torch.from_numpy(inputs.positions()), torch.nn.functional.embedding
    ids = [torch.from_numpy(ids) for ids in inputs.ids]
    return lambda k: embedding(ids[k], wte).add_(wpe)


@contender("numba", "njit loop")
def _numba_fresh(inputs: Inputs) -> Call:
    shape, dtype = (*inputs.ids[0].shape, inputs.wte.shape[1]), inputs.wte.dtype
    return _numba_forward(inputs, lambda: np.empty(shape, dtype))


FRESH = (
    _ours_fresh,
    _numpy_fresh,
    _numpy_fresh_take,
    _torch_fresh,
    _torch_fresh_add,
    _fbgemm_pairs,
    _fbgemm_single,
    _thinc_pairs,
    _numba_fresh,
)


def _then_read(forward: Contender) -> Contender:
    """The forward, after which NumPy reads all that it wrote."""

    def setup(inputs: Inputs) -> Call:
        call = forward.setup(inputs)
        assert not isinstance(call, Ready)

        def both(k: int) -> Array:
            out: Array = call(k)
            out.sum()
            return out

        return both

    return Contender(forward.peer, f"{forward.way}, sum", setup)


READ = tuple(_then_read(forward) for forward in FORWARD if forward.peer in (OURS, "numpy", "torch"))
