"""The argument checks of the array API: numbers, ids, shape, dtype, layout, overlap. One place, shared by both backends.

What is returned is ready for a kernel. Nothing is written here. What goes with ids in some calls: `_call_checks`.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import operator
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np

BOUNDS = ("raise", "wrap", "clip", "zero")
DTYPES = (np.dtype(np.float32), np.dtype(np.float64))
_ALLOWED = "float32, float64, float16 or bfloat16"
INT64_MAX = 2**63 - 1


def bounds(value: Any) -> str:
    """One of the four policies for ids outside a table."""
    return str(one_of("bounds", value, BOUNDS))


def is_half(given: np.dtype[Any]) -> bool:
    """Whether elements have 2 bytes: float16, or the bfloat16 of ml_dtypes."""
    return given.itemsize == 2 and given.name in ("float16", "bfloat16")


def arithmetic(given: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype that sums over a table of that dtype have, its gradients and what optimisers keep of it."""
    return DTYPES[0] if is_half(given) else given.newbyteorder("=")


def dtype(value: Any) -> np.dtype[Any]:
    """A table's dtype, in native byte order."""
    if isinstance(value, str) and value == "bfloat16":
        try:
            importlib.import_module("ml_dtypes")  # gives NumPy the name
        except ImportError:
            raise ImportError("bfloat16 needs ml_dtypes: pip install 'microgpt-fastembed[bfloat16]'") from None
    try:
        found = None if value is None else np.dtype(value)
    except TypeError:
        found = None
    if found is None or (found not in DTYPES and not (is_half(found) and found.isnative)):
        raise TypeError(f"dtype must be {_ALLOWED}, got {found or repr(value)}")
    return found


def size(name: str, value: Any) -> int:
    """A length: an integer, not negative, of 63 bits."""
    length = integer(name, value)
    if not 0 <= length <= INT64_MAX:
        raise ValueError(f"{name} must be from 0 to {INT64_MAX}, got {length}")
    return length


