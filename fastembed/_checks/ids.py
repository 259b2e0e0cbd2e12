"""Checks of ids and of the arguments beside them: positions, padding, masks, offsets, weights."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from .._messages import shown
from .arrays import DTYPES, as_array, convertible_array, is_foreign, is_half, rounded
from .options import INT64_MAX, integer


def _holds_bool(value: Any) -> bool:
    """Whether nested sequences hold a boolean, of any library: NumPy would convert it to 0 or 1."""
    kinds = set(map(type, value)) if isinstance(value, list | tuple) else {None}
    if kinds <= {int, list, tuple}:  # the common case, at less cost
        return kinds != {int} and any(_holds_bool(item) for item in value if type(item) is not int)
    items = np.array(value, dtype=object).ravel().tolist()
    suspects = {kind for kind in set(map(type, items)) if kind is bool or not issubclass(kind, int | np.integer)}
    return bool(suspects) and any(np.asarray(item).dtype.kind == "b" for item in items if type(item) in suspects)


def _is_buffer(value: Any) -> bool:
    """Whether it offers its memory by the buffer protocol, such as an array.array."""
    try:
        memoryview(value).release()
    except TypeError:
        return False
    return True


def _ids_of_encodings(value: Any) -> Any:
    """The ids of an encoding, as the library tokenizers returns it, or of nested lists of such."""
    return [_ids_of_encodings(item) for item in value] if isinstance(value, list) else getattr(value, "ids", value)


def id_array(name: str, value: Any, n_rows: int, policy: str) -> np.ndarray[Any, Any]:
    """Ids as an array of an integer type; an array of such a type is not copied.

    Python integers beyond 64 bits are resolved by ``policy`` here: no array can carry them to a
    kernel.
    """
    return within_64_bits(name, integers(name, value), n_rows, policy)


def integers(name: str, value: Any) -> np.ndarray[Any, Any]:
    """Ids as an array of a NumPy integer type, or of Python integers if no such type holds all."""
    if type(value) is np.ndarray and value.dtype.kind in "iu":
        return value
    array = as_array(f"{name}s", value)
    is_array = is_foreign(value) or _is_buffer(value)
    if array.dtype.kind in "iu":
        if not (is_array or isinstance(value, int | range)) and _holds_bool(value):
            raise TypeError(f"{name}s must be integers, got booleans among them")
        return array
    if array.dtype == object and array.size and hasattr(array.flat[0], "ids"):
        return integers(name, _ids_of_encodings(array.tolist()))
    if is_array:
        raise TypeError(f"{name}s must be integers, got an array of {_kind(array)}")
    if array.size == 0:
        return array.astype(np.int64)
    exact = np.array(value, dtype=object)
    for place, item in np.ndenumerate(exact):
        if not isinstance(item, int | np.integer) or isinstance(item, bool | np.timedelta64):
            found = f"{shown(item)} at position {place}" if array.dtype == object else _kind(array)
            raise TypeError(f"{name}s must be integers, got {found}")
    return exact


def _kind(array: np.ndarray[Any, Any]) -> str:
    """What an array holds that are no integers."""
    where = "layer[names] has the rows of names, layer.vocabulary.ids(names) their ids"
    return f"strings: {where}" if array.dtype.kind in "UT" else shown(array.dtype, str)


def within_64_bits(
    name: str, exact: np.ndarray[Any, Any], n_rows: int, policy: str, mask: np.ndarray[Any, Any] | None = None
) -> np.ndarray[Any, Any]:
    """What `integers` returned, in 64 bits: larger ids become ones that ``policy`` treats alike.

    Ids where ``mask`` is False become 0.
    """
    if exact.dtype.kind in "iu":
        return exact if mask is None else np.where(mask, exact, exact.dtype.type(0))
    folded = np.zeros(exact.shape, np.int64)
    for index, value in np.ndenumerate(exact):
        i = int(value)
        if mask is not None and not mask[index]:
            continue
        if not 0 <= i < n_rows and (policy == "raise" or (n_rows == 0 and policy != "zero")):
            raise IndexError(f"{name} {shown(i)} at position {index} is out of range for a table of {n_rows} rows")
        folded[index] = i % n_rows if policy == "wrap" and n_rows > 0 else max(-1, min(i, INT64_MAX))
    return folded


def row_mask(name: str, value: Any, n_rows: int) -> np.ndarray[Any, Any]:
    """Rows of a table, given by number or as a mask, as a new mask of shape (n_rows,)."""
    array = as_array(name, value)
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
    """The parts of a row-sparse gradient: sorted distinct ids as int64, and their rows."""
    ids, rows = as_array("ids of the gradient", given_ids), as_array("rows of the gradient", given_rows)
    if ids.ndim != 1 or (ids.dtype.kind not in "iu" and ids.size):
        raise ValueError(f"ids of a gradient must be integers of 1 axis, got {shown(ids.dtype, str)} of shape {ids.shape}")
    if len(ids) and (ids[0] < 0 or ids[-1] >= shape[0] or (ids[1:] <= ids[:-1]).any()):
        raise ValueError(f"ids of a gradient must be sorted, distinct and within the {shape[0]} rows of the table")
    if rows.dtype not in DTYPES:
        raise TypeError(f"rows of the gradient must be float32 or float64, got {shown(rows.dtype, str)}")
    if rows.shape != (len(ids), shape[1]):
        raise ValueError(f"rows of the gradient must have shape {(len(ids), shape[1])}, got {rows.shape}")
    return np.ascontiguousarray(ids, np.int64), rows


def padding_idx(value: Any, n_rows: int) -> int | None:
    """The padding row counted from 0 (a negative one counts from the end), or None."""
    if value is None:
        return None
    index = integer("padding_idx", value)
    if not -n_rows <= index < n_rows:
        raise ValueError(f"padding_idx must be from {-n_rows} to {n_rows - 1} for a table of {n_rows} rows, got {shown(index)}")
    return index % n_rows


def start(value: Any, n_positions: int) -> int:
    """The first position id: such that all ``n_positions`` of them fit in int64."""
    first = integer("start", value)
    if -INT64_MAX <= first <= INT64_MAX - n_positions:
        return first
    raise ValueError(f"start must be within 64 bits for all {n_positions} positions, got {shown(first)}")


def position_ids(value: Any, first: int, shape: tuple[int, ...], n_rows: int, policy: str) -> np.ndarray[Any, Any] | None:
    """Position ids broadcast to the token ids' shape; None stands for first, first + 1, ..."""
    if value is None:
        return None
    if first != 0:
        raise ValueError(f"start and position_ids exclude each other; got start={shown(first)} and position_ids")
    return broadcast_ids_to("position id", value, shape, n_rows, policy)


