"""Every argument check of the array API: shape, dtype, layout, overlap. One place, shared by both backends.

What is returned is ready for a kernel. Nothing is written here.
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
_INT64_MAX = 2**63 - 1


def bounds(value: Any) -> str:
    """One of the four policies for ids outside a table."""
    if not isinstance(value, str) or value not in BOUNDS:
        raise ValueError(f"bounds must be one of {', '.join(BOUNDS)}; got {value!r}")
    return BOUNDS[BOUNDS.index(value)]  # of str itself, whatever subclass was given


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
    if not 0 <= length <= _INT64_MAX:
        raise ValueError(f"{name} must be from 0 to {_INT64_MAX}, got {length}")
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


def _array(name: str, value: Any) -> np.ndarray[Any, Any]:
    """Any array_like as an array of no subclass: what a subclass says of itself need not be true of its memory."""
    ma = sys.modules.get("numpy.ma")  # np.ma would import it: in a child forked during another thread's import, for ever
    if isinstance(value, getattr(ma, "MaskedArray", ())):
        raise TypeError(f"{name} must not be a masked array: its mask would be ignored")
    if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
        return np.from_dlpack(value)
    return np.asarray(value)


def _is_or_holds_bool(value: Any) -> bool:
    """Whether there is a boolean in a nested list: NumPy takes them for 0 and 1 among integers."""
    if isinstance(value, list | tuple):
        kinds = set(map(type, value))
        return any(issubclass(kind, bool | np.bool_) for kind in kinds) or (
            any(issubclass(kind, list | tuple | np.ndarray) for kind in kinds) and any(map(_is_or_holds_bool, value))
        )
    return isinstance(value, bool | np.bool_) or (isinstance(value, np.ndarray) and value.dtype.kind == "b")


def ids(name: str, value: Any, n_rows: int, policy: str) -> np.ndarray[Any, Any]:
    """Ids of any integer type, as an array; arrays of such a type are not copied.

    Python integers beyond 64 bits are resolved by ``policy`` here: no array can carry them to a kernel.
    """
    array = _integers(name, value)
    return array if array.dtype.kind in "iu" else _fold(name, array, n_rows, policy)


def _integers(name: str, value: Any) -> np.ndarray[Any, Any]:
    """Ids as an array of one of NumPy's integer types, or of Python's integers if no such type holds them all."""
    array = _array(f"{name}s", value)
    if array.dtype.kind in "iu":
        if _is_or_holds_bool(value):
            raise TypeError(f"{name}s must be integers, got booleans among them")
        return array
    if isinstance(value, np.ndarray | np.generic) or hasattr(value, "__array__") or hasattr(value, "__dlpack__"):
        raise TypeError(f"{name}s must be integers, got an array of {array.dtype}")
    if array.size == 0:
        return array.astype(np.int64)
    exact = np.array(value, dtype=object)
    if not all(isinstance(i, int | np.integer) and not isinstance(i, bool | np.timedelta64) for i in exact.flat):
        raise TypeError(f"{name}s must be integers, got {array.dtype}")
    return exact


def _fold(name: str, exact: np.ndarray[Any, Any], n_rows: int, policy: str) -> np.ndarray[Any, Any]:
    """Integers of any size as int64 that the policy treats alike."""
    folded = np.empty(exact.shape, np.int64)
    for index, value in np.ndenumerate(exact):
        i = int(value)
        if not 0 <= i < n_rows and (policy == "raise" or (n_rows == 0 and policy != "zero")):
            raise IndexError(f"{name} {i} at position {index} is out of range for a table of {n_rows} rows")
        folded[index] = i % n_rows if policy == "wrap" and n_rows > 0 else max(-1, min(i, _INT64_MAX))
    return folded


def keys(value: Any, of_string: Any) -> np.ndarray[Any, Any]:
    """Ids for a hash: contiguous integers of 64 bits, and what ``of_string`` makes of strings."""
    strings = _strings(value)
    if strings is None:
        array = _integers("id", value)
    elif of_string is None:
        raise TypeError("ids that are strings need hash=, a function of a string to an integer")
    else:
        array = np.empty(strings.shape, object)
        for index, string in np.ndenumerate(strings):
            array[index] = integer(f"hash({string!r})", of_string(string))
    if array.dtype.kind in "iu":
        return np.require(array, np.int64 if array.dtype.kind == "i" else np.uint64, ["C", "A"])
    known = np.empty(array.shape, np.uint64)
    for index, number in np.ndenumerate(array):
        if not -(2**63) <= number < 2**64:
            raise ValueError(f"id {number} at position {index} does not fit into 64 bits")
        known[index] = int(number) & 2**64 - 1
    return known


def _strings(value: Any) -> np.ndarray[Any, Any] | None:
    """Strings in an array or in nested lists, as an array of objects; None if the first item is no string."""
    first = value
    while isinstance(first, list | tuple) and first:
        first = first[0]
    if isinstance(first, np.ndarray) and first.dtype.kind in "OUT":
        first = first.flat[0] if first.size else ""
    if not isinstance(first, str):
        return None
    exact = np.array(value, dtype=object)
    if not all(isinstance(item, str) for item in exact.flat):
        raise TypeError("ids must be all integers, or all strings, in lists of one length")
    return exact


def word(name: str, value: Any, low: int = 0) -> int:
    """A number of 32 bits, not negative: a seed, or with 1 as the lowest the rows of a table that a hash selects from."""
    found = integer(name, value)
    if not low <= found < 2**32:
        raise ValueError(f"{name} must be from {low} to {2**32 - 1}, got {found}")
    return found


def function(name: str, value: Any) -> Any:
    """Something that can be called, or None."""
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be a function, got {value!r}")
    return value


def padding_idx(value: Any, n_rows: int) -> int | None:
    """A row's number, below 0 counted from the end, as one from 0 on; or None."""
    if value is None:
        return None
    index = integer("padding_idx", value)
    if not -n_rows <= index < n_rows:
        raise ValueError(f"padding_idx must be from {-n_rows} to {n_rows - 1} for a table of {n_rows} rows, got {index}")
    return index % n_rows


