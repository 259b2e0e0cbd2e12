"""Checks of arrays: dtype, shape, layout, alignment, overlap of output and input.

Roundings ignore the caller's ``np.seterr``: they overflow and underflow without a word.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np

from .._float_env import errors_ignored
from .._memory import memory_errors
from .._messages import counted, limit, shown
from .options import INT64_MAX, refuse_masked, size

DTYPES = (np.dtype(np.float32), np.dtype(np.float64))
_ALLOWED = "float32, float64, float16 or bfloat16"


def is_half(given: np.dtype[Any]) -> bool:
    """Whether it is a dtype of half precision: float16, or the bfloat16 of ml_dtypes."""
    return given.itemsize == 2 and given.name in ("float16", "bfloat16")


def native(given: np.dtype[Any]) -> np.dtype[Any]:
    """A dtype in native byte order."""
    return given if given.isnative else given.newbyteorder("=")


def arithmetic_dtype(given: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of sums, gradients and optimiser state of a table: float32 for half precision."""
    return DTYPES[0] if is_half(given) else native(given)


def dtype(value: Any) -> np.dtype[Any]:
    """A table's dtype, in native byte order."""
    if isinstance(value, str) and value == "bfloat16":
        try:
            importlib.import_module("ml_dtypes")  # registers the name with NumPy
        except ImportError:
            raise ImportError("bfloat16 needs ml_dtypes: pip install 'microgpt-fastembed[bfloat16]'") from None
    try:
        found = None if value is None else np.dtype(value)
    except MemoryError:
        raise
    except Exception:  # of what is no dtype NumPy says so in many ways
        found = None
    if found is None or (found not in DTYPES and not (is_half(found) and found.isnative)):
        raise TypeError(f"dtype must be {_ALLOWED}, got {shown(value) if found is None else shown(found, str)}")
    return found