def broadcast_ids_to(
    name: str, value: Any, shape: tuple[int, ...], n_rows: int, policy: str, mask: np.ndarray[Any, Any] | None = None
) -> np.ndarray[Any, Any]:
    """Ids of another table, broadcast to the token ids' shape; 0 where ``mask`` is False."""
    array = integers(name, value)
    try:
        return within_64_bits(name, np.broadcast_to(array, shape), n_rows, policy, mask)
    except ValueError:
        raise ValueError(
            f"{name.replace(' ', '_')}s of shape {array.shape} do not broadcast to token_ids of shape {shape}"
        ) from None


def sequence_mask(shape: tuple[int, ...], lengths: Any, mask: Any) -> np.ndarray[Any, Any] | None:
    """True where sequences are not padded, from their lengths or a mask; None without both."""
    if lengths is None and mask is None:
        return None
    if lengths is not None and mask is not None:
        raise ValueError("lengths and mask exclude each other, got both")
    if not shape:
        raise ValueError("lengths and mask require ids of at least 1 axis, got a single id")
    if mask is not None:
        array = as_array("mask", mask)
        if array.dtype.kind in "iu" and np.all((array == 0) | (array == 1)):  # as tokenizers give it
            array = array == 1
        if array.dtype != bool:
            raise TypeError(f"mask must be booleans, or integers 0 and 1, got {shown(mask)} of {shown(array.dtype, str)}")
        try:
            return np.broadcast_to(array, shape).copy()
        except ValueError:
            raise ValueError(f"mask of shape {array.shape} does not broadcast to ids of shape {shape}") from None
    array = integers("length", lengths)
    if array.shape != shape[:-1]:
        raise ValueError(f"lengths must have shape {shape[:-1]}, got {array.shape}")
    outside = np.argwhere((array < 0) | (array > shape[-1]))
    if len(outside):
        position = tuple(int(i) for i in outside[0])
        raise ValueError(f"lengths must be from 0 to {shape[-1]}, got {shown(int(array[position]))} at position {position}")
    return np.arange(shape[-1]) < array[..., None]


def token_ids(name: str, value: Any, n_tokens: int) -> np.ndarray[Any, Any]:
    """Tokens as an array of an integer type, uncopied; beyond 64 bits they are an IndexError."""
    array = integers(name, value)
    return array if array.dtype.kind in "iu" else _checked_tokens(name, array, n_tokens).astype(np.int64)


