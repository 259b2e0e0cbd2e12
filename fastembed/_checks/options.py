"""Numbers, flags and words: what is an option, not an array."""

from __future__ import annotations

import contextlib
import math
import operator
from typing import Any

import numpy as np

BOUNDS = ("raise", "wrap", "clip", "zero")
INT64_MAX = 2**63 - 1
MODES = ("sum", "mean", "sqrtn", "max")
_LARGEST = 3.4028234663852886e38  # of float32; np.finfo takes a millisecond of the import
_SMALLEST = 1.1754943508222875e-38  # above 0 in every dtype: without it a row that was never touched gives 0 / 0


def bounds(value: Any) -> str:
    """One of the four policies for ids outside a table."""
    return str(one_of("bounds", value, BOUNDS))


def mode(value: Any) -> str:
    """How the rows of a bag become one."""
    return str(one_of("mode", value, MODES))


def one_of(name: str, value: Any, allowed: tuple[Any, ...]) -> Any:
    """A value out of a few, by equality."""
    if not (value is None or isinstance(value, str)) or value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}; got {value!r}")
    return allowed[allowed.index(value)]  # of str itself, whatever subclass was given


def flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def size(name: str, value: Any) -> int:
    """A length: an integer, not negative, of 63 bits."""
    length = integer(name, value)
    if not 0 <= length <= INT64_MAX:
        raise ValueError(f"{name} must be from 0 to {INT64_MAX}, got {length}")
    return length


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


def pair(name: str, value: Any) -> tuple[Any, Any]:
    """Two values of any kind."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise TypeError(f"{name} must be two numbers, got {value!r}")
    return value[0], value[1]


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


def non_negative(name: str, value: Any) -> float:
    return number(name, value, 0.0, _LARGEST)


def eps(name: str, value: Any) -> float:
    return number(name, value, _SMALLEST, _LARGEST)


def betas(name: str, value: Any) -> tuple[float, float]:
    first, second = pair(name, value)
    below_one = math.nextafter(1.0, 0.0)
    return number(f"{name}[0]", first, 0.0, below_one), number(f"{name}[1]", second, 0.0, below_one)


def weight_decay_mode(name: str, value: Any) -> str:
    if value not in ("l2", "decoupled"):
        raise ValueError(f"{name} must be l2 or decoupled, got {value!r}")
    return str(value)


def word(name: str, value: Any, low: int = 0) -> int:
    """A number of 32 bits, not negative: a seed, or with 1 as the lowest the rows of a table that a hash selects from."""
    found = integer(name, value)
    if not low <= found < 2**32:
        raise ValueError(f"{name} must be from {low} to {2**32 - 1}, got {found}")
    return found


def bits(value: Any) -> int:
    """Of an element of a packed table."""
    n = integer("bits", value)
    if n not in (8, 4):
        raise ValueError(f"bits must be 8 or 4, got {n}")
    return n


def n_nearest(value: Any, n_rows: int, n_left_out: int) -> int:
    """How many rows are asked for: at most those there are."""
    k = size("k", value)
    if k > n_rows - n_left_out:
        left = f", {n_left_out} of them left out" if n_left_out else ""
        raise ValueError(f"k must be from 0 to {max(n_rows - n_left_out, 0)} for a table of {n_rows} rows{left}; got {k}")
    return k


def function(name: str, value: Any) -> Any:
    """Something that can be called, or None."""
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be a function, got {value!r}")
    return value


def some(names: list[str]) -> str:
    """The first few of many names."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") if names else "nothing"