def start(value: Any, n_positions: int) -> int:
    """The first position id: an integer, so that all positions fit in int64."""
    first = integer("start", value)
    if -_INT64_MAX <= first <= _INT64_MAX - n_positions:
        return first
    raise ValueError(f"start must be within 64 bits for all {n_positions} positions, got {first}")


def position_ids(value: Any, first: int, shape: tuple[int, ...], n_rows: int, policy: str) -> np.ndarray[Any, Any] | None:
    """Position ids broadcast to the shape of the token ids; None stands for start, start + 1, ..."""
    if value is None:
        return None
    if first != 0:
        raise ValueError(f"start and position_ids exclude each other; got start={first} and position_ids")
    return ids_like("position id", value, shape, n_rows, policy)


def ids_like(name: str, value: Any, shape: tuple[int, ...], n_rows: int, policy: str) -> np.ndarray[Any, Any]:
    """Ids of another table, broadcast to the shape of the token ids."""
    array = ids(name, value, n_rows, policy)
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise ValueError(
            f"{name.replace(' ', '_')}s of shape {array.shape} do not broadcast to token_ids of shape {shape}"
        ) from None


def table(name: str, value: Any) -> np.ndarray[Any, Any]:
    """A table that is only read: two axes, one of the float dtypes, any layout, alignment and byte order."""
    array = _array(name, value)
    if not _is_table_dtype(array.dtype):
        raise TypeError(f"{name} must be {_ALLOWED}, got {array.dtype}")
    if array.ndim != 2:
        raise ValueError(f"{name} must have 2 axes (rows, columns), got shape {array.shape}")
    return array


