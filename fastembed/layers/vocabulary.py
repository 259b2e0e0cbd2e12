"""Vocabulary: names of a table's rows, kept beside it; and tables that grow with one."""

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


class NamedRows:
    """Gives a layer names of the rows of its first table, and lets that table grow with them."""

    tables: dict[str, Array]
    lock: Any
    _vocabulary: Vocabulary | None
    _padding_idx: int | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        raise NotImplementedError

    def state_dict(self) -> dict[str, Array]:
        raise NotImplementedError

    def _resize(self, name: str, n: int, new_rows: ArrayLike, vocabulary: Vocabulary | None) -> None:
        raise NotImplementedError

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The names of the rows of the first table, or None; set it to as many distinct strings as there are rows."""
        return self._vocabulary

    @vocabulary.setter
    def vocabulary(self, names: Iterable[str] | None) -> None:
        made = names if names is None or isinstance(names, Vocabulary) else Vocabulary(names)
        with self.lock:
            n_rows = len(next(iter(self.tables.values())))
            if made is not None and len(made) != n_rows:
                raise ValueError(f"vocabulary must have a name for each of the {n_rows} rows, got {len(made)}")
            self._vocabulary = made

    def _names_of(self, table: str, n: int) -> Vocabulary | None:
        """The vocabulary once that table has ``n`` rows."""
        known = self._vocabulary
        if known is None or table != next(iter(self.tables)) or n == len(known):
            return known
        if n > len(known):
            raise ValueError(f"n must be at most {len(known)}, got {n}: rows that have names are added by add_tokens")
        return Vocabulary(list(known)[:n])

    def _mean_row(self, table: Array) -> Array:
        """The mean of all rows but the padding row, summed in float64 in their order; zeros if there are none."""
        total, padding = np.zeros((1, table.shape[1])), self._padding_idx
        for first in range(0, len(table), _BLOCK):
            rows = np.ascontiguousarray(table[first : first + _BLOCK], np.float64)
            places = np.zeros(len(rows), np.int64)
            if padding is not None and 0 <= padding - first < len(rows):
                places[padding - first] = -1
            lookup.scatter_add(total, places, rows, bounds="zero")
        with np.errstate(all="ignore"):
            mean = total / max(len(table) - (padding is not None), 1)
            return mean.astype(_checks.arithmetic(table.dtype)).astype(table.dtype.newbyteorder("="))

    def add_tokens(self, names: Iterable[str] | str, init: ArrayLike = "mean") -> Array:
        """Add named rows at the end of the first table. The other rows keep their values, and what every optimiser knows of them.

        Parameters
        ----------
        names : str, or iterable of str
            New ones. A layer whose rows have no names yet needs a ``vocabulary`` first, unless it has no rows.
        init : "mean", or array_like, broadcast to (number of names, D)
            What the new rows hold: by default the mean of all old rows but the padding row, summed in float64 in their order and
            rounded to the table's dtype (of half precision: to float32 first); zeros where there are none.

        Returns
        -------
        ndarray of int64
            The ids of the new rows.

        Raises
        ------
        ValueError, TypeError
            A name is there already, is given twice or is no string; the rows have no names; or ``init`` does not fit. Nothing is
            changed.

        Examples
        --------
        >>> import fastembed as fe
        >>> layer = fe.Embedding.from_pretrained([[1.0, 2.0], [3.0, 6.0]])
        >>> layer.vocabulary = ["a", "b"]
        >>> layer.add_tokens(["c", "d"])
        array([2, 3])
        >>> layer(layer.vocabulary.ids(["b", "d"]))
        array([[3., 6.],
               [2., 4.]])
        """
        new = _checks.distinct_names("names", [names] if isinstance(names, str) else names)
        with self.lock:
            tables = self.state_dict()
            name, table = next(iter(tables.items()))
            known = self._vocabulary
            if known is None and len(table):
                raise ValueError(f"the {len(table)} rows have no names: set vocabulary to theirs before tokens are added")
            there = [repr(of_new) for of_new in new if known is not None and of_new in known]
            if there:
                raise ValueError(f"names must be new, and the vocabulary has {_checks.some(there)}")
            if isinstance(init, str):
                _checks.one_of("init", init, ("mean",))
                init = self._mean_row(table)
            rows = _checks.rows("init", init, (len(new), table.shape[1]), self.dtype, broadcast=True)
            if new:
                self._resize(name, len(table) + len(new), rows, Vocabulary([*(known or ()), *new]))
            return np.arange(len(table), len(table) + len(new))
