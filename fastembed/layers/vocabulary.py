"""Vocabulary: names of a table's rows, kept beside it; and the mean row that new names begin with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _checks
from ..functional import lookup

if TYPE_CHECKING:
    from .._typing import Array, ArrayLike

_BLOCK = 4096  # rows that are float64 at one time


class Vocabulary:
    """Names of rows: distinct strings, the first for row 0. It does not change; a table that grows gets another one.

    Parameters
    ----------
    names : iterable of str

    Raises
    ------
    TypeError, ValueError
        A name is no string, or there twice.

    Examples
    --------
    >>> import fastembed as fe
    >>> vocabulary = fe.Vocabulary(["king", "queen", "man"])
    >>> vocabulary.ids(["man", "king"])
    array([2, 0])
    >>> vocabulary.names([[2, 1]])
    [['man', 'queen']]
    >>> list(vocabulary), len(vocabulary), "king" in vocabulary
    (['king', 'queen', 'man'], 3, True)
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = _checks.distinct_names("names", names)
        self._ids = {name: i for i, name in enumerate(self._names)}

    def ids(self, names: Any) -> Any:
        """The ids of names: an int for a string, int64 of their shape for nested lists of them; KeyError for an unknown one."""
        array = _checks.strings("names", names)
        ids = np.empty(array.shape, np.int64)
        for place, name in np.ndenumerate(array):
            if name not in self._ids:
                raise KeyError(f"name {name!r} at position {place} is not one of the {len(self)} of the vocabulary")
            ids[place] = self._ids[name]
        return ids if array.ndim else int(ids)

    def names(self, ids: ArrayLike) -> Any:
        """The names of ids: a string for an int, nested lists of the shape of an array; IndexError for an unknown one."""
        rows = lookup.resolve_ids(ids, len(self))
        names = np.empty(rows.shape, object)
        for place, row in np.ndenumerate(rows):
            names[place] = self._names[row]
        return names.tolist()

    def extended(self, names: list[str]) -> Vocabulary:
        """These names and, after them, others that must be new."""
        there = [repr(name) for name in names if name in self]
        if there:
            raise ValueError(f"names must be new, and the vocabulary has {_checks.some(there)}")
        return Vocabulary([*self._names, *names])

    def first(self, n: int) -> Vocabulary:
        """The names of the first ``n`` rows."""
        if n == len(self):
            return self
        if n > len(self):
            raise ValueError(f"n must be at most {len(self)}, got {n}: rows that have names are added by add_tokens")
        return Vocabulary(self._names[:n])

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._ids

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self._names == other._names

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} names)"


def mean_row(table: Array, padding_idx: int | None) -> Array:
    """The mean of all rows but the padding row, summed in float64 in their order; zeros if there are none."""
    total = np.zeros((1, table.shape[1]))
    for first in range(0, len(table), _BLOCK):
        rows = np.ascontiguousarray(table[first : first + _BLOCK], np.float64)
        places = np.zeros(len(rows), np.int64)
        if padding_idx is not None and 0 <= padding_idx - first < len(rows):
            places[padding_idx - first] = -1
        lookup.scatter_add(total, places, rows, bounds="zero")
    with np.errstate(all="ignore"):
        mean = total / max(len(table) - (padding_idx is not None), 1)
        return mean.astype(_checks.arithmetic(table.dtype)).astype(table.dtype.newbyteorder("="))
