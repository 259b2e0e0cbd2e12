"""Tables of fastembed that share the memory of tensors, and who moves their rows.

Two attributes of a parameter hold it. A copy of the parameter (deepcopy, pickle) has neither.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from typing import Any

import numpy as np
import torch

from ... import Embedding, use_large_pages

# The dtypes of tables, and the NumPy dtype that reads each one's bytes.
FLOATS = {torch.float32: np.float32, torch.float64: np.float64, torch.float16: np.float16, torch.bfloat16: None}


class _NotCopied:
    """An attribute of a parameter that a pickle replaces by an empty dict, which is not used."""

    def __reduce__(self) -> tuple[Any, ...]:
        return OrderedDict, ()  # one of the few names that torch.load(weights_only=True) admits


class _Shared(_NotCopied):
    """The table of a parameter, and what the parameter was like when it was made."""

    def __init__(self, key: tuple[Any, ...], table: Embedding) -> None:
        self.key = key
        self.table = table


class _Owner(_NotCopied):
    """The optimiser that takes row-sparse gradients of a parameter, as long as it lives."""

    def __init__(self, optimizer: object) -> None:
        self._optimizer = weakref.ref(optimizer)
        self.is_looked_up = False

    def __bool__(self) -> bool:
        return self._optimizer() is not None


def array_of(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """The elements of a tensor on the CPU as an array of the same memory; bfloat16 by its bytes."""
    tensor = tensor.detach()
    if tensor.dtype is torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(_bfloat16())
    return tensor.numpy()


def tensor_of(array: np.ndarray[Any, Any]) -> torch.Tensor:
    """The elements of a writable array as a tensor of the same memory; bfloat16 by its bytes."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _bfloat16() -> np.dtype[Any]:
    try:
        import ml_dtypes
    except ImportError as error:
        raise ImportError("tables of bfloat16 need ml_dtypes: pip install 'microgpt-fastembed[torch]'") from error
    return np.dtype(ml_dtypes.bfloat16)


def _key(weight: torch.Tensor) -> tuple[Any, ...]:
    """What a table of a tensor depends on."""
    return weight.data_ptr(), weight.dtype, weight.shape, weight.stride()


def table_of(weight: torch.Tensor) -> Embedding:
    """The table that shares a tensor's memory: one and the same as long as that is the same.

    Parameters
    ----------
    weight : torch.Tensor of shape (V, D)
        On the CPU, float32, float64, float16 or bfloat16. The table is kept as an attribute of it,
        and made again when its memory, shape or dtype has changed (``weight.data = ...``). Updates
        that were pending in the old table are dropped with the old values.

    Returns
    -------
    fastembed.Embedding

    Raises
    ------
    TypeError
        It is no tensor on the CPU of one of those dtypes.
    ValueError
        It does not have two axes.

    Examples
    --------
    >>> import torch
    >>> weight = torch.nn.Parameter(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    >>> table = table_of(weight)
    >>> table.weight[1] = 5
    >>> weight[1].tolist(), table_of(weight) is table
    ([5.0, 5.0], True)
    """
    table = current_table(weight)
    if table is not None:
        return table
    if weight.device.type != "cpu" or weight.dtype not in FLOATS or weight.layout is not torch.strided:
        raise TypeError(f"a table must be a dense tensor of floats on the CPU, got {weight.dtype} on {weight.device}")
    shared = _Shared(_key(weight), Embedding.from_pretrained(array_of(weight)).eval())
    weight._fastembed_table = shared
    return shared.table


def current_table(weight: torch.Tensor) -> Embedding | None:
    """The table that `table_of` made, if the tensor's memory, shape and dtype have not changed."""
    shared = getattr(weight, "_fastembed_table", None)
    if type(shared) is not _Shared:
        return None
    if shared.key == _key(weight):
        return shared.table
    del weight._fastembed_table  # it holds the old memory
    return None


def needs_own_look_up(attributes: dict[str, Any], sparse: bool) -> bool:
    """Whether PyTorch's own look-up would not do for a tensor with these attributes.

    Its rows may have updates pending, or its gradient would be dense.
    """
    return "_fastembed_table" in attributes or (not sparse and "_fastembed_rows" in attributes)


def bring_up_to_date(weight: torch.Tensor) -> None:
    """Apply the updates that rows of the tensor's table, if there is one, still have pending."""
    table = current_table(weight)
    if table is not None:
        table.flush()


def in_large_pages(weight: torch.Tensor) -> None:
    """Ask the system for large pages for a table's memory, for which PyTorch does not ask."""
    is_real = type(weight) in (torch.Tensor, torch.nn.Parameter) and weight.device.type == "cpu"
    if is_real and weight.layout is torch.strided and weight.is_contiguous() and not torch._C._len_torch_dispatch_stack():
        use_large_pages(weight.detach().reshape(-1).view(torch.uint8).numpy())


def own_rows(weight: torch.Tensor, optimizer: object) -> None:
    """Mark a parameter: as long as that optimiser lives, backwards give row-sparse gradients."""
    in_large_pages(weight)
    weight._fastembed_rows = _Owner(optimizer)


def note_look_up(weight: torch.Tensor) -> None:
    """Note that a look-up with a gradient, which applies pending updates, has read a parameter."""
    owner = getattr(weight, "_fastembed_rows", None)
    if type(owner) is _Owner:
        owner.is_looked_up = True


def is_looked_up(weight: torch.Tensor) -> bool:
    """Whether look-ups of ours have read a parameter since an optimiser took it.

    Otherwise other modules read it, which see only what is in its memory: no row of its table may
    have updates pending after a step.
    """
    return bool(getattr(getattr(weight, "_fastembed_rows", None), "is_looked_up", False))


def owned_rows(weight: torch.Tensor) -> bool:
    """Whether a backward gives a row-sparse gradient, also where ``sparse=False``."""
    return bool(getattr(weight, "_fastembed_rows", False))