def _is_table_dtype(given: np.dtype[Any]) -> bool:
    return is_half(given) or (given.kind == "f" and given.newbyteorder("=") in DTYPES)


def row_mask(name: str, value: Any, n_rows: int) -> np.ndarray[Any, Any]:
    """Some rows of a table, given by number or as a mask, as a mask."""
    array = _array(name, value)
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
    array = _array(name, value)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got {array.dtype}")
    if array.shape != (n_rows,):
        raise ValueError(f"{name} must have shape ({n_rows},), got {array.shape}")
    bad = np.flatnonzero((array < 0) | (array > _INT64_MAX))
    if bad.size:
        raise ValueError(f"{name} must be from 0 to {_INT64_MAX}, got {array[bad[0]]} at position {bad[0]}")
    return np.array(array, np.int64)


def convertible_table(name: str, value: Any, to: np.dtype[Any], n_cols: int) -> np.ndarray[Any, Any]:
    """A second table that is only read: of the first one's width, and of any float dtype, which is converted row by row."""
    array = _array(name, value)
    _castable(name, array, to)
    if array.ndim != 2 or array.shape[1] != n_cols:
        raise ValueError(f"{name} must have shape (rows, {n_cols}), got {array.shape}")
    return array


def in_place(array: np.ndarray[Any, Any], to: np.dtype[Any]) -> bool:
    """Whether kernels can read the rows where they are: native, of that dtype, elements side by side. Any alignment will do."""
    side_by_side = array.size == 0 or array.shape[-1] == 1 or array.strides[-1] == to.itemsize
    return side_by_side and array.dtype == to


def _castable(name: str, array: np.ndarray[Any, Any], to: np.dtype[Any]) -> None:
    if not (array.dtype.kind in "fiu" or is_half(array.dtype)) or not np.can_cast(array.dtype, to, "same_kind"):
        raise TypeError(f"{name} must be numbers that convert to {to}, got {array.dtype}")


def rows(name: str, value: Any, shape: tuple[int, ...], to: np.dtype[Any], *, broadcast: bool = False) -> np.ndarray[Any, Any]:
    """Rows for a kernel that only reads them, of exactly ``shape`` or broadcast to it, with the elements of a row side by side.

    Copied only where the dtype, the byte order or the last axis needs it; other axes are never expanded.
    """
    array = _array(name, value)
    _castable(name, array, to)
    if not broadcast and array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    try:
        if array.ndim == 0 or array.shape[-1] != shape[-1]:
            array = np.broadcast_to(array, (*array.shape[:-1], shape[-1]))
        if not in_place(array, to):
            array = np.ascontiguousarray(array, to)
        return np.broadcast_to(array, shape)
    except ValueError:
        raise ValueError(f"{name} of shape {np.shape(value)} do not broadcast to shape {shape}") from None


