"""embedding and embedding_bag with the arguments, results and gradients of torch.nn.functional.

What fastembed has no table for (tensors on a GPU, of integers or complex numbers; subclasses of
tensors) and what is traced or transformed (torch.func, torch.jit.trace, dual tensors) goes to
PyTorch's own function, and so does what that function refuses.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch._C import _is_tracing
from torch.autograd.forward_ad import unpack_dual
from torch.compiler import is_compiling
from torch.overrides import has_torch_function

from ..._interactive import completion
from . import compiled, eager, ops
from .tables import FLOATS, bring_up_to_date, needs_own_look_up

__all__ = ["embedding", "embedding_bag"]
__dir__ = completion.names_of(__all__)

IDS = {torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8}

# A look-up of at most so many elements is PyTorch's own op, which has the same bits and the same
# gradient; bags without offsets, of which PyTorch checks all, are too. A Python function in the
# autograd graph costs 10 microseconds, and two threads gain less than that on rows of up to this
# size.
SMALL = 1 << 21
_EXACT = {torch.float32, torch.float64}  # whose gradients PyTorch sums in their own dtype


def embedding(
    input: torch.Tensor,
    weight: torch.Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> torch.Tensor:
    """Rows of a table by their ids: torch.nn.functional.embedding.

    Parameters
    ----------
    input : torch.Tensor of integers, shape S
    weight : torch.Tensor of shape (V, D)
    padding_idx : int, optional
        A row that gets no gradient; a negative one counts from the end.
    max_norm, norm_type : float
        Rows of a larger p-norm are scaled down to ``max_norm`` first, in ``weight``.
    scale_grad_by_freq : bool
        Whether the gradient of a row is divided by how often its id occurs.
    sparse : bool
        Whether the gradient is a sparse COO tensor.

    Returns
    -------
    torch.Tensor of shape S + (D,)

    Raises
    ------
    IndexError
        An id is out of range: the first one in C order is named. Nothing is changed.

    Examples
    --------
    >>> import torch
    >>> table = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    >>> embedding(torch.tensor([1, 0, 1]), table).sum().backward()
    >>> table.grad
    tensor([[1., 1.],
            [2., 2.]])
    """
    if is_compiling():
        return _compiled_embedding(input, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse)
    if max_norm is None and not scale_grad_by_freq and not (sparse and getattr(input, "ndim", 1) == 0):
        try:
            if _is_small(input, weight, sparse):
                if padding_idx is None and not sparse:
                    return torch.embedding(weight, input)
                return F.embedding(input, weight, padding_idx, sparse=sparse)
        except (AttributeError, IndexError, RuntimeError):
            pass  # below, ids of other dtypes are looked up, and the first one out of range is named
    if not (_is_ours(input, weight) and _is_row(padding_idx, weight)):
        bring_up_to_date(weight)
        return F.embedding(input, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse)
    if max_norm is not None:
        ops.renormalise(weight, input, max_norm, norm_type)
    if torch.is_grad_enabled() and weight.requires_grad:
        return eager.LookUp.apply(weight, input, ops.Options(_row(padding_idx, weight), scale_grad_by_freq), sparse)
    return ops.look_up(weight, input)


def embedding_bag(
    input: torch.Tensor,
    weight: torch.Tensor,
    offsets: torch.Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: torch.Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> torch.Tensor:
    """The sum, mean or maximum of each bag of rows: torch.nn.functional.embedding_bag.

    Parameters
    ----------
    input : torch.Tensor of integers, shape (N,), or (B, n) for bags of one length
    weight : torch.Tensor of shape (V, D)
    offsets : torch.Tensor of integers, shape (B,) or with include_last_offset (B + 1,)
        Where each bag begins in ids of one axis: from 0 on, not decreasing, at most N.
    mode : {"mean", "sum", "max"}
    per_sample_weights : torch.Tensor of the shape of ``input``, optional
        A factor for each row; with "sum" only.
    include_last_offset : bool
        Whether the last of the offsets is the end of the last bag.
    padding_idx : int, optional
        A row that is skipped, not counted and gets no gradient.
    max_norm, norm_type, scale_grad_by_freq, sparse
        As in `embedding`; the last two not with "max".

    Returns
    -------
    torch.Tensor of shape (B, D)

    Raises
    ------
    IndexError
        An id is out of range: the first one in C order is named. Nothing is changed.
    ValueError
        The offsets are none. Nothing is changed.

    Examples
    --------
    >>> import torch
    >>> table = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> embedding_bag(torch.tensor([0, 1, 1]), table, torch.tensor([0, 2]), mode="sum")
    tensor([[4., 6.],
            [3., 4.]])
    """
    in_graph = is_compiling()
    if offsets is None and max_norm is None and not (scale_grad_by_freq or in_graph):
        try:
            if _is_small(input, weight, sparse):
                return F.embedding_bag(
                    input, weight, mode=mode, sparse=sparse, per_sample_weights=per_sample_weights, padding_idx=padding_idx
                )
        except (IndexError, RuntimeError, ValueError):
            pass  # as in `embedding`
    ids, table, options = input, weight, ops.BagOptions(mode, include_last_offset and input.ndim == 1, None, scale_grad_by_freq)
    weights = () if per_sample_weights is None else (per_sample_weights,)
    is_ours = (_can_compile(table, ids, max_norm, sparse) if in_graph else _is_ours(ids, table, *weights)) and _are_bags(
        table, ids, offsets, per_sample_weights, mode, sparse or scale_grad_by_freq
    )
    if not (is_ours and _is_row(padding_idx, table)):
        if not in_graph:
            bring_up_to_date(table)
        return F.embedding_bag(
            ids, table, offsets, max_norm, norm_type, scale_grad_by_freq, mode, sparse, per_sample_weights,
            include_last_offset, padding_idx,
        )  # fmt: skip
    bags, options = ops.Bags(ids, offsets, per_sample_weights), options._replace(padding_idx=_row(padding_idx, table))
    if in_graph:
        return compiled.embedding_bag(table, bags, options)
    if max_norm is not None:
        ops.renormalise(table, ids, max_norm, norm_type)
    needs_grad = table.requires_grad or (per_sample_weights is not None and per_sample_weights.requires_grad)
    if torch.is_grad_enabled() and needs_grad:
        return eager.LookUpBags.apply(table, *bags, options, sparse)
    return ops.look_up_bags(table, bags, options)


def _compiled_embedding(
    ids: torch.Tensor,
    weight: torch.Tensor,
    padding_idx: int | None,
    max_norm: float | None,
    norm_type: float,
    scale_grad_by_freq: bool,
    sparse: bool,
) -> torch.Tensor:
    if _can_compile(weight, ids, max_norm, sparse) and _is_row(padding_idx, weight):
        return compiled.embedding(weight, ids, ops.Options(_row(padding_idx, weight), scale_grad_by_freq))
    return F.embedding(ids, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse)


def _is_table(weight: torch.Tensor, ids: torch.Tensor) -> bool:
    """Whether fastembed has such tables and ids."""
    is_table = weight.dtype in FLOATS and weight.layout is torch.strided and weight.ndim == 2 and isinstance(ids, torch.Tensor)
    return is_table and weight.device.type == "cpu" == ids.device.type and ids.dtype in IDS and ids.layout is torch.strided


def _can_compile(weight: torch.Tensor, ids: torch.Tensor, max_norm: float | None, sparse: bool) -> bool:
    """Whether there is an operator for graphs: with a dense gradient, and a table not written."""
    return _is_table(weight, ids) and max_norm is None and not sparse


def _is_ours(ids: torch.Tensor, weight: torch.Tensor, *weights: torch.Tensor) -> bool:
    """Whether a call outside a graph is fastembed's: nothing traces, transforms or overrides it."""
    if any(unpack_dual(tensor).tangent is not None for tensor in (weight, *weights)):  # forward derivatives
        return False
    is_watched = torch.jit.is_tracing() or has_torch_function((weight, ids, *weights)) or torch._C._len_torch_dispatch_stack()
    return not (is_watched or torch._C._are_functorch_transforms_active()) and _is_table(weight, ids)