def pair(name: str, value: Any) -> tuple[Any, Any]:
    """Two values of any kind."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise TypeError(f"{name} must be two numbers, got {value!r}")
    return value[0], value[1]


def integer(name: str, value: Any) -> int:
    """An integer of any size, and no boolean."""
    if not isinstance(value, bool | np.bool_):
        with contextlib.suppress(TypeError):
            return operator.index(value)
    raise TypeError(f"{name} must be an integer, got {value!r}")


def whole(name: str, value: Any) -> int:
    """A number of steps, which may come as a float."""
    x = number(name, value, 0.0, 2.0**53)
    if not x.is_integer():
        raise ValueError(f"{name} must be a whole number, got {x}")
    return int(x)


def number(name: str, value: Any, low: float, high: float) -> float:
    """A float within limits, which are allowed themselves."""
    try:
        x = float(operator.pos(value))  # a string has no sign
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, got {value!r}") from None
    except OverflowError:
        x = float("inf")
    if not low <= x <= high:
        raise ValueError(f"{name} must be from {low} to {high}, got {x}")
    return x


def array_of(name: str, value: Any) -> np.ndarray[Any, Any]:
    """Any array_like as an array of no subclass: what a subclass says of itself need not be true of its memory."""
    ma = sys.modules.get("numpy.ma")  # np.ma would import it: in a child forked during another thread's import, for ever
    if isinstance(value, getattr(ma, "MaskedArray", ())):
        raise TypeError(f"{name} must not be a masked array: its mask would be ignored")
    if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
        return np.from_dlpack(value)
    try:
        return np.asarray(value)
    except ValueError as error:  # of lists that differ in length
        raise ValueError(f"{name} must have one shape: {error}") from None


def _holds_bool(value: Any) -> bool:
    """Whether there is a boolean, of any library, in nested sequences: NumPy takes them for 0 and 1 among integers."""
    kinds = set(map(type, value)) if isinstance(value, list | tuple) else {None}
    if kinds <= {int, list, tuple}:  # the usual ones, at less cost
        return kinds != {int} and any(_holds_bool(item) for item in value if type(item) is not int)
    items = np.array(value, dtype=object).ravel().tolist()
    odd = {kind for kind in set(map(type, items)) if kind is bool or not issubclass(kind, int | np.integer)}
    return bool(odd) and any(np.asarray(item).dtype.kind == "b" for item in items if type(item) in odd)


def ids(name: str, value: Any, n_rows: int, policy: str) -> np.ndarray[Any, Any]:
    """Ids of any integer type, as an array; arrays of such a type are not copied.

    Python integers beyond 64 bits are resolved by ``policy`` here: no array can carry them to a kernel.
    """
    return within_64_bits(name, integers(name, value), n_rows, policy)


def integers(name: str, value: Any) -> np.ndarray[Any, Any]:
    """Ids as an array of one of NumPy's integer types, or of Python's integers if no such type holds them all."""
    array = array_of(f"{name}s", value)
    is_array = hasattr(value, "__array__") or hasattr(value, "__dlpack__")
    if array.dtype.kind in "iu":
        if not (is_array or isinstance(value, int | range)) and _holds_bool(value):
            raise TypeError(f"{name}s must be integers, got booleans among them")
        return array
    if is_array:
        raise TypeError(f"{name}s must be integers, got an array of {array.dtype}")
    if array.size == 0:
        return array.astype(np.int64)
    exact = np.array(value, dtype=object)
    if not all(isinstance(i, int | np.integer) and not isinstance(i, bool | np.timedelta64) for i in exact.flat):
        raise TypeError(f"{name}s must be integers, got {array.dtype}")
    return exact


def within_64_bits(
    name: str, exact: np.ndarray[Any, Any], n_rows: int, policy: str, kept: np.ndarray[Any, Any] | None = None
) -> np.ndarray[Any, Any]:
    """What `integers` returned, or int64 that the policy treats alike; 0 at places that are not ``kept``."""
    if exact.dtype.kind in "iu":
        return exact if kept is None else np.where(kept, exact, exact.dtype.type(0))
    folded = np.zeros(exact.shape, np.int64)
    for index, value in np.ndenumerate(exact):
        i = int(value)
        if kept is not None and not kept[index]:
            continue
        if not 0 <= i < n_rows and (policy == "raise" or (n_rows == 0 and policy != "zero")):
            raise IndexError(f"{name} {i} at position {index} is out of range for a table of {n_rows} rows")
        folded[index] = i % n_rows if policy == "wrap" and n_rows > 0 else max(-1, min(i, INT64_MAX))
    return folded


def table(name: str, value: Any) -> np.ndarray[Any, Any]:
    """A table that is only read: two axes, one of the float dtypes, any layout, alignment and byte order."""
    array = array_of(name, value)
    if not _is_table_dtype(array.dtype):
        raise TypeError(f"{name} must be {_ALLOWED}, got {array.dtype}")
    if array.ndim != 2:
        raise ValueError(f"{name} must have 2 axes (rows, columns), got shape {array.shape}")
    return array


def _is_table_dtype(given: np.dtype[Any]) -> bool:
    return is_half(given) or (given.kind == "f" and given.newbyteorder("=") in DTYPES)


def row_mask(name: str, value: Any, n_rows: int) -> np.ndarray[Any, Any]:
    """Some rows of a table, given by number or as a mask, as a mask."""
    array = array_of(name, value)
    if array.dtype == bool:
        if array.shape != (n_rows,):
            raise ValueError(f"{name} must be a mask of shape ({n_rows},) or row numbers, got a mask of shape {array.shape}")
        return array.copy()
    numbers = ids(name.removesuffix("s"), value, n_rows, "raise")
    outside = np.flatnonzero((numbers < 0) | (numbers >= n_rows))
    if outside.size:
        raise IndexError(
            f"{name} {numbers.flat[outside[0]]} at position {outside[0]} is out of range for a table of {n_rows} rows"
        )
    mask = np.zeros(n_rows, bool)
    mask[numbers.reshape(-1).astype(np.int64)] = True
    return mask


def row_factors(name: str, value: Any, n_rows: int) -> np.ndarray[Any, Any]:
    """A finite number for each row of a table, not negative, as float64."""
    array = np.array(like(name, value, (n_rows,), np.dtype(np.float64)), np.float64)
    bad = np.flatnonzero(~(np.isfinite(array) & (array >= 0)))
    if bad.size:
        raise ValueError(f"{name} must be finite and not negative, got {array[bad[0]]} at position {bad[0]}")
    return array


def counts(name: str, value: Any, n_rows: int) -> np.ndarray[Any, Any]:
    """A number for each row of a table, not negative, as int64 of its own."""
    array = array_of(name, value)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got {array.dtype}")
    if array.shape != (n_rows,):
        raise ValueError(f"{name} must have shape ({n_rows},), got {array.shape}")
    bad = np.flatnonzero((array < 0) | (array > INT64_MAX))
    if bad.size:
        raise ValueError(f"{name} must be from 0 to {INT64_MAX}, got {array[bad[0]]} at position {bad[0]}")
    return np.array(array, np.int64)


def in_place(array: np.ndarray[Any, Any], to: np.dtype[Any]) -> bool:
    """Whether kernels can read the rows where they are: native, of that dtype, elements side by side. Any alignment will do."""
    side_by_side = array.size == 0 or array.shape[-1] == 1 or array.strides[-1] == to.itemsize
    return side_by_side and array.dtype == to


def castable(name: str, array: np.ndarray[Any, Any], to: np.dtype[Any]) -> None:
    if not (array.dtype.kind in "fiu" or is_half(array.dtype)) or not np.can_cast(array.dtype, to, "same_kind"):
        raise TypeError(f"{name} must be numbers that convert to {to}, got {array.dtype}")


def rows(name: str, value: Any, shape: tuple[int, ...], to: np.dtype[Any], *, broadcast: bool = False) -> np.ndarray[Any, Any]:
    """Rows for a kernel that only reads them, of exactly ``shape`` or broadcast to it, with the elements of a row side by side.

    Copied only where the dtype, the byte order or the last axis needs it; other axes are never expanded.
    """
    array = array_of(name, value)
    given = array.shape
    castable(name, array, to)
    if not broadcast and given != shape:
        raise ValueError(f"{name} must have shape {shape}, got {given}")
    try:
        if array.ndim == 0 or array.shape[-1] != shape[-1]:
            array = np.broadcast_to(array, (*array.shape[:-1], shape[-1]))
        if not in_place(array, to):
            array = np.ascontiguousarray(array, to)
        return np.broadcast_to(array, shape)
    except ValueError:
        raise ValueError(f"{name} of shape {given} do not broadcast to shape {shape}") from None


def like(name: str, value: Any, shape: tuple[int, ...], to: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """An array of any layout that NumPy reads, of exactly ``shape``, whose dtype converts to ``to``."""
    array = array_of(name, value)
    castable(name, array, to)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    return array


def copy_into(pairs: Iterable[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]) -> None:
    """Copy each pair's second array into its first, as if all were read before the first was written."""
    pairs = list(pairs)
    written = [target for target, _ in pairs]
    apart = [
        (target, source.copy() if any(np.may_share_memory(source, other) for other in written) else source)
        for target, source in pairs
    ]
    for target, source in apart:
        target[...] = source