def result_dtype(value: Any, of_table: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of the results of a table: its own by default, or that of its arithmetic."""
    own, arithmetic = native(of_table), arithmetic_dtype(of_table)
    found = own if value is None else dtype(value)
    if found not in (own, arithmetic):
        raise TypeError(f"out_dtype must be {own}{'' if own == arithmetic else f' or {arithmetic}'}, got {found}")
    return found


def as_array(name: str, value: Any) -> np.ndarray[Any, Any]:
    """Any array_like as a base-class ndarray: a subclass may misreport its memory.

    What offers its memory is not copied.
    """
    if type(value) is np.ndarray:
        return value
    refuse_masked(name, value)
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value)
    if not is_foreign(value):
        try:
            return np.asarray(value)
        except ValueError as error:  # nested lists that differ in length
            raise ValueError(f"{name} must have one shape{_odd_one(value) or f': {shown(error, str, 200)}'}") from None
    try:
        return _exchanged(value)
    except MemoryError:
        raise
    except Exception as error:  # each library has its own
        kind = type(value).__name__
        raise TypeError(f"{name} cannot be read as an array, got a {kind}: {shown(error, str, 200)}") from None


def _odd_one(value: Any) -> str:
    """Where nested lists have other lengths than the first of their level, for errors; or ""."""
    level: list[tuple[tuple[int, ...], Any]] = [((), value)]
    while level and len(level[0][0]) < 64:  # the most axes of NumPy: a list may hold itself
        (first, _), n_first = level[0], _length(level[0][1])
        for place, item in level:
            if (n := _length(item)) != n_first:
                return f", got {_amount(n_first)} at position {first} and {_amount(n)} at position {place}"
        level = [] if n_first is None else [((*place, k), part) for place, item in level for k, part in enumerate(item)]
    return ""


def _length(value: Any) -> int | None:
    return len(value) if isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim) else None


def _amount(n: int | None) -> str:
    return "no list" if n is None else counted(n, "element")


def is_foreign(value: Any) -> bool:
    """Whether it is an array, of NumPy or another library, that says so by a method."""
    return any(hasattr(value, method) for method in ("__array__", "__dlpack__", "to_numpy"))


def _exchanged(value: Any) -> np.ndarray[Any, Any]:
    """An array of another library, by the first of its methods that gives one."""
    if getattr(value, "requires_grad", False) is True:
        value = value.detach()  # a PyTorch tensor: what is computed here has no part in its graph
    if str(getattr(value, "dtype", None)) == "torch.bfloat16":  # PyTorch gives its bytes alone
        return np.asarray(value.view(sys.modules["torch"].int16)).view(dtype("bfloat16"))
    if hasattr(value, "__array__"):
        return np.asarray(value)
    return np.from_dlpack(value) if hasattr(value, "__dlpack__") else np.asarray(value.to_numpy())


def table(name: str, value: Any) -> np.ndarray[Any, Any]:
    """A table that is only read: two axes, a float dtype, any layout, alignment and byte order."""
    array = as_array(name, value)
    if not _is_table_dtype(array.dtype):
        raise TypeError(f"{name} must be {_ALLOWED}, got {_no_numbers(value) or shown(array.dtype, str)}")
    if array.ndim != 2:
        raise ValueError(f"{name} must have 2 axes (rows, columns), got shape {array.shape}")
    return array


def _no_numbers(value: Any) -> str:
    """What was given in the place of a table that is no array, and what to give; or ""."""
    if isinstance(value, str | os.PathLike):
        return f"a path, {shown(os.fspath(value))}: fastembed.load_vectors and fastembed.load read files"
    if isinstance(value, list | tuple) or is_foreign(value):
        return ""
    instead = ": give its weight" if hasattr(value, "weight") else ""
    return f"an object of the class {type(value).__qualname__}{instead}"


def _is_table_dtype(given: np.dtype[Any]) -> bool:
    return is_half(given) or (given.kind == "f" and native(given) in DTYPES)


def convertible_table(name: str, value: Any, to: np.dtype[Any], n_cols: int) -> np.ndarray[Any, Any]:
    """A read-only table of ``n_cols`` columns, of any dtype that converts to ``to``, row by row."""
    array = as_array(name, value)
    check_castable(name, array, to)
    if array.ndim != 2 or array.shape[1] != n_cols:
        raise ValueError(f"{name} must have shape (rows, {n_cols}), got {array.shape}")
    return array


def packed_table(name: str, value: Any, width: int) -> np.ndarray[Any, Any]:
    """A packed table, read only: uint8, ``width`` contiguous bytes a row; any row stride."""
    array = as_array(name, value)
    if array.dtype != np.uint8:
        raise TypeError(f"{name} must be uint8, got {shown(array.dtype, str)}")
    if array.ndim != 2 or array.shape[1] != width:
        raise ValueError(f"{name} must have shape (rows, {width}) for that embedding_dim and format, got {array.shape}")
    if not is_readable_in_place(array, array.dtype):
        raise ValueError(f"{name} must have contiguous rows, got strides {shown(array.strides)}")
    return array


def is_readable_in_place(array: np.ndarray[Any, Any], to: np.dtype[Any]) -> bool:
    """Whether kernels can read rows uncopied: contiguous and of dtype ``to``, at any alignment."""
    is_contiguous = array.size == 0 or array.shape[-1] == 1 or array.strides[-1] == to.itemsize
    return is_contiguous and array.dtype == to


@errors_ignored
def rounded(array: np.ndarray[Any, Any], to: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """The array itself if it is of dtype ``to``, else a copy that is rounded to it."""
    return array.astype(to, copy=False)


@errors_ignored
def contiguous(array: np.ndarray[Any, Any], to: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """The array itself if it is contiguous and of dtype ``to``, else a copy that is."""
    return np.ascontiguousarray(array, to)


def check_castable(name: str, array: np.ndarray[Any, Any], to: np.dtype[Any]) -> None:
    """TypeError unless the array holds numbers that convert to ``to`` within their kind."""
    if not (array.dtype.kind in "fiu" or is_half(array.dtype)) or not np.can_cast(array.dtype, to, "same_kind"):
        raise TypeError(f"{name} must be numbers that convert to {to}, got {shown(array.dtype, str)}")


def rows(name: str, value: Any, shape: tuple[int, ...], to: np.dtype[Any], *, broadcast: bool = False) -> np.ndarray[Any, Any]:
    """Contiguous rows for a kernel that only reads them, of exactly ``shape`` or broadcast to it.

    Copied only if dtype, byte order or the last axis require it; broadcast axes stay unexpanded.
    """
    array = as_array(name, value)
    given = array.shape
    check_castable(name, array, to)
    if not broadcast and given != shape:
        raise ValueError(f"{name} must have shape {shape}, got {given}")
    try:
        if array.ndim == 0 or array.shape[-1] != shape[-1]:
            array = np.broadcast_to(array, (*array.shape[:-1], shape[-1]))
        return np.broadcast_to(array if is_readable_in_place(array, to) else contiguous(array, to), shape)
    except ValueError:
        raise ValueError(f"{name} of shape {given} cannot be broadcast to shape {shape}") from None


def rows_for(
    name: str, value: Any, shape: tuple[int, ...], of_table: np.dtype[Any], *, broadcast: bool = False
) -> np.ndarray[Any, Any]:
    """`rows` for sums in a table of that dtype: of its own as they are, else of its arithmetic."""
    array = as_array(name, value)
    to = array.dtype if is_half(of_table) and array.dtype == of_table else arithmetic_dtype(of_table)
    return rows(name, array, shape, to, broadcast=broadcast)


def convertible_array(name: str, value: Any, shape: tuple[int, ...], to: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """An array of any layout, of exactly ``shape``, whose dtype converts to ``to``."""
    array = as_array(name, value)
    check_castable(name, array, to)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    return array


def sources_for(
    pairs: Iterable[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]],
) -> list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """Each pair's first array, and its second as a contiguous array of the first one's dtype.

    The second one shares no memory with any first one: all can be read before any is written.
    """
    pairs = list(pairs)
    written = [target for target, _ in pairs]
    sources = []
    for target, given in pairs:
        source = contiguous(given, target.dtype).reshape(target.shape)
        is_shared = any(np.may_share_memory(source, other) for other in written)
        sources.append((target, source.copy() if is_shared else source))
    return sources


def finite_rows(name: str, vectors: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The vectors; ValueError if one has an infinity or NaN."""
    bad = np.argwhere(~np.isfinite(vectors))
    if len(bad):
        position, value = tuple(int(i) for i in bad[0][:-1]), vectors[tuple(bad[0])]
        raise ValueError(f"{name} at position {position} must be finite in {vectors.dtype}, got {value}")
    return vectors


def query_vectors(value: Any, width: int, to: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Query vectors, shape S + (width,): contiguous, converted to ``to``, finite."""
    array = as_array("queries", value)
    return finite_rows("query", contiguous(rows("queries", array, (*array.shape[:-1], width), to), to))


def writable(name: str, value: Any, to: np.dtype[Any] | None = None) -> np.ndarray[Any, Any]:
    """An array that is written in place: native, aligned, of the exact dtype, contiguous rows."""
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{name} is written in place and must be a NumPy array, got {type(value).__name__}")
    value = as_array(name, value)
    if not value.dtype.isnative or not (_is_table_dtype(value.dtype) if to is None else value.dtype == to):
        raise TypeError(f"{name} must be {_ALLOWED if to is None else to} in native byte order, got {shown(value.dtype, str)}")
    if not value.flags.writeable:
        raise ValueError(f"{name} is read-only")
    if not value.flags.aligned:
        raise ValueError(f"{name} is not aligned to its {value.itemsize}-byte elements")
    if value.ndim > 0 and not is_readable_in_place(value, value.dtype):
        raise ValueError(
            f"{name} must have contiguous rows, got strides {shown(value.strides)} for {value.itemsize}-byte elements"
        )
    if _overlaps_itself(value):
        raise ValueError(f"{name} must not overlap itself, got shape {value.shape} and strides {shown(value.strides)}")
    return value


def writable_table(name: str, value: Any, to: np.dtype[Any] | None = None, n_cols: int | None = None) -> np.ndarray[Any, Any]:
    """A `writable` array of two axes, with ``n_cols`` columns if given."""
    array = writable(name, value, to)
    if array.ndim != 2:
        raise ValueError(f"{name} must have 2 axes (rows, columns), got shape {array.shape}")
    if n_cols is not None and array.shape[1] != n_cols:
        raise ValueError(f"{name} must have {n_cols} columns, got shape {array.shape}")
    return array


def in_place(name: str, value: Any, own: np.ndarray[Any, Any] | None) -> None:
    """AttributeError unless an attribute is set to the array that it is.

    Python does that after an operator in place: ``layer.weight -= x`` gets the array, subtracts
    from it, and sets the attribute to it.
    """
    if value is own:
        return
    if own is None or not isinstance(value, np.ndarray) or _place(value) != _place(own):
        raise AttributeError(f"{name} stays the array that it is: its values are replaced by {name}[...] = values")


def _place(array: np.ndarray[Any, Any]) -> tuple[Any, ...]:
    return array.__array_interface__["data"][0], array.shape, array.strides, array.dtype


def output(value: Any, shape: tuple[int, ...], to: np.dtype[Any], **read: Any) -> np.ndarray[Any, Any]:
    """The array for a result: a new one or ``out``, which must not overlap the inputs ``read``."""
    if value is None:
        return np.empty(shape, to)
    array = writable("out", value, to)
    if array.shape != shape:
        raise ValueError(f"out must have shape {shape}, got {array.shape}")
    check_no_overlap("out", array, **read)
    return array


def _overlaps_itself(array: np.ndarray[Any, Any]) -> bool:
    """Whether two elements may share memory: if a stride is below the span of the smaller ones."""
    if array.flags.c_contiguous:
        return False
    span = array.itemsize
    for stride, length in sorted((abs(s), n) for s, n in zip(array.strides, array.shape, strict=True) if n > 1):
        if stride < span:
            return array.size > 0
        span += stride * (length - 1)
    return False


def check_no_overlap(name: str, written: np.ndarray[Any, Any], **others: Any) -> None:
    """ValueError if an array that is written shares memory with another argument."""
    for other_name, given in others.items():
        if given is None or isinstance(given, list | tuple | range | int):  # have no memory to share
            continue
        other = as_array(other_name, given)
        if not np.may_share_memory(written, other):
            continue
        try:
            shared = np.shares_memory(written, other, max_work=100_000)  # type: ignore[arg-type]
        except np.exceptions.TooHardError:
            shared = True
        if shared:
            raise ValueError(f"{name} must not overlap {other_name}")


def matrix_shape(value: Any) -> tuple[int, int]:
    """The shape of a table, (rows, columns)."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise ValueError(f"shape must be two lengths, got {shown(value)}")
    return size("shape[0]", value[0]), size("shape[1]", value[1])


def counts(name: str, value: Any, n_rows: int) -> np.ndarray[Any, Any]:
    """A non-negative integer for each row of a table: a new int64 array."""
    array = as_array(name, value)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got {shown(array.dtype, str)}")
    if array.shape != (n_rows,):
        raise ValueError(f"{name} must have shape ({n_rows},), got {array.shape}")
    bad = np.flatnonzero((array < 0) | (array > INT64_MAX))
    if bad.size:
        raise ValueError(f"{name} must be from 0 to {limit(INT64_MAX)}, got {array[bad[0]]} at position {bad[0]}")
    return np.array(array, np.int64)


def row_factors(name: str, value: Any, n_rows: int) -> np.ndarray[Any, Any]:
    """A finite, non-negative number for each row of a table: a new float64 array."""
    array = np.array(rounded(convertible_array(name, value, (n_rows,), DTYPES[1]), DTYPES[1]))
    bad = np.flatnonzero(~(np.isfinite(array) & (array >= 0)))
    if bad.size:
        raise ValueError(f"{name} must be finite and not negative, got {array[bad[0]]} at position {bad[0]}")
    return array


def generator(value: Any) -> np.random.Generator:
    """A random generator from a generator, a seed, or None for fresh entropy."""
    if isinstance(value, list | tuple | np.ndarray):
        # NumPy before 2.5 goes through nested seeds without end if one is a numpy.matrix, which
        # crashes; later versions refuse them.
        value = as_array("rng", value)
        value = value.reshape(-1) if value.ndim > 1 else value
    try:
        with memory_errors():
            return np.random.default_rng(value)
    except MemoryError:
        raise
    except Exception as error:
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(f"rng must be a generator, a seed or None, got {shown(value)}: {shown(error, str, 200)}") from None