def _is_small(ids: torch.Tensor, weight: torch.Tensor, sparse: bool) -> bool:
    """Whether PyTorch's own op, if it takes the tensors, does the same: for few elements.

    A call of a few ids takes so little that the cheapest tests come first: 64 ids (of int64) are
    short enough however many columns there are.
    """
    attributes = weight.__dict__
    if (attributes and needs_own_look_up(attributes, sparse)) or weight.dtype not in _EXACT or _is_tracing():
        return False
    return ids.nbytes <= SMALL >> 12 or ids.numel() * weight.shape[-1] <= SMALL


def _is_row(index: int | None, weight: torch.Tensor) -> bool:
    return index is None or -weight.shape[0] <= index < weight.shape[0]


def _row(index: int | None, weight: torch.Tensor) -> int | None:
    """A row of the table, counted from 0."""
    return index if index is None or index >= 0 else weight.shape[0] + index


def _are_bags(
    weight: torch.Tensor,
    ids: torch.Tensor,
    offsets: torch.Tensor | None,
    weights: torch.Tensor | None,
    mode: str,
    has_options_of_sums: bool,
) -> bool:
    """Whether the arguments fit together: PyTorch's function says what is wrong with others."""
    if not (ids.ndim == 2 if offsets is None else ids.ndim == offsets.ndim == 1 and offsets.dtype in IDS):
        return False
    if weights is not None and (mode != "sum" or weights.shape != ids.shape or weights.dtype is not weight.dtype):
        return False
    return mode in ("sum", "mean") or (mode == "max" and not has_options_of_sums)