def writable(name: str, value: Any, to: np.dtype[Any] | None = None) -> np.ndarray[Any, Any]:
    """An array that is written in place: native, aligned, of the exact dtype, with contiguous rows that do not overlap."""
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{name} is written in place and must be a NumPy array, got {type(value).__name__}")
    value = array_of(name, value)
    if not value.dtype.isnative or not (_is_table_dtype(value.dtype) if to is None else value.dtype == to):
        raise TypeError(f"{name} must be {_ALLOWED if to is None else to} in native byte order, got {value.dtype}")
    if not value.flags.writeable:
        raise ValueError(f"{name} is read-only")
    if not value.flags.aligned:
        raise ValueError(f"{name} is not aligned to its {value.itemsize}-byte elements")
    if value.ndim > 0 and not in_place(value, value.dtype):
        raise ValueError(f"{name} must have contiguous rows, got strides {value.strides} for {value.itemsize}-byte elements")
    if _overlaps_itself(value):
        raise ValueError(f"{name} must not overlap itself, got shape {value.shape} and strides {value.strides}")
    return value


def writable_table(name: str, value: Any, to: np.dtype[Any] | None = None, n_cols: int | None = None) -> np.ndarray[Any, Any]:
    array = writable(name, value, to)
    if array.ndim != 2:
        raise ValueError(f"{name} must have 2 axes (rows, columns), got shape {array.shape}")
    if n_cols is not None and array.shape[1] != n_cols:
        raise ValueError(f"{name} must have {n_cols} columns, got shape {array.shape}")
    return array