def like(name: str, value: Any, shape: tuple[int, ...], to: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """An array of any layout that NumPy reads, of exactly ``shape``, whose dtype converts to ``to``."""
    array = _array(name, value)
    _castable(name, array, to)
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
    value = _array(name, value)
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


def output(value: Any, shape: tuple[int, ...], to: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """The array for a result: the memory of ``out``, checked, or a new one."""
    if value is None:
        return np.empty(shape, to)
    array = writable("out", value, to)
    if array.shape != shape:
        raise ValueError(f"out must have shape {shape}, got {array.shape}")
    return array


def _overlaps_itself(array: np.ndarray[Any, Any]) -> bool:
    """Whether two elements may share memory: True unless every axis steps over all that the smaller steps span."""
    span = array.itemsize
    for stride, length in sorted((abs(s), n) for s, n in zip(array.strides, array.shape, strict=True) if n > 1):
        if stride < span:
            return array.size > 0
        span += stride * (length - 1)
    return False


def apart(name: str, written: np.ndarray[Any, Any], **others: np.ndarray[Any, Any] | None) -> None:
    """ValueError if an array that is written shares memory with another argument."""
    for other_name, other in others.items():
        if other is None or not np.may_share_memory(written, other):
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
    ids, rows = _array("ids of the gradient", given_ids), _array("rows of the gradient", given_rows)
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


# Sequences and bags


def one_of(name: str, value: Any, allowed: tuple[Any, ...]) -> Any:
    """A value out of a few, by equality."""
    if not (value is None or isinstance(value, str)) or value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}; got {value!r}")
    return value


def kept(shape: tuple[int, ...], lengths: Any, mask: Any) -> np.ndarray[Any, Any] | None:
    """Which places of sequences are no padding, by their lengths or by a mask; None if all of them are."""
    if lengths is None and mask is None:
        return None
    if lengths is not None and mask is not None:
        raise ValueError("lengths and mask exclude each other, got both")
    if not shape:
        raise ValueError("lengths and mask go with ids of at least 1 axis, got a single id")
    if mask is not None:
        array = _array("mask", mask)
        if array.dtype != bool:
            raise TypeError(f"mask must be booleans, got {array.dtype}")
        try:
            return np.broadcast_to(array, shape)
        except ValueError:
            raise ValueError(f"mask of shape {array.shape} does not broadcast to ids of shape {shape}") from None
    array = ids("length", lengths, shape[-1] + 1, "clip")  # beyond 64 bits a limit of them, which is no length either
    if array.shape != shape[:-1]:
        raise ValueError(f"lengths must have shape {shape[:-1]}, got {array.shape}")
    outside = np.argwhere((array < 0) | (array > shape[-1]))
    if len(outside):
        place = tuple(int(i) for i in outside[0])
        raise ValueError(f"lengths must be from 0 to {shape[-1]}, got {array[place]} at position {place}")
    return np.arange(shape[-1]) < array[..., None]


MODES = ("sum", "mean", "sqrtn", "max")


def mode(value: Any) -> str:
    """How the rows of a bag become one."""
    if not isinstance(value, str) or value not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}; got {value!r}")
    return MODES[MODES.index(value)]


def offsets(value: Any, shape: tuple[int, ...], include_last_offset: bool) -> np.ndarray[Any, Any]:
    """Where each bag begins and where the last one ends, as int64 of its own: from 0 on, not decreasing, within the ids."""
    if value is None:
        if len(shape) != 2:
            raise ValueError(f"offsets must be given unless ids have 2 axes (bags, ids of each), got ids of shape {shape}")
        return np.arange(shape[0] + 1, dtype=np.int64) * shape[1]
    if len(shape) != 1:
        raise ValueError(f"offsets go with ids of 1 axis, got ids of shape {shape}")
    array = ids("offset", value, shape[0] + 1, "clip")  # as with lengths
    if array.ndim != 1:
        raise ValueError(f"offsets must have 1 axis, got shape {array.shape}")
    if array.size == 0 and (include_last_offset or shape[0] > 0):
        raise ValueError(f"offsets must start at 0, got none for {shape[0]} ids")
    outside = np.flatnonzero((array < 0) | (array > shape[0]))
    if outside.size:
        k = outside[0]
        raise ValueError(f"offsets must lie within the {shape[0]} ids, got {array[k]} at position {k}")
    if array.size and array[0] != 0:
        raise ValueError(f"offsets must start at 0, got {array[0]}")
    falling = np.flatnonzero(array[1:] < array[:-1])
    if falling.size:
        k = falling[0] + 1
        raise ValueError(f"offsets must not decrease, got {array[k]} at position {k} after {array[k - 1]}")
    own = np.empty(array.size + (not include_last_offset), np.int64)
    own[: array.size] = array
    if not include_last_offset:
        own[-1] = shape[0]
    return own


