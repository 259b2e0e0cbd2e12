"""Backward: ``dout`` is added to the gradients of both tables.

Each contender has gradient arrays of its own, to which its calls go on adding.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ... import gather_add_backward
from ..timing import Answer, Array, Call
from .base import OURS, Inputs, contender


def add_in_order(dwte: Array, dwpe: Array, ids: Array, dout: Array) -> None:
    """NumPy's sums in C order of the ids, so that their bits are the reference's."""
    np.add.at(dwte, ids, dout)
    for of_sequence in dout:
        dwpe += of_sequence


def _add_positions(dwpe: Array, dout: Array) -> None:
    """The gradient of the position table: the sum over the sequences of a batch."""
    np.add(dwpe, dout.sum(axis=0), out=dwpe)


@contender(OURS, "gather_add_backward")
def _ours(inputs: Inputs) -> Call:
    ids, (dwte, dwpe) = inputs.ids, inputs.gradients()

    def call(k: int) -> Answer:
        gather_add_backward(inputs.dout(k), ids[k], dwte, dwpe)
        return dwte, dwpe

    return call


@contender("numpy", "add.at + sum")
def _numpy_add_at(inputs: Inputs) -> Call:
    ids, (dwte, dwpe) = inputs.ids, inputs.gradients()

    def call(k: int) -> Answer:
        dout = inputs.dout(k)
        np.add.at(dwte, ids[k], dout)
        _add_positions(dwpe, dout)
        return dwte, dwpe

    return call


@contender("numpy", "sort, add.reduceat + sum")
def _numpy_sorted(inputs: Inputs) -> Call:
    ids, (dwte, dwpe) = inputs.ids, inputs.gradients()

    def call(k: int) -> Answer:
        dout, flat = inputs.dout(k), ids[k].ravel()
        order = flat.argsort(kind="stable")
        in_order = flat[order]
        firsts = np.flatnonzero(np.diff(in_order, prepend=-1))
        dwte[in_order[firsts]] += np.add.reduceat(dout.reshape(flat.size, -1)[order], firsts, axis=0)
        _add_positions(dwpe, dout)
        return dwte, dwpe

    return call


@contender("torch", "index_add_ + sum")
def _torch_index_add(inputs: Inputs) -> Call:
    import torch

    ids, douts = [torch.from_numpy(ids.ravel()) for ids in inputs.ids], [torch.from_numpy(dout) for dout in inputs.douts]
    answer = inputs.gradients()
    dwte, dwpe = map(torch.from_numpy, answer)
    width = dwte.shape[1]

    def call(k: int) -> Answer:
        dout = douts[k % len(douts)]
        dwte.index_add_(0, ids[k], dout.view(-1, width))
        dwpe.add_(dout.sum(0))
        return answer

    return call


@contender("torch", "own dense backward + sum")
def _torch_dense(inputs: Inputs) -> Call:
    """What autograd runs for F.embedding + wpe: a fresh dense gradient of the whole table."""
    import torch

    ids, douts = [torch.from_numpy(ids) for ids in inputs.ids], [torch.from_numpy(dout) for dout in inputs.douts]
    n_vocab, backward = len(inputs.wte), torch.ops.aten.embedding_dense_backward

    def call(k: int) -> Any:
        dout = douts[k % len(douts)]
        return backward(dout, ids[k], n_vocab, -1, False), dout.sum(0)

    return call


@contender("thinc", "scatter_add + sum")
def _thinc(inputs: Inputs) -> Call:
    from thinc.api import NumpyOps

    ops, (dwte, dwpe) = NumpyOps(), inputs.gradients()
    ids = [ids.ravel().astype(np.int32) for ids in inputs.ids]  # its compiled path is for int32
    width = dwte.shape[1]

    def call(k: int) -> Answer:
        dout = inputs.dout(k)
        ops.scatter_add(dwte, ids[k], dout.reshape(-1, width))
        _add_positions(dwpe, dout)
        return dwte, dwpe

    return call


@functools.cache
def _numba_kernel(parallel: bool) -> Any:
    import numba

    def loop(dwte: Any, dwpe: Any, ids: Any, dout: Any, n_parts: int) -> None:
        width = dout.shape[1]
        for part in numba.prange(n_parts):  # each thread has columns of its own: no two add to one element
            for i in range(ids.size):
                row, position = ids[i], i % len(dwpe)
                for j in range(width * part // n_parts, width * (part + 1) // n_parts):
                    dwte[row, j] += dout[i, j]
                    dwpe[position, j] += dout[i, j]

    return numba.njit(loop, parallel=parallel, nogil=True)


@contender("numba", "njit loop")
def _numba(inputs: Inputs) -> Call:
    import numba

    n_threads = numba.get_num_threads()
    kernel, (dwte, dwpe) = _numba_kernel(n_threads > 1), inputs.gradients()
    ids, width = [ids.ravel() for ids in inputs.ids], dwte.shape[1]

    def call(k: int) -> Answer:
        kernel(dwte, dwpe, ids[k], inputs.dout(k).reshape(-1, width), n_threads)
        return dwte, dwpe

    return call


BACKWARD = (_ours, _torch_index_add, _thinc, _numba, _numpy_sorted, _numpy_add_at, _torch_dense)
