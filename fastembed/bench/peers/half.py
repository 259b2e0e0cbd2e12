"""Tables of float16 and bfloat16: fastembed against PyTorch in the same dtype.

Answers are computed in float32 and rounded once: fastembed's must be equal to the bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ... import TokenPositionEmbedding, embedding_bag, gather, gather_add, optim
from ..timing import Answer, Array, Call, Ready
from .backward import add_in_order
from .base import OURS, Contender, Inputs, contender, sums_of_rows
from .step import CHECKED_STEPS, UPDATES, options_of, timed_steps


def _wide(array: Array) -> Array:
    return array.astype(np.float32)


def half_lookup_answer(inputs: Inputs) -> Answer:
    return (inputs.wte[inputs.ids[0]],)


def half_forward_answer(inputs: Inputs) -> Answer:
    return ((_wide(inputs.wte[inputs.ids[0]]) + _wide(inputs.positions())).astype(inputs.wte.dtype),)


def half_bag_answer(inputs: Inputs) -> Answer:
    """The sums of rows of which only those in the bags are widened."""
    rows, ids = np.unique(inputs.ids[0], return_inverse=True)
    return (sums_of_rows(_wide(inputs.wte[rows]), ids.reshape(inputs.ids[0].shape)).astype(inputs.wte.dtype),)


def half_step_answer(name: str) -> Callable[[Inputs], Answer]:
    """Both tables after the first steps, of which each is in float32 and then rounded."""

    def answer(inputs: Inputs) -> Answer:
        tables = inputs.wte.copy(), inputs.positions().copy()
        states = [[np.zeros(table.shape, np.float32), np.zeros(table.shape, np.float32)] for table in tables]
        for t in range(1, CHECKED_STEPS + 1):
            dwte, dwpe = (np.zeros(table.shape, np.float32) for table in tables)
            add_in_order(dwte, dwpe, inputs.ids[t - 1], _wide(inputs.dout(t - 1)))
            for table, gradient, state in zip(tables, (dwte, dwpe), states, strict=True):
                w = _wide(table)
                UPDATES[name](w, gradient, state, t)
                table[...] = w
        return tables

    return answer


def _tensor(array: Array) -> Any:
    """The same memory; PyTorch knows the dtypes of NumPy, of which bfloat16 is none."""
    import torch

    return torch.from_numpy(array.view(np.int16)).view(getattr(torch, array.dtype.name))


def _array(tensor: Any, dtype: np.dtype[Any]) -> Array:
    import torch

    array: Array = tensor.detach().view(torch.int16).numpy().view(dtype)
    return array


@contender(OURS, "gather(out=)")
def _ours_lookup(inputs: Inputs) -> Call:
    out = inputs.buffer()
    return lambda k: gather(inputs.wte, inputs.ids[k], out=out)


@contender("torch", "index_select(out=)")
def _torch_lookup(inputs: Inputs) -> Call:
    import torch

    out, wte, ids = inputs.buffer(), _tensor(inputs.wte), [torch.from_numpy(ids.ravel()) for ids in inputs.ids]
    rows = _tensor(out).view(-1, out.shape[-1])

    def call(k: int) -> Array:
        torch.index_select(wte, 0, ids[k], out=rows)
        return out

    return call


@contender("torch", "F.embedding")
def _torch_embedding(inputs: Inputs) -> Call:
    import torch

    wte, ids, dtype = _tensor(inputs.wte), [torch.from_numpy(ids) for ids in inputs.ids], inputs.wte.dtype
    return lambda k: _array(torch.nn.functional.embedding(ids[k], wte), dtype)


@contender(OURS, "gather_add(out=)")
def _ours_forward(inputs: Inputs) -> Call:
    out = inputs.buffer()
    return lambda k: gather_add(inputs.wte, inputs.ids[k], inputs.wpe, out=out)


@contender("torch", "index_select(out=) + add_")
def _torch_forward(inputs: Inputs) -> Call:
    import torch

    out, wte, wpe = inputs.buffer(), _tensor(inputs.wte), _tensor(inputs.positions())
    ids, target = [torch.from_numpy(ids.ravel()) for ids in inputs.ids], _tensor(out)
    rows = target.view(-1, out.shape[-1])

    def call(k: int) -> Array:
        torch.index_select(wte, 0, ids[k], out=rows)
        target.add_(wpe)
        return out

    return call


@contender("torch", "F.embedding + wpe")
def _torch_sum(inputs: Inputs) -> Call:
    import torch

    wte, wpe, dtype = _tensor(inputs.wte), _tensor(inputs.positions()), inputs.wte.dtype
    ids = [torch.from_numpy(ids) for ids in inputs.ids]
    return lambda k: _array(torch.nn.functional.embedding(ids[k], wte) + wpe, dtype)


@contender(OURS, "embedding_bag(out=)")
def _ours_bag(inputs: Inputs) -> Call:
    out = np.full((len(inputs.ids[0]), inputs.wte.shape[1]), 0, inputs.wte.dtype)
    return lambda k: embedding_bag(inputs.wte, inputs.ids[k], mode="sum", out=out)


@contender("torch", "F.embedding_bag")
def _torch_bag(inputs: Inputs) -> Call:
    import torch

    wte, ids, dtype = _tensor(inputs.wte), [torch.from_numpy(ids) for ids in inputs.ids], inputs.wte.dtype
    return lambda k: _array(torch.nn.functional.embedding_bag(ids[k], wte, mode="sum"), dtype)


def _ours_step(name: str) -> Contender:
    def setup(inputs: Inputs) -> Ready:
        layer = TokenPositionEmbedding.from_arrays(inputs.wte.copy(), inputs.positions().copy())
        opt, out = getattr(optim, name)(layer, **options_of(name)), inputs.buffer()

        def step(k: int) -> None:
            layer(inputs.ids[k], out=out)
            layer.backward(inputs.dout(k), optimizer=opt)

        def tables() -> Answer:
            opt.flush()
            return layer.wte, layer.wpe

        return timed_steps(inputs, step, tables)

    return Contender(OURS, f"{name}, backward(optimizer=)", setup)


def _torch_step(name: str, way: str, sparse: bool, **options: Any) -> Contender:
    def setup(inputs: Inputs) -> Ready:
        import torch

        wte, wpe = (_tensor(table.copy()).requires_grad_() for table in (inputs.wte, inputs.positions()))
        opt = getattr(torch.optim, name)([wte, wpe], **options_of(name), **options)
        ids, douts = [torch.from_numpy(ids) for ids in inputs.ids], [_tensor(dout) for dout in inputs.douts]

        def step(k: int) -> None:
            opt.zero_grad()
            (torch.nn.functional.embedding(ids[k], wte, sparse=sparse) + wpe).backward(douts[k % len(douts)])
            opt.step()

        dtype = inputs.wte.dtype
        return timed_steps(inputs, step, lambda: (_array(wte, dtype), _array(wpe, dtype)))

    return Contender("torch", way, setup)


HALF_LOOKUP = (_ours_lookup, _torch_lookup, _torch_embedding)
HALF_FORWARD = (_ours_forward, _torch_forward, _torch_sum)
HALF_BAG = (_ours_bag, _torch_bag)
HALF_STEP = {
    "SGD": (_ours_step("SGD"), _torch_step("SGD", "SGD, sparse gradient", True)),
    "RowWiseAdagrad": (_ours_step("RowWiseAdagrad"),),
    "AdamW": (_ours_step("AdamW"), _torch_step("AdamW", "AdamW, dense gradient, fused", False, fused=True)),
}
