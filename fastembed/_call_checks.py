"""Checks of what some calls take beside a table and ids: positions, padding, bags, hashes, queries, names, packed rows, seeds.

The others are in `_checks`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ._checks import INT64_MAX, array_of, castable, in_place, integer, integers, is_half, like, one_of, rows, size, within_64_bits

# Sequences and bags


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


def convertible_table(name: str, value: Any, to: np.dtype[Any], n_cols: int) -> np.ndarray[Any, Any]:
    """A second table that is only read: of the first one's width, and of any float dtype, which is converted row by row."""
    array = array_of(name, value)
    castable(name, array, to)
    if array.ndim != 2 or array.shape[1] != n_cols:
        raise ValueError(f"{name} must have shape (rows, {n_cols}), got {array.shape}")
    return array


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


MODES = ("sum", "mean", "sqrtn", "max")


def mode(value: Any) -> str:
    """How the rows of a bag become one."""
    return str(one_of("mode", value, MODES))


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


# Hashes


def keys(value: Any, of_string: Any) -> np.ndarray[Any, Any]:
    """Ids for a hash: contiguous integers of 64 bits, and what ``of_string`` makes of strings."""
    strings = _strings(value)
    if strings is None:
        array = integers("id", value)
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


# Search


def query_ids(value: Any) -> Any:
    """The same value where it stands for ids of rows, as anything does that is no array of floats; None where it is vectors."""
    array = array_of("queries", value)
    is_empty_list = array.size == 0 and isinstance(value, list | tuple)
    return None if (array.dtype.kind == "f" or is_half(array.dtype)) and not is_empty_list else value


def query_vectors(value: Any, width: int, to: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Vectors of shape S + (width,), contiguous, finite once they are converted to ``to``."""
    array = array_of("queries", value)
    with np.errstate(over="ignore"):
        vectors = np.ascontiguousarray(rows("queries", array, (*array.shape[:-1], width), to), to)
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


def distinct_names(name: str, value: Any) -> list[str]:
    """Strings of which no two are equal."""
    if isinstance(value, str) or not isinstance(value, Iterable) or (isinstance(value, np.ndarray) and value.ndim == 0):
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
    array = array_of(name, value)
    if array.dtype != np.uint8:
        raise TypeError(f"{name} must be uint8, got {array.dtype}")
    if array.ndim != 2 or array.shape[1] != width:
        raise ValueError(f"{name} must have shape (rows, {width}) for that embedding_dim and those bits, got {array.shape}")
    if not in_place(array, array.dtype):
        raise ValueError(f"{name} must have contiguous rows, got strides {array.strides}")
    return array


# Seeds


def generator(value: Any) -> np.random.Generator:
    """Where random numbers come from: a generator, what seeds one, or None for fresh entropy."""
    if isinstance(value, list | tuple | np.ndarray):
        value = array_of("rng", value)  # NumPy's own loop over a matrix never ends, and kills the process
    try:
        return np.random.default_rng(value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"rng must be a generator, a seed or None, got {value!r:.80}: {error}") from None