def _checked_tokens(name: str, array: np.ndarray[Any, Any], n_tokens: int) -> np.ndarray[Any, Any]:
    """The array, of which every token is in the vocabulary."""
    outside = (array < 0) | (array >= n_tokens)
    if outside.any():
        place = tuple(int(i) for i in np.argwhere(outside)[0])
        raise IndexError(
            f"{name} {shown(int(array[place]))} at position {place} is out of range for a vocabulary of {n_tokens} tokens"
        )
    return array


def token_history(value: Any, shape: tuple[int, ...], n_tokens: int) -> np.ndarray[Any, Any] | None:
    """The tokens before each sequence, a new int64 array of that shape; or None."""
    if value is None:
        return None
    array = integers("history token id", value).copy()  # so that another thread cannot change it after the checks
    if array.shape != shape:
        raise ValueError(f"history must have shape {shape}, the tokens before each sequence, got {array.shape}")
    return _checked_tokens("history token id", array, n_tokens).astype(np.int64)


def sequence_starts(shape: tuple[int, ...], lengths: Any, cu_seqlens: Any) -> np.ndarray[Any, Any]:
    """Where each sequence of tokens begins in C order, and where the last one ends, int64.

    Sequences lie along the last axis; or end to end, with their lengths or these places.
    """
    if not shape:
        raise ValueError("ids must have at least 1 axis, along which the tokens of a sequence lie; got a single id")
    if lengths is None and cu_seqlens is None:
        return np.arange(math.prod(shape[:-1]) + 1) * shape[-1]
    if lengths is not None and cu_seqlens is not None:
        raise ValueError("lengths and cu_seqlens exclude each other, got both")
    if len(shape) != 1:
        raise ValueError(f"lengths and cu_seqlens require ids of 1 axis, in which sequences lie end to end; got shape {shape}")
    name, value = ("length", lengths) if cu_seqlens is None else ("cu_seqlen", cu_seqlens)
    array = integers(name, value).copy()
    if array.ndim != 1:
        raise ValueError(f"{name}s must have 1 axis, got shape {array.shape}")
    outside = np.flatnonzero((array < 0) | (array > shape[0]))
    if outside.size:
        k = int(outside[0])
        raise ValueError(f"{name}s must be from 0 to {shape[0]}, the number of ids; got {shown(int(array[k]))} at position {k}")
    numbers = array.astype(np.int64)
    starts = numbers if lengths is None else np.concatenate([np.zeros(1, np.int64), np.cumsum(numbers)])
    falling = np.flatnonzero(starts[1:] < starts[:-1])
    if falling.size:
        k = int(falling[0]) + 1
        raise ValueError(f"cu_seqlens must not decrease, got {starts[k]} at position {k} after {starts[k - 1]}")
    if not len(starts) or starts[0] != 0 or starts[-1] != shape[0]:
        ends = f"from {starts[0]} to {starts[-1]}" if len(starts) else "none"
        raise ValueError(f"the {name}s must cover the {shape[0]} ids, from 0 to {shape[0]}; they go {ends}")
    return starts


def ragged(ids: Any, of_each: Any) -> tuple[Any, Any, list[int]] | None:
    """Lists of ids of different lengths, with what belongs to each id, side by side; their lengths.

    An empty list is no bags. An array of objects, as a column of pandas is, may be lists of one
    length too. None if ids have another form.
    """
    is_column = _is_of_objects(ids)
    bags = list(ids) if is_column else ids
    if not isinstance(bags, list | tuple) or not all(_is_a_list(bag) for bag in bags):
        return None
    lengths = [*map(len, bags)]
    if len({*lengths}) == 1 and not is_column:
        return None
    of_each = list(of_each) if _is_of_objects(of_each) else of_each
    if isinstance(of_each, list | tuple) and all(map(_is_a_list, of_each)):
        for k, (weights, n_ids) in enumerate(itertools.zip_longest(of_each, lengths)):
            if weights is None or len(weights) != n_ids:
                n_weights, n = (0 if weights is None else len(weights)), n_ids or 0
                raise ValueError(f"per_sample_weights must be one for each id of its bag, got {n_weights} for the {n} of bag {k}")
        of_each = [*itertools.chain.from_iterable(of_each)]
    return [*itertools.chain.from_iterable(bags)], of_each, lengths


