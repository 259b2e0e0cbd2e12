"""Vocabulary: names of a table's rows; and the mean row that new rows start from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _checks
from .._interactive.completion import without_internals
from .._kernels.floats import own_floats
from .._messages import counted
from ..functional import lookup

if TYPE_CHECKING:
    from .._typing import Array, ArrayLike

_BLOCK = 4096  # rows that are converted to float64 at one time


class Vocabulary:
    """Immutable names of rows: distinct strings, the first for row 0.

    Parameters
    ----------
    names : iterable of str, or mapping of str to int
        A mapping gives each name its id, as tokenizers do.
    unk : str, optional
        One of the names: that of the row which stands for every name that is not there.

    Raises
    ------
    TypeError, ValueError
        A name is not a string, or occurs twice; or ``unk`` is none of them.

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
    >>> vocabulary[1], vocabulary[[2, 0]]
    ('queen', ['man', 'king'])
    >>> fe.Vocabulary(["king", "<unk>"], unk="<unk>").ids(["king", "pawn"])
    array([0, 1])
    """

    def __init__(self, names: Iterable[str] = (), *, unk: str | None = None) -> None:
        self._names = _checks.distinct_names("names", names)
        self._ids = {name: i for i, name in enumerate(self._names)}
        self._set_unk(unk)

    def _set_unk(self, unk: str | None) -> None:
        if unk is not None and (not isinstance(unk, str) or unk not in self._ids):
            raise ValueError(f"unk must be one of the {len(self)} names, got {_checks.shown(unk)}")
        self._unk = unk

    @classmethod
    def of_ids(cls, ids: dict[str, int]) -> Vocabulary:
        """A vocabulary of names with their ids, in order from 0, which it keeps."""
        made = cls.__new__(cls)
        made._names, made._ids, made._unk = list(ids), ids, None
        return made

    @property
    def unk(self) -> str | None:
        """The name of the row that stands for every name that is not there, or None."""
        return self._unk

    def ids(self, names: Any) -> Any:
        """The ids of names: an int for a string, an int64 array for nested lists.

        Names that are not there have the id of ``unk``; without one they are a KeyError.
        """
        return self._ids_at((), names)

    def ids_of_bags(self, bags: Iterable[Any]) -> list[Any]:
        """The ids of the names of each bag, which may differ in length; as `ids`."""
        return [self._ids_at((k,), bag) for k, bag in enumerate(bags)]

    def _ids_at(self, place: tuple[int, ...], names: Any) -> Any:
        """`ids` of names that lie at that place of a list, for errors."""
        array = _checks.object_array("names", names)
        try:
            if self._unk is None:
                found = [*map(self._ids.__getitem__, array.reshape(-1).tolist())]
            else:
                unk = self._ids[self._unk]
                found = [self._ids.get(name, unk) for name in _checks.strings("names", array, place).reshape(-1).tolist()]
        except Exception:  # of what is no string, __hash__ may raise anything
            self._check_known(_checks.strings("names", array, place), place)
            raise
        return np.array(found, np.int64).reshape(array.shape) if array.ndim else found[0]

    def _check_known(self, names: Array, place: tuple[int, ...]) -> None:
        """KeyError with the first of these strings, at that place of a list, that is no name."""
        for position, name in np.ndenumerate(names):
            if name not in self._ids:
                raise KeyError(
                    f"name {_checks.shown(name)} at position {place + position} is not one of the {len(self)} of the vocabulary"
                ) from None

    def names(self, ids: ArrayLike) -> Any:
        """The names of ids: a string for an int, nested lists for an array; or an IndexError."""
        rows = lookup.resolve_ids(ids, len(self))
        names = np.empty(rows.size, object)
        names[:] = [*map(self._names.__getitem__, rows.reshape(-1).tolist())]
        return names.reshape(rows.shape).tolist()

    def extended(self, names: list[str]) -> Vocabulary:
        """A vocabulary with new names added at the end."""
        known = [_checks.shown(name) for name in names if name in self]
        if known:
            raise ValueError(f"names must be new, and the vocabulary has {_checks.first_few(known)}")
        return Vocabulary([*self._names, *names], unk=self._unk)

    def first(self, n: int) -> Vocabulary:
        """A vocabulary of the first ``n`` names."""
        if n == len(self):
            return self
        if n > len(self):
            raise ValueError(f"n must be at most {len(self)}, got {n}: rows that have names are added by add_tokens")
        return Vocabulary(self._names[:n], unk=self._unk)

    def __getitem__(self, ids: ArrayLike) -> Any:
        """As `names`."""
        return self.names(ids)

    def __len__(self) -> int:
        return len(self._names)

    def __dir__(self) -> list[str]:
        return without_internals(super().__dir__(), ("extended", "first", "ids_of_bags", "of_ids"))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._ids

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self._names == other._names and self._unk == other._unk

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Vocabulary({counted(len(self), 'name')}{'' if self._unk is None else f', unk={_checks.shown(self._unk)}'})"


def as_vocabulary(names: Iterable[str] | None) -> Vocabulary | None:
    """A vocabulary of given names, which may be one, or None."""
    return names if names is None or isinstance(names, Vocabulary) else Vocabulary(names)


def check_count(vocabulary: Vocabulary | None, n_rows: int) -> None:
    """ValueError unless there is a name for each row, or none at all."""
    if vocabulary is not None and len(vocabulary) != n_rows:
        raise ValueError(f"vocabulary must have a name for each of the {n_rows} rows, got {len(vocabulary)}")


def ids_of_names(name: str, value: Any, vocabulary: Vocabulary | None) -> Any:
    """The ids of names, also in lists of different lengths; values of other kinds as they are."""
    is_ragged = _checks.ragged(value, None) is not None and _checks.are_names(value)
    names = value if is_ragged else _checks.nested_names(name, value)
    if names is None:
        return value
    if vocabulary is None:
        raise TypeError(f"{name} are names, and the rows of the table have none: set vocabulary, or give ids")
    return vocabulary.ids_of_bags(names) if is_ragged else vocabulary.ids(names)


def has_name(vocabulary: Vocabulary | None, name: object) -> bool:
    """Whether a row has that name; TypeError for what is no name."""
    if not isinstance(name, str):
        raise TypeError(f"a name must be a string, got {_checks.shown(name)}: only names can be in a table")
    return vocabulary is not None and name in vocabulary


@own_floats
def mean_row(table: Array, padding_idx: int | None) -> Array:
    """The mean of all rows except the padding row, summed in float64 in order; zeros if none."""
    total = np.zeros((1, table.shape[1]))
    for first in range(0, len(table), _BLOCK):
        rows = np.ascontiguousarray(table[first : first + _BLOCK], np.float64)
        targets = np.zeros(len(rows), np.int64)
        if padding_idx is not None and 0 <= padding_idx - first < len(rows):
            targets[padding_idx - first] = -1
        lookup.scatter_add(total, targets, rows, bounds="zero")
    mean = total / max(len(table) - (padding_idx is not None), 1)
    return mean.astype(_checks.arithmetic_dtype(table.dtype)).astype(_checks.native(table.dtype))
