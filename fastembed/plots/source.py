"""Source: the rows that a picture or a page shows, with their names and counts of look-ups."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _checks
from .._kernels.floats import own_floats
from ..functional.components import Components, principal_components
from ..layers.base import Layer

if TYPE_CHECKING:
    from .._typing import Array

MAX_ROWS = 50_000


@dataclass(frozen=True)
class Source:
    """Rows to show.

    Attributes
    ----------
    rows : ndarray of shape (n, D), float64
        The first n rows of the table.
    names : list of str
        A name for each of these rows: if they have none, their numbers.
    is_named : bool
    counts : ndarray of int64, shape (n,), or None
        How often each was looked up.
    n_rows : int
        Rows of the whole table.
    dtype : str
        That of the table.
    """

    rows: Array
    names: list[str]
    is_named: bool
    counts: Array | None
    n_rows: int
    dtype: str

    @classmethod
    @own_floats
    def of(
        cls,
        source: Any,
        names: Iterable[str] | None = None,
        *,
        table: str | None = None,
        lookups: Any = None,
        max_rows: int = MAX_ROWS,
    ) -> Source:
        """The first rows of a layer's table, of a packed table, or of an array.

        Parameters
        ----------
        source : layer, QuantizedEmbedding, PackedTable, or array_like of shape (V, D)
        names : iterable of str, optional
            Those of the rows, distinct or not; by default the layer's vocabulary.
        table : str, optional
            Which of a layer's tables; by default the first.
        lookups : array_like of integers, shape (V,), optional
            By default the layer's counts, if it counts.
        max_rows : int

        Raises
        ------
        TypeError, ValueError, KeyError
            An argument has an invalid type, shape or value.
        """
        n = _checks.size("max_rows", max_rows)
        if isinstance(source, Layer):
            name = source._table_name(table)
            whole = source.state_dict()[name]
            if names is None and name == next(iter(source.tables)):
                names = source.vocabulary
            lookups = source.lookup_counts().get(name) if lookups is None else lookups
            first, dtype = whole[:n], whole.dtype
        elif hasattr(source, "_float_rows"):
            whole = source
            first = source._float_rows(0, min(n, source.num_embeddings))
            dtype = first.dtype
            names = getattr(source, "vocabulary", None) if names is None else names
        else:
            whole = _checks.table("source", source)
            first, dtype = whole[:n], whole.dtype
        n_rows = len(whole) if isinstance(whole, np.ndarray) else whole.num_embeddings
        counts = None if lookups is None else _checks.counts("lookups", lookups, n_rows)[:n]
        rows = np.asarray(first, np.float64)
        return cls(rows, _row_names(names, n_rows)[:n], names is not None, counts, n_rows, dtype.name)

    @property
    @own_floats
    def norms(self) -> Array:
        """The Euclidean norm of each row; not finite where the row is not."""
        return np.sqrt((self.rows * self.rows).sum(axis=1))

    def components(self, k: int = 2) -> Components:
        """The directions in which the rows differ most."""
        return principal_components(self.rows, k)

    @property
    def order(self) -> Array:
        """The rows by importance: by counts of look-ups, or as they are."""
        if self.counts is None:
            return np.arange(len(self.rows))
        return np.argsort(-self.counts, kind="stable")

    def __str__(self) -> str:
        shape = f"{self.n_rows:,} x {self.rows.shape[1]:,} {self.dtype}"
        return shape if len(self.rows) == self.n_rows else f"the first {len(self.rows):,} rows of {shape}"


def _row_names(names: Iterable[str] | None, n_rows: int) -> list[str]:
    if names is None:
        return [str(row) for row in range(n_rows)]
    if isinstance(names, str):
        raise TypeError(f"names must be an iterable of strings, got {_checks.shown(names)}")
    given = list(names)
    for position, name in enumerate(given):
        if not isinstance(name, str):
            raise TypeError(f"names must be strings, got {_checks.shown(name)} at position {position}")
    if len(given) != n_rows:
        raise ValueError(f"names must be one for each of the {n_rows} rows, got {len(given)}")
    return given
