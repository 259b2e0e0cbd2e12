"""Checks of strings: names of rows, and ids that are strings, which a hash maps to integers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .._messages import shown, warn
from .arrays import as_array, is_foreign
from .ids import integers
from .options import function, integer, refuse_masked


def string_hash(value: Any) -> Any:
    """A function of a string to an integer, or None; Python's own is taken with a warning."""
    if value is hash:
        warn("Python's hash of strings is another one in every process: leave hash= out")
    return function("hash", value)


def hash_keys(value: Any, of_string: Any, default: Any) -> np.ndarray[Any, Any]:
    """Ids as contiguous 64-bit integers for a hash.

    Strings are mapped by ``of_string`` first, or if that is None by the function ``default``.
    """
    strings = _strings(value)
    if strings is None:
        array = integers("id", value)
    elif of_string is None:
        try:
            return np.array([*map(default, strings.reshape(-1).tolist())], np.uint64).reshape(strings.shape)
        except UnicodeEncodeError as error:
            raise ValueError(f"id {shown(error.object)} holds a surrogate, and has no UTF-8 to hash") from None
    else:
        array = np.empty(strings.shape, object)
        for index, string in np.ndenumerate(strings):
            array[index] = integer(f"hash({shown(string)})", of_string(string))
    if array.dtype.kind in "iu":
        return np.require(array, np.int64 if array.dtype.kind == "i" else np.uint64, ["C", "A"])
    keys = np.empty(array.shape, np.uint64)
    for index, number in np.ndenumerate(array):
        if not -(2**63) <= number < 2**64:
            raise ValueError(f"id {shown(number)} at position {index} does not fit into 64 bits")
        keys[index] = int(number) & 2**64 - 1
    return keys


def _strings(value: Any) -> np.ndarray[Any, Any] | None:
    """Nested strings, or an array of them, as an object array; None if the first is no string."""
    refuse_masked("ids", value)
    first = value
    while isinstance(first, Sequence) and not isinstance(first, str) and first:
        first = first[0]
    if not isinstance(first, str) and is_foreign(first):
        array = as_array("ids", first)
        first = "" if array.dtype.kind in "OUT" and not array.size else array.item(0) if array.dtype.kind in "OUT" else None
    if not isinstance(first, str):
        return None
    exact = np.array(value, dtype=object)
    if not all(isinstance(item, str) for item in exact.flat):
        raise TypeError("ids must be all integers, or all strings, in lists of one length")
    return exact


def distinct_names(name: str, value: Any) -> list[str]:
    """A list of distinct strings; of a mapping of names to ids, in the order of the ids."""
    if isinstance(value, Mapping):
        return _names_by_id(name, value)
    if isinstance(value, set | frozenset):
        raise TypeError(f"{name} must have an order, and a set has none, got {shown(value)}")
    if isinstance(value, str) or not isinstance(value, Iterable) or (isinstance(value, np.ndarray) and value.ndim == 0):
        raise TypeError(f"{name} must be an iterable of strings, got {shown(value)}")
    names = list(value)
    seen: set[str] = set()
    for position, given in enumerate(names):
        if not isinstance(given, str):
            raise TypeError(f"{name} must be strings, got {shown(given)} at position {position}")
        if given in seen:
            raise ValueError(f"{name} must be distinct, got {shown(given)} again at position {position}")
        names[position] = str.__str__(given)  # of NumPy's strings, and other subclasses, Python's own
        seen.add(given)
    return names


def _names_by_id(name: str, value: Mapping[Any, Any]) -> list[str]:
    ids = list(value.values())
    if not all(isinstance(i, int | np.integer) for i in ids) or sorted(ids) != list(range(len(ids))):
        raise ValueError(f"{name} must have the ids 0 to {len(ids) - 1}, each once, as a mapping, got {shown(ids)}")
    return distinct_names(name, sorted(value, key=value.__getitem__))


def nested_names(name: str, value: Any) -> np.ndarray[Any, Any] | None:
    """A name, or nested lists or an array of names, as an array of objects; None for numbers."""
    refuse_masked(name, value)
    try:
        return _strings(value)
    except TypeError:
        raise TypeError(f"{name} must be all names, or all numbers, in lists of one length") from None


def are_names(value: Any) -> bool:
    """Whether it is a string, or an array or lists of strings, by the first of them."""
    while isinstance(value, list | tuple):
        value = next((part for part in value if not isinstance(part, list | tuple) or len(part)), None)
    if isinstance(value, np.ndarray) and value.size:
        value = value.flat[0]
    return isinstance(value, str)


def object_array(name: str, value: Any) -> np.ndarray[Any, Any]:
    """A value, or nested lists of values, as an array of objects."""
    refuse_masked(name, value)
    return np.array(value, object)


def strings(name: str, array: np.ndarray[Any, Any], place: tuple[int, ...] = ()) -> np.ndarray[Any, Any]:
    """An array of objects, at that place of a list; TypeError unless all of them are strings."""
    for position, given in np.ndenumerate(array):
        if not isinstance(given, str):
            raise TypeError(f"{name} must be strings, got {shown(given)} at position {place + position}")
    return array
