"""Ids of rows, and what goes with them in a call: positions, padding, masks, offsets, weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from .arrays import DTYPES, array_of, is_half, like
from .options import INT64_MAX, integer


def _holds_bool(value: Any) -> bool:
    """Whether there is a boolean, of any library, in nested sequences: NumPy takes them for 0 and 1 among integers."""
    kinds = set(map(type, value)) if isinstance(value, list | tuple) else {None}
    if kinds <= {int, list, tuple}:  # the usual ones, at less cost
        return kinds != {int} and any(_holds_bool(item) for item in value if type(item) is not int)
    items = np.array(value, dtype=object).ravel().tolist()
    odd = {kind for kind in set(map(type, items)) if kind is bool or not issubclass(kind, int | np.integer)}
    return bool(odd) and any(np.asarray(item).dtype.kind == "b" for item in items if type(item) in odd)


def id_array(name: str, value: Any, n_rows: int, policy: str) -> np.ndarray[Any, Any]:
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


def row_mask(name: str, value: Any, n_rows: int) -> np.ndarray[Any, Any]:
    """Some rows of a table, given by number or as a mask, as a mask."""
    array = array_of(name, value)
    if array.dtype == bool:
        if array.shape != (n_rows,):
            raise ValueError(f"{name} must be a mask of shape ({n_rows},) or row numbers, got a mask of shape {array.shape}")
        return array.copy()
    numbers = id_array(name.removesuffix("s"), value, n_rows, "raise")
    outside = np.flatnonzero((numbers < 0) | (numbers >= n_rows))
    if outside.size:
        raise IndexError(
            f"{name} {numbers.flat[outside[0]]} at position {outside[0]} is out of range for a table of {n_rows} rows"
        )
    mask = np.zeros(n_rows, bool)
    mask[numbers.reshape(-1).astype(np.int64)] = True
    return mask


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
    if -INT64_MAX <= first <= INT64_MAX - n_positions:
        return first
    raise ValueError(f"start must be within 64 bits for all {n_positions} positions, got {first}")


def position_ids(value: Any, first: int, shape: tuple[int, ...], n_rows: int, policy: str) -> np.ndarray[Any, Any] | None:
    """Position ids broadcast to the shape of the token ids; None stands for start, start + 1, ..."""
    if value is None:
        return None
    if first != 0:
        raise ValueError(f"start and position_ids exclude each other; got start={first} and position_ids")
    return ids_like("position id", value, shape, n_rows, policy)


def ids_like(
    name: str, value: Any, shape: tuple[int, ...], n_rows: int, policy: str, kept: np.ndarray[Any, Any] | None = None
) -> np.ndarray[Any, Any]:
    """Ids of another table, broadcast to the shape of the token ids; 0 at places that are not ``kept``."""
    array = integers(name, value)
    try:
        return within_64_bits(name, np.broadcast_to(array, shape), n_rows, policy, kept)
    except ValueError:
        raise ValueError(
            f"{name.replace(' ', '_')}s of shape {array.shape} do not broadcast to token_ids of shape {shape}"
        ) from None


def kept(shape: tuple[int, ...], lengths: Any, mask: Any) -> np.ndarray[Any, Any] | None:
    """Which places of sequences are no padding, by their lengths or by a mask; None if all of them are."""
    if lengths is None and mask is None:
        return None
    if lengths is not None and mask is not None:
        raise ValueError("lengths and mask exclude each other, got both")
    if not shape:
        raise ValueError("lengths and mask go with ids of at least 1 axis, got a single id")
    if mask is not None:
        array = array_of("mask", mask)
        if array.dtype != bool:
            raise TypeError(f"mask must be booleans, got {array.dtype}")
        try:
            return np.broadcast_to(array, shape).copy()
        except ValueError:
            raise ValueError(f"mask of shape {array.shape} does not broadcast to ids of shape {shape}") from None
    array = integers("length", lengths)
    if array.shape != shape[:-1]:
        raise ValueError(f"lengths must have shape {shape[:-1]}, got {array.shape}")
    outside = np.argwhere((array < 0) | (array > shape[-1]))
    if len(outside):
        place = tuple(int(i) for i in outside[0])
        raise ValueError(f"lengths must be from 0 to {shape[-1]}, got {array[place]} at position {place}")
    return np.arange(shape[-1]) < array[..., None]


def offsets(value: Any, shape: tuple[int, ...], include_last_offset: bool) -> np.ndarray[Any, Any]:
    """Where each bag begins and where the last one ends, as int64 of its own: from 0 on, not decreasing, within the ids."""
    if value is None:
        if len(shape) != 2:
            raise ValueError(f"offsets must be given unless ids have 2 axes (bags, ids of each), got ids of shape {shape}")
        return np.arange(shape[0] + 1, dtype=np.int64) * shape[1]
    if len(shape) != 1:
        raise ValueError(f"offsets go with ids of 1 axis, got ids of shape {shape}")
    array = integers("offset", value).copy()  # which nobody changes once it is checked
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
    """What the row of each id is multiplied by, contiguous and aligned; or None."""
    if value is None:
        return None
    if how == "max":
        raise ValueError("per_sample_weights go with mode sum, mean or sqrtn, got max")
    return np.require(like("per_sample_weights", value, shape, to), to, ["C", "A"])


def query_ids(value: Any) -> Any:
    """The same value where it stands for ids of rows, as anything does that is no array of floats; None where it is vectors."""
    array = array_of("queries", value)
    is_empty_list = array.size == 0 and isinstance(value, list | tuple)
    return None if (array.dtype.kind == "f" or is_half(array.dtype)) and not is_empty_list else value


def broadcast_ids(names: tuple[str, ...], arrays: list[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    """Arrays of one shape."""
    try:
        return list(np.broadcast_arrays(*arrays))
    except ValueError:
        shapes = ", ".join(f"{name} of shape {array.shape}" for name, array in zip(names, arrays, strict=True))
        raise ValueError(f"{shapes} do not broadcast to one shape") from None
