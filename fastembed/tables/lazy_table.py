"""LazyTable: a table with an optimiser's state, whose rows take pending updates when needed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np

from .. import _checks
from .._kernels.backend import kernels

if TYPE_CHECKING:
    from .._typing import Array
    from ..functional.batch import Batch
    from .storage import Storage

MAX_PENDING = 1024  # steps after which all rows are brought up to date, to bound the cost of a look-up


class LazyTable:
    """A table, its state arrays, and the recorded steps that some rows have yet to take.

    A step that changes rows without a gradient too is recorded, and at once applied only to the
    rows of its batch. Any other row takes it, with a gradient of zeros and the scalars of that
    step, before it is read or written again (docs/training.md).

    Parameters
    ----------
    rule : str
        The update rule of the kernels.
    table : ndarray of shape (V, D)
    states : list of ndarray
        Each of the table's shape and arithmetic dtype, or of shape (V,).
    storage : Storage
        The storage of these arrays; `begin_write` is called before rows change.
    master : ndarray of float32, optional
        The float32 rows that the rows of a table of half precision are rounded from.
    seed : (int, int), optional
        The seed of stochastic rounding, and the number of its stream; without it rows of half
        precision are rounded to the nearest.
    """

    def __init__(
        self,
        rule: str,
        table: Array,
        states: list[Array],
        storage: Storage,
        master: Array | None = None,
        seed: tuple[int, int] | None = None,
    ) -> None:
        self._arguments = (rule, table, tuple(state.reshape(len(table), -1) if state.ndim == 1 else state for state in states))
        self._half = master, seed
        self._storage = storage
        self._n_applied = storage.zeros(len(table), np.dtype(np.int32))
        self._steps = np.empty((MAX_PENDING, kernels.N_SCALARS))
        self.multipliers: Array | None = None
        self._max_multiplier = 1.0
        self._kernel = self._made_kernel(None)

    def _made_kernel(self, multipliers: Array | None) -> kernels.LazyTable:
        return kernels.LazyTable(*self._arguments, self._n_applied, multipliers, self._steps, *self._half)

    @property
    def has_pending(self) -> bool:
        """Whether rows may have pending updates."""
        return self._kernel.n_steps > 0

    def set_multipliers(self, multipliers: Array | None) -> None:
        """Set the factors of the rows' learning rates from now on; None for 1.

        float64, shape (V,); 0 freezes a row.
        """
        if multipliers is not self.multipliers:
            self.apply_all()
            self._max_multiplier = 1.0 if multipliers is None else float(multipliers.max(initial=0.0))
            self._kernel = self._made_kernel(multipliers)
            self.multipliers = multipliers  # last: should this be interrupted, it is done again

    def check_rate(self, what: str, rate: float) -> None:
        """ValueError if the learning rate of a row is infinite: times 0 it would give NaN."""
        if self._arguments[1].dtype.itemsize == 8:
            _checks.number(what, rate * self._max_multiplier, 0.0, sys.float_info.max)
        else:
            _checks.non_negative(what, rate * self._max_multiplier)

    def apply_pending(self, rows: Array) -> None:
        """Apply the pending updates of the given rows (checked int64, any shape)."""
        if self.has_pending:
            self._storage.begin_write(rows)
            self._kernel.apply_pending(rows.reshape(-1))

    def apply_all(self) -> None:
        """Apply the pending updates of all rows."""
        if self.has_pending:
            self._storage.begin_write(None)
            self._kernel.apply_all()

    def add_step(self, commit: kernels.Commit, scalars: Array, is_recorded: bool, batch: Batch) -> None:
        """One step: the rows of a batch take it in the commit; others later, if it is recorded."""
        if self._kernel.n_steps == MAX_PENDING:
            self.apply_all()
        self._storage.begin_write(batch.rows)
        commit.add_step(self._kernel, scalars, is_recorded, *batch)
