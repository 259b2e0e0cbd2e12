"""Checks of strings: names of rows, and ids that are strings, which a hash maps to integers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .._messages import shown
from .arrays import as_array, is_foreign
from .ids import integers
from .options import integer, refuse_masked


def hash_keys(value: Any, of_string: Any) -> np.ndarray[Any, Any]:
    """Ids as contiguous 64-bit integers for a hash; strings are mapped by ``of_string`` first."""
    strings = _strings(value)
    if strings is None:
        array = integers("id", value)
    elif of_string is None:
        raise TypeError("ids that are strings need hash=, a function of a string to an integer")
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
    """A list of distinct strings."""
    if isinstance(value, str) or not isinstance(value, Iterable) or (isinstance(value, np.ndarray) and value.ndim == 0):
        raise TypeError(f"{name} must be an iterable of strings, got {shown(value)}")
    names = list(value)
    seen: set[str] = set()
    for position, given in enumerate(names):
        if not isinstance(given, str):
            raise TypeError(f"{name} must be strings, got {shown(given)} at position {position}")
        if given in seen:
            raise ValueError(f"{name} must be distinct, got {shown(given)} again at position {position}")
        seen.add(given)
    return names


def nested_names(name: str, value: Any) -> np.ndarray[Any, Any] | None:
    """A name, or nested lists or an array of names, as an array of objects; None for numbers."""
    try:
        found = _strings(value)
    except TypeError:
        raise TypeError(f"{name} must be all names, or all numbers, in lists of one length") from None
    return found


def object_array(name: str, value: Any) -> np.ndarray[Any, Any]:
    """A value, or nested lists of values, as an array of objects."""
    refuse_masked(name, value)
    return np.array(value, object)


def strings(name: str, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """An array of objects; TypeError unless all of them are strings."""
    for position, given in np.ndenumerate(array):
        if not isinstance(given, str):
            raise TypeError(f"{name} must be strings, got {shown(given)} at position {position}")
    return array
