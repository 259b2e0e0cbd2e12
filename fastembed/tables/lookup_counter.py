"""LookupCounter: how often each row of a layer's tables was looked up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from .._kernels.backend import kernels

if TYPE_CHECKING:
    from .._typing import Array


class LookupCounter:
    """Counts by table name; counting is off at first. The caller holds the layer's lock.

    Attributes
    ----------
    counts : dict of name to ndarray of int64, shape (V,)
        Empty while counting is off.
    """

    def __init__(self, counts: Mapping[str, Array] | None = None) -> None:
        self.counts = {name: array.copy() for name, array in (counts or {}).items()}

    @property
    def is_on(self) -> bool:
        """Whether look-ups are counted."""
        return bool(self.counts)

    def started(self, tables: Mapping[str, Array], known: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """The counts to start with: those so far, or ``known`` ones, else 0."""
        zeros = {name: np.zeros(len(table), np.int64) for name, table in tables.items()}
        return zeros | self.counts | dict(known or {})

    def add(self, rows_by_name: Mapping[str, Array]) -> None:
        """Count a look-up of these rows (int64, -1 for none) in all tables, or in none."""
        commit = kernels.Commit()
        self.add_to(commit, rows_by_name)
        commit.run()

    def add_to(self, commit: kernels.Commit, rows_by_name: Mapping[str, Array]) -> None:
        """Let a commit count such a look-up."""
        for name, counts in self.counts.items():
            commit.add_counts(counts, np.ascontiguousarray(rows_by_name[name]))

    def resized(self, name: str, n_rows: int) -> dict[str, Array]:
        """The counts once a table has ``n_rows``; those of new rows are 0."""
        if name not in self.counts:
            return self.counts
        kept = self.counts[name][:n_rows]
        return self.counts | {name: np.append(kept, np.zeros(n_rows - len(kept), np.int64))}
