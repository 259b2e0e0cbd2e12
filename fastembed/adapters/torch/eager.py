"""The look-ups of `ops` with gradients, for calls that are not compiled."""

from __future__ import annotations

import functools
import sys
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from . import ops
from .tables import note_look_up, owned_rows


class LookUp(torch.autograd.Function):
    """Rows of a table by their ids."""

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, ids: torch.Tensor, options: ops.Options, sparse: bool) -> torch.Tensor:
        note_look_up(weight)
        ctx.save_for_backward(ids)
        ctx.weight, ctx.options, ctx.sparse = weight, options, sparse
        return ops.look_up(weight, ids)

    @staticmethod
    def backward(ctx: Any, dout: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        (ids,) = ctx.saved_tensors
        return _gradient(dout, ids, ctx.weight, ctx.options, ctx.sparse), None, None, None


def _gradient(dout: torch.Tensor, ids: torch.Tensor, weight: torch.Tensor, options: ops.Options, sparse: bool) -> torch.Tensor:
    """The gradient of a table: dense; or sparse, as PyTorch's, whose rows are those of ``dout``."""
    if torch.is_grad_enabled():  # create_graph: PyTorch's op has a gradient itself
        return _pytorchs_gradient(dout, ids, weight, options, sparse)
    if not (sparse or owned_rows(weight)):
        return ops.dense_gradient(dout, ids, len(weight), options)
    if options.scale_grad_by_freq or ids.ndim == 0 or dout.dtype not in _EXACT:
        return ops.as_sparse(ops.row_gradient(dout, ids, len(weight), options), dout.dtype)
    # The sum is left to who reads it, if those rows stay as they are until then. Else they are
    # copied, or summed where that moves fewer bytes.
    if owned_rows(weight) and (_is_held_by_others(dout) or not dout.is_contiguous()):
        if dout.numel() > _LARGE:
            return ops.as_sparse(ops.row_gradient(dout, ids, len(weight), options), dout.dtype)
        dout = dout.clone(memory_format=torch.contiguous_format)
    return _pytorchs_gradient(dout, ids, weight, options, sparse=True)


def _is_held_by_others(dout: torch.Tensor) -> bool:
    """Whether the argument of a backward, or its memory, is referred to from elsewhere.

    A view, as a reshape in a model makes one of its own gradient, holds the tensor it is of.
    """
    base = dout._base
    if base is not None and _n_holders(base) > _n_holders_of_base():
        return True
    storage = dout.untyped_storage()  # a reference to the memory, beside those of `dout` and of its base
    return dout._use_count() > 1 or torch._C._storage_Use_Count(storage._cdata) > (2 if base is None else 3)


def _n_holders(tensor: torch.Tensor) -> int:
    """The number of references to a tensor, in C++ and in Python."""
    return tensor._use_count() + sys.getrefcount(tensor)


@functools.cache
def _n_holders_of_base() -> int:
    """That of the base of a view which nothing else refers to; it depends on PyTorch's version."""
    with torch.inference_mode(False):
        view = torch.empty(1).view(1)
    base = view._base
    return _n_holders(base)


_LARGE = 1 << 16  # elements: copying fewer is cheaper than the fixed cost of summing
_EXACT = {torch.float32, torch.float64}  # rows of half precision are summed in float32


def _pytorchs_gradient(
    dout: torch.Tensor, ids: torch.Tensor, weight: torch.Tensor, options: ops.Options, sparse: bool
) -> torch.Tensor:
    padding_idx = -1 if options.padding_idx is None else options.padding_idx
    op = torch.ops.aten.embedding_backward
    return op(dout, ids.long(), len(weight), padding_idx, options.scale_grad_by_freq, sparse)


class LookUpBags(torch.autograd.Function):
    """One row for each bag of ids."""

    @staticmethod
    def forward(
        ctx: Any,
        weight: torch.Tensor,
        ids: torch.Tensor,
        offsets: torch.Tensor | None,
        weights: torch.Tensor | None,
        options: ops.BagOptions,
        sparse: bool,
    ) -> torch.Tensor:
        note_look_up(weight)
        reads_table = options.mode == "max" or (weights is not None and weights.requires_grad)
        ctx.save_for_backward(ids, offsets, weights, weight if reads_table else None)
        ctx.weight, ctx.options, ctx.sparse = weight, options, sparse
        return ops.look_up_bags(weight, ops.Bags(ids, offsets, weights), options)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        ids, offsets, weights, _ = ctx.saved_tensors  # of a table that has changed since, PyTorch raises an error here
        grad, dweights = ops.bag_gradient(dout, ctx.weight, ops.Bags(ids, offsets, weights), ctx.options)
        as_tensor = ops.as_sparse if ctx.sparse or owned_rows(ctx.weight) else ops.as_dense
        return as_tensor(grad, dout.dtype), None, None, dweights, None, None