def output(value: Any, shape: tuple[int, ...], to: np.dtype[Any], **read: Any) -> np.ndarray[Any, Any]:
    """The array for a result: the memory of ``out``, checked and apart from what is read, or a new one."""
    if value is None:
        return np.empty(shape, to)
    array = writable("out", value, to)
    if array.shape != shape:
        raise ValueError(f"out must have shape {shape}, got {array.shape}")
    apart("out", array, **read)
    return array


def _overlaps_itself(array: np.ndarray[Any, Any]) -> bool:
    """Whether two elements may share memory: True unless every axis steps over all that the smaller steps span."""
    span = array.itemsize
    for stride, length in sorted((abs(s), n) for s, n in zip(array.strides, array.shape, strict=True) if n > 1):
        if stride < span:
            return array.size > 0
        span += stride * (length - 1)
    return False


def apart(name: str, written: np.ndarray[Any, Any], **others: Any) -> None:
    """ValueError if an array that is written shares memory with another argument, of any kind; lists and numbers have none."""
    for other_name, given in others.items():
        if given is None or isinstance(given, list | tuple | range | int):
            continue
        other = array_of(other_name, given)
        if not np.may_share_memory(written, other):
            continue
        try:
            shared = np.shares_memory(written, other, max_work=100_000)  # type: ignore[arg-type]
        except np.exceptions.TooHardError:
            shared = True
        if shared:
            raise ValueError(f"{name} must not overlap {other_name}")


def matrix_shape(value: Any) -> tuple[int, int]:
    """The shape of a table: two lengths."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise ValueError(f"shape must be two lengths, got {value!r:.80}")
    return size("shape[0]", value[0]), size("shape[1]", value[1])


def row_gradient(given_ids: Any, given_rows: Any, shape: tuple[int, int]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The parts of a row-sparse gradient: sorted distinct ids, as int64, and a row of float32 or float64 for each."""
    ids, rows = array_of("ids of the gradient", given_ids), array_of("rows of the gradient", given_rows)
    if ids.ndim != 1 or (ids.dtype.kind not in "iu" and ids.size):
        raise ValueError(f"ids of a gradient must be integers of 1 axis, got {ids.dtype} of shape {ids.shape}")
    if len(ids) and (ids[0] < 0 or ids[-1] >= shape[0] or (ids[1:] <= ids[:-1]).any()):
        raise ValueError(f"ids of a gradient must be sorted, distinct and within the {shape[0]} rows of the table")
    if rows.dtype not in DTYPES:
        raise TypeError(f"rows of the gradient must be float32 or float64, got {rows.dtype}")
    if rows.shape != (len(ids), shape[1]):
        raise ValueError(f"rows of the gradient must have shape {(len(ids), shape[1])}, got {rows.shape}")
    return np.ascontiguousarray(ids, np.int64), rows


# Options of the optimisers

_LARGEST = 3.4028234663852886e38  # of float32; np.finfo takes a millisecond of the import
_SMALLEST = 1.1754943508222875e-38  # above 0 in every dtype: without it a row that was never touched gives 0 / 0


def non_negative(name: str, value: Any) -> float:
    return number(name, value, 0.0, _LARGEST)


def eps(name: str, value: Any) -> float:
    return number(name, value, _SMALLEST, _LARGEST)


def flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def betas(name: str, value: Any) -> tuple[float, float]:
    first, second = pair(name, value)
    below_one = math.nextafter(1.0, 0.0)
    return number(f"{name}[0]", first, 0.0, below_one), number(f"{name}[1]", second, 0.0, below_one)


def weight_decay_mode(name: str, value: Any) -> str:
    if value not in ("l2", "decoupled"):
        raise ValueError(f"{name} must be l2 or decoupled, got {value!r}")
    return str(value)


def one_of(name: str, value: Any, allowed: tuple[Any, ...]) -> Any:
    """A value out of a few, by equality."""
    if not (value is None or isinstance(value, str)) or value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}; got {value!r}")
    return allowed[allowed.index(value)]  # of str itself, whatever subclass was given


def some(names: list[str]) -> str:
    """The first few of many names."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") if names else "nothing"