def _is_of_objects(value: Any) -> bool:
    """Whether it is an array of objects with one axis, of NumPy or of pandas."""
    return getattr(getattr(value, "dtype", None), "kind", None) == "O" and getattr(value, "ndim", 1) == 1


def _is_a_list(value: Any) -> bool:
    return isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim == 1)


def ends_of_lengths(value: Any, n_ids: int) -> np.ndarray[Any, Any]:
    """Where each bag begins and the last one ends, of bags of these lengths, which make all ids."""
    array = integers("length", value)
    if array.ndim != 1 or np.any(array < 0) or sum(array.tolist()) != n_ids:
        raise ValueError(f"lengths must be of 1 axis, at least 0, and make the {n_ids} ids, got {shown(value)}")
    return np.concatenate([[0], np.cumsum(array, dtype=np.int64)])


def offsets(value: Any, shape: tuple[int, ...], include_last_offset: bool, instead: str = "") -> np.ndarray[Any, Any]:
    """Where each bag begins and the last one ends: a new int64 array, checked.

    It starts at 0, does not decrease, and lies within the ids. ``instead`` names in the message
    what else may be given.
    """
    if value is None:
        if len(shape) != 2:
            raise ValueError(
                f"offsets must be given{instead} unless ids have 2 axes (bags, ids of each) or are lists of ids, "
                f"got ids of shape {shape}"
            )
        return np.arange(shape[0] + 1, dtype=np.int64) * shape[1]
    if len(shape) != 1:
        raise ValueError(f"offsets require ids of 1 axis, got ids of shape {shape}")
    array = _ascending("offsets", value, shape[0], include_last_offset or shape[0] > 0)
    ends = np.empty(array.size + (not include_last_offset), np.int64)
    ends[: array.size] = array
    if not include_last_offset:
        ends[-1] = shape[0]
    return ends


def feature_offsets(value: Any, n_ids: int, name: str = "offsets") -> np.ndarray[Any, Any]:
    """Where each bag begins and the last one ends, with the end of all ids as the last of them."""
    array = _ascending(name, value, n_ids, True)
    if array[-1] != n_ids:
        raise ValueError(f"{name} must end at the {n_ids} ids, got {array[-1]}")
    return array.astype(np.int64, copy=False)


def _ascending(name: str, value: Any, n_ids: int, is_needed: bool) -> np.ndarray[Any, Any]:
    """Offsets that start at 0, do not decrease, and lie within the ids: a new array."""
    array = integers(name.replace("offsets", "offset"), value).copy()  # so that no other thread changes it after the checks
    if array.ndim != 1:
        raise ValueError(f"{name} must have 1 axis, got shape {array.shape}")
    if array.size == 0 and is_needed:
        raise ValueError(f"{name} must start at 0, got none for {n_ids} ids")
    outside = np.flatnonzero((array < 0) | (array > n_ids))
    if outside.size:
        k = outside[0]
        raise ValueError(f"{name} must lie within the {n_ids} ids, got {shown(int(array[k]))} at position {k}")
    if array.size and array[0] != 0:
        raise ValueError(f"{name} must start at 0, got {array[0]}")
    falling = np.flatnonzero(array[1:] < array[:-1])
    if falling.size:
        k = falling[0] + 1
        raise ValueError(f"{name} must not decrease, got {array[k]} at position {k} after {array[k - 1]}")
    return array


def sample_weights(value: Any, shape: tuple[int, ...], to: np.dtype[Any], how: str) -> np.ndarray[Any, Any] | None:
    """The weight of each id's row, as a contiguous and aligned array; or None."""
    if value is None:
        return None
    if how == "max":
        raise ValueError("per_sample_weights require mode sum, mean or sqrtn, got max")
    return np.require(rounded(convertible_array("per_sample_weights", value, shape, to), to), to, ["C", "A"])


def ids_of_queries(value: Any) -> Any:
    """The queries if they are ids of rows; None if they are vectors, that is, of a float dtype."""
    array = as_array("queries", value)
    is_empty_list = array.size == 0 and isinstance(value, list | tuple)
    return None if (array.dtype.kind == "f" or is_half(array.dtype)) and not is_empty_list else value


def broadcast_together(names: tuple[str, ...], arrays: list[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    """The arrays broadcast to one shape."""
    try:
        return list(np.broadcast_arrays(*arrays))
    except ValueError:
        shapes = ", ".join(f"{name} of shape {array.shape}" for name, array in zip(names, arrays, strict=True))
        raise ValueError(f"{shapes} do not broadcast to one shape") from None
