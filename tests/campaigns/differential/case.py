"""A case, and the comparison of what the two sides of it did."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from common import same_bits

from .draws import DTYPES

REFUSALS = ("read-only", "aligned", "native byte order", "contiguous rows", "overlap")


class Case(NamedTuple):
    """Two calls that must do the same: of the package on arrays, of the reference on lists. The
    first can be made again and again, and does the same each time.

    Both return a list of pairs: what it is, and its value (arrays here, nested lists there).
    """

    title: str
    ours: Callable[[], list[tuple[str, Any]]]
    reference: Callable[[], list[tuple[str, Any]]]
    dtypes: dict[str, str]  # of what is of another dtype than float64 or int
    unchanged: Callable[[], str | None] = lambda: None  # says what changed of what is only read
    may_refuse: bool = False  # a layout was drawn that cannot be written
    by_type: tuple[type[Exception], ...] = ()  # errors whose texts differ: the reference says less


def as_array(expected: Any, dtype: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any] | None:
    """Nested lists as an array of that shape; None if they have another number of elements.

    Rows of a table without rows have no width in lists: they are the zeros that they stand for.
    """
    array = np.array(expected, np.float64 if dtype == "bfloat16" else dtype)
    if array.size == 0:
        return np.zeros(shape, DTYPES.get(dtype, array.dtype))
    if array.size != np.prod(shape, dtype=int):
        return None
    with np.errstate(all="ignore"):
        return array.reshape(shape).astype(DTYPES.get(dtype, array.dtype))


def difference(case: Case, got: tuple[Any, ...], expected: tuple[Any, ...]) -> str | None:
    """What the two sides did differently; None if nothing."""
    if got[0] == "raised" and case.may_refuse and got[1] in (TypeError, ValueError) and any(w in got[2] for w in REFUSALS):
        return None
    if got[0] != expected[0]:
        return f"{_short(got)}, the reference {_short(expected)}"
    if got[0] == "raised":
        same = got[1:] == expected[1:] or (got[1] is expected[1] and got[1] in case.by_type)
        return None if same else f"{_short(got)}, the reference {_short(expected)}"
    ours, theirs = dict(got[1]), dict(expected[1])
    if list(ours) != list(theirs):
        return f"returned {list(ours)}, the reference {list(theirs)}"
    for name, value in ours.items():
        if not isinstance(value, np.ndarray):
            if value != theirs[name] and not (value != value and theirs[name] != theirs[name]):
                return f"{name} is {value!r:.200}, of the reference {theirs[name]!r:.200}"
            continue
        dtype = case.dtypes.get(name.split()[0], str(value.dtype))
        like = as_array(theirs[name], dtype, value.shape)
        if like is None or not same_bits(value, like):
            return f"{name} ({value.dtype}) is {_short(value.tolist())}, of the reference {_short(theirs[name])}"
    return None


def as_bytes(got: tuple[Any, ...]) -> tuple[Any, ...]:
    """What a call of the package did, to be compared with what it does in other surroundings."""
    if got[0] == "raised":
        return got
    values = [(name, value) for name, value in got[1]]
    return tuple(
        (name, value.dtype.str, value.shape, value.tobytes()) if isinstance(value, np.ndarray) else (name, repr(value))
        for name, value in values
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 1500 else f"{text[:1500]}..."


def copies(**arrays: Any) -> Callable[[], str | None]:
    """A function that says which of these arrays has changed since."""
    before = {name: array.tobytes() for name, array in arrays.items() if isinstance(array, np.ndarray)}

    def changed() -> str | None:
        names = [name for name, content in before.items() if arrays[name].tobytes() != content]
        return f"{', '.join(names)} changed" if names else None

    return changed