def sample_weights(value: Any, shape: tuple[int, ...], to: np.dtype[Any], how: str) -> np.ndarray[Any, Any] | None:
    """What the row of each id is multiplied by, contiguous; or None."""
    if value is None:
        return None
    if how == "max":
        raise ValueError("per_sample_weights go with mode sum, mean or sqrtn, got max")
    return np.ascontiguousarray(like("per_sample_weights", value, shape, to), to)


# Search


def query_ids(value: Any) -> Any:
    """The same value where it stands for ids of rows, as anything does that is no array of floats; None where it is vectors."""
    array = _array("queries", value)
    is_empty_list = array.size == 0 and isinstance(value, list | tuple)
    return None if (array.dtype.kind == "f" or is_half(array.dtype)) and not is_empty_list else value


def query_vectors(value: Any, width: int, to: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Vectors of shape S + (width,), contiguous, finite once they are converted to ``to``."""
    with np.errstate(over="ignore"):
        vectors = np.ascontiguousarray(rows("queries", value, (*np.shape(value)[:-1], width), to), to)
    return finite_rows("query", vectors)


def finite_rows(name: str, vectors: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Vectors without infinities and NaN."""
    bad = np.argwhere(~np.isfinite(vectors))
    if len(bad):
        place, value = tuple(int(i) for i in bad[0][:-1]), vectors[tuple(bad[0])]
        raise ValueError(f"{name} at position {place} must be finite in {vectors.dtype}, got {value}")
    return vectors


def broadcast_ids(names: tuple[str, ...], arrays: list[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    """Arrays of one shape."""
    try:
        return list(np.broadcast_arrays(*arrays))
    except ValueError:
        shapes = ", ".join(f"{name} of shape {array.shape}" for name, array in zip(names, arrays, strict=True))
        raise ValueError(f"{shapes} do not broadcast to one shape") from None


def n_nearest(value: Any, n_rows: int, n_left_out: int) -> int:
    """How many rows are asked for: at most those there are."""
    k = size("k", value)
    if k > n_rows - n_left_out:
        left = f", {n_left_out} of them left out" if n_left_out else ""
        raise ValueError(f"k must be from 0 to {max(n_rows - n_left_out, 0)} for a table of {n_rows} rows{left}; got {k}")
    return k


# Names


def some(names: list[str]) -> str:
    """The first few of many names."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") if names else "nothing"


def distinct_names(name: str, value: Any) -> list[str]:
    """Strings of which no two are equal."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"{name} must be an iterable of strings, got {value!r:.80}")
    names = list(value)
    seen: set[str] = set()
    for place, given in enumerate(names):
        if not isinstance(given, str):
            raise TypeError(f"{name} must be strings, got {given!r:.80} at position {place}")
        if given in seen:
            raise ValueError(f"{name} must be distinct, got {given!r} again at position {place}")
        seen.add(given)
    return names


def strings(name: str, value: Any) -> np.ndarray[Any, Any]:
    """A string, or nested lists of strings, as an array of objects."""
    array = np.array(value, object)
    for place, given in np.ndenumerate(array):
        if not isinstance(given, str):
            raise TypeError(f"{name} must be strings, got {given!r:.80} at position {place}")
    return array


# Packed tables


def bits(value: Any) -> int:
    """Of an element of a packed table."""
    n = integer("bits", value)
    if n not in (8, 4):
        raise ValueError(f"bits must be 8 or 4, got {n}")
    return n


def packed(name: str, value: Any, width: int) -> np.ndarray[Any, Any]:
    """A table of bytes that is only read: of so many columns, side by side; any alignment and row stride."""
    array = _array(name, value)
    if array.dtype != np.uint8:
        raise TypeError(f"{name} must be uint8, got {array.dtype}")
    if array.ndim != 2 or array.shape[1] != width:
        raise ValueError(f"{name} must have shape (rows, {width}) for that embedding_dim and those bits, got {array.shape}")
    if not in_place(array, array.dtype):
        raise ValueError(f"{name} must have contiguous rows, got strides {array.strides}")
    return array
