"""Checks of options: numbers, flags and keywords."""

from __future__ import annotations

import contextlib
import math
import operator
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .._messages import interval, limit, shown

BOUNDS = ("raise", "wrap", "clip", "zero")
INT64_MAX = 2**63 - 1
MODES = ("sum", "mean", "sqrtn", "max")
_MOST_NEIGHBORS = 10  # unless a search says how many
# The largest float32, and the smallest normal one; np.finfo would add a millisecond to the import.
_FLOAT32_MAX = 3.4028234663852886e38
_FLOAT32_TINY = 1.1754943508222875e-38


def path(name: str, value: Any) -> Path:
    """A path: a str, bytes or an os.PathLike, neither empty nor with a null character."""
    try:
        text = os.fsdecode(value)
    except TypeError:
        raise TypeError(f"{name} must be a str or an os.PathLike, got {shown(value)}") from None
    if not text:
        raise FileNotFoundError(f"{name} must not be empty")
    if "\0" in text:
        raise ValueError(f"{name} must have no null characters, got {shown(text)}")
    return Path(text)


def bounds(value: Any) -> str:
    """One of the four policies for ids outside a table."""
    return str(one_of("bounds", value, BOUNDS))


def mode(value: Any) -> str:
    """How the rows of a bag become one."""
    return str(one_of("mode", value, MODES))


def one_of(name: str, value: Any, allowed: tuple[Any, ...]) -> Any:
    """The one of the ``allowed`` values that equals the argument."""
    if not (value is None or isinstance(value, str)) or value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}; got {shown(value)}")
    return allowed[allowed.index(value)]  # a plain str, even if a subclass was given


def flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {shown(value)}")
    return bool(value)


def known_options(owner: str, given: Iterable[str], known: Iterable[str]) -> None:
    """TypeError if one of the options given is not known."""
    names = list(known)
    for name in given:
        if name not in names:
            raise TypeError(f"{owner} has no option {shown(name, str)}; it has {', '.join(names)}")


def size(name: str, value: Any, most: int = INT64_MAX) -> int:
    """A length, or a count: an integer from 0 to ``most``, which has at most 63 bits."""
    length = integer(name, value)
    if not 0 <= length <= most:
        raise ValueError(f"{name} must be from 0 to {limit(most)}, got {shown(length)}")
    return length


def mapping(name: str, value: Any) -> dict[str, Any]:
    """The items of a mapping."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping, got {shown(value)}")
    return dict(value)


def integer(name: str, value: Any) -> int:
    """An integer of any size; a boolean is refused."""
    if not isinstance(value, bool | np.bool_):
        refuse_masked(name, value)
        with contextlib.suppress(TypeError):
            return operator.index(value)
    raise TypeError(f"{name} must be an integer, got {shown(value)}")


def whole_number(name: str, value: Any) -> int:
    """A non-negative integer that may be given as a float, such as a step count of PyTorch."""
    x = number(name, value, 0.0, 2.0**53)
    if not x.is_integer():
        raise ValueError(f"{name} must be a whole number, got {x}")
    return int(x)


def pair(name: str, value: Any) -> tuple[Any, Any]:
    """Two values of any kind."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise TypeError(f"{name} must be two numbers, got {shown(value)}")
    return value[0], value[1]


def number(name: str, value: Any, low: float, high: float) -> float:
    """A float from ``low`` to ``high``, both included; a boolean is refused."""
    try:
        if isinstance(value, bool):  # those of NumPy are no operand of operator.pos
            raise TypeError
        x = float(operator.pos(value))  # operator.pos refuses strings, which float() would parse
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, got {shown(value)}") from None
    except OverflowError:
        x = float("inf")
    if not low <= x <= high:
        raise ValueError(f"{name} must be {interval(low, high)}, got {x}")
    return x


def non_negative(name: str, value: Any) -> float:
    return number(name, value, 0.0, _FLOAT32_MAX)


def learning_rate(name: str, value: Any) -> Any:
    """A number that is not negative, or a function, which returns one for each step."""
    return value if callable(value) else non_negative(name, value)


def eps(name: str, value: Any) -> float:
    """An epsilon, above 0 in every dtype: 0 would give 0 / 0 for a row without a gradient yet."""
    return number(name, value, _FLOAT32_TINY, _FLOAT32_MAX)


def betas(name: str, value: Any) -> tuple[float, float]:
    first, second = pair(name, value)
    below_one = math.nextafter(1.0, 0.0)
    return number(f"{name}[0]", first, 0.0, below_one), number(f"{name}[1]", second, 0.0, below_one)


def weight_decay_mode(name: str, value: Any) -> str:
    if value not in ("l2", "decoupled"):
        raise ValueError(f"{name} must be l2 or decoupled, got {shown(value)}")
    return str(value)


def uint32(name: str, value: Any, low: int = 0) -> int:
    """An integer from ``low`` to 2**32 - 1: the seed of a hash, or the rows of its table."""
    found = integer(name, value)
    if not low <= found < 2**32:
        raise ValueError(f"{name} must be from {low} to {limit(2**32 - 1)}, got {shown(found)}")
    return found


def bits(value: Any) -> int:
    """The bits of an element of a quantized table."""
    n = integer("bits", value)
    if n not in (8, 4):
        raise ValueError(f"bits must be 8 or 4, got {shown(n)}")
    return n


def n_neighbors(value: Any, n_rows: int, n_excluded: int) -> int:
    """How many nearest rows a search returns: at most the rows that are not excluded."""
    k = min(_MOST_NEIGHBORS, max(n_rows - n_excluded, 0)) if value is None else size("k", value)
    if k > n_rows - n_excluded:
        left = f", {n_excluded} of them left out" if n_excluded else ""
        raise ValueError(f"k must be from 0 to {max(n_rows - n_excluded, 0)} for a table of {n_rows} rows{left}; got {shown(k)}")
    return k


def function(name: str, value: Any) -> Any:
    """A callable, or None."""
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be a function, got {shown(value)}")
    return value


def refuse_masked(name: str, value: Any) -> None:
    """TypeError if it is a masked array, or a list of such."""
    # Not np.ma, which imports: that hangs in a child forked during another thread's import.
    masked = getattr(sys.modules.get("numpy.ma"), "MaskedArray", None)
    if masked is not None and _holds(value, masked, 4):
        raise TypeError(f"{name} must not be a masked array: its mask would be ignored")


def _holds(value: Any, kind: type, n_levels: int) -> bool:
    """Whether it is of a kind, or a list that has such an item within so many levels."""
    if not n_levels or not isinstance(value, list | tuple):
        return isinstance(value, kind)
    kinds = set(map(type, value))  # an item at a time takes ten times as long
    if any(issubclass(of_item, kind) for of_item in kinds):
        return True
    has_lists = any(issubclass(of_item, list | tuple) for of_item in kinds)
    return has_lists and any(_holds(item, kind, n_levels - 1) for item in value if isinstance(item, list | tuple))
