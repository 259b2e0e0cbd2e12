"""ShardStorage: rows of a rank in memory, of which those that have changed are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..tables.storage import InMemory

if TYPE_CHECKING:
    from .._typing import Array


class ShardStorage(InMemory):
    """Arrays in memory; it notes which rows change, for checkpoints of these alone.

    Parameters
    ----------
    n_rows : int

    Attributes
    ----------
    changed : ndarray of bool, shape (n_rows,)
        Set by changes, cleared by whoever has saved the rows.
    """

    def __init__(self, n_rows: int) -> None:
        super().__init__()
        self.changed = np.ones(n_rows, bool)

    def check_owner(self, optimizer: Any) -> None:
        if optimizer.rounds_at_random:
            raise ValueError("stochastic_rounding goes by the place of a row in its array, so sharded layers do not have it")

    def begin_write(self, rows: Array | None) -> None:
        self.mark_written(rows)

    def mark_written(self, rows: Array | None) -> None:
        super().mark_written(rows)
        self.changed[slice(None) if rows is None else rows] = True
