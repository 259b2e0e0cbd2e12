"""TrainedTable: a table with an optimiser's state, whose rows take the steps that they missed when they are next needed."""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _checks
from .._kernels.backend import kernels

if TYPE_CHECKING:
    from .._typing import Array
    from ..functional.row_grad import Batch
    from ..io.mapped import MappedFiles


def own_rows(value: Any) -> Any:
    """A copy of what was given for the rows of a table, or of tables by name; its arrays are read-only."""
    if isinstance(value, Mapping):
        return {name: own_rows(rows) for name, rows in value.items()}
    own = tuple(value) if isinstance(value, list) else copy.deepcopy(value)
    if isinstance(own, np.ndarray):
        own.flags.writeable = False
    return own


class OwnRows:
    """An attribute that keeps `own_rows` of what it is set to."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, holder: Any, owner: type) -> Any:
        return holder.__dict__[self._name]

    def __set__(self, holder: Any, value: Any) -> None:
        holder.__dict__[self._name] = own_rows(value)


MAX_STEPS = 1024  # that a row can miss: then all rows take them, which bounds what one look-up can cost


class TrainedTable:
    """A table, its state arrays, and the steps since the oldest row's last one.

    A step that moves rows without a gradient too is recorded here, and taken at once only by the rows of its batch; any other
    row takes it, with a gradient of zeros and the scalars of that step, before it is read or written again (docs/training.md).

    Parameters
    ----------
    rule : str
        Which of the kernels' formulas.
    table : ndarray of shape (V, D)
    states : list of ndarray
        Each of the table's shape and arithmetic dtype, or of shape (V,).
    master : ndarray of float32, optional
        What the rows of a table of half precision are rounded from.
    seed : (int, int), optional
        Of random rounding, and which of its streams; without it rows of half precision are rounded to the nearest.
    files : MappedFiles, optional
        That all these arrays lie in: they are told which rows change.
    """

    def __init__(
        self,
        rule: str,
        table: Array,
        states: list[Array],
        master: Array | None = None,
        seed: tuple[int, int] | None = None,
        files: MappedFiles | None = None,
    ) -> None:
        storage = table.dtype.name if _checks.is_half(table.dtype) else None
        self._arguments = (
            rule,
            table if storage is None else table.view(np.uint16),
            tuple(state.reshape(len(table), -1) if state.ndim == 1 else state for state in states),
        )
        self._half = storage, master, seed
        self._files = files
        self._n_taken = (np.zeros if files is None else files.zeros)(len(table), np.dtype(np.int32))
        self._steps = np.empty((MAX_STEPS, kernels.N_SCALARS))
        self._n_steps = 0
        self.multipliers: Array | None = None
        self._largest = 1.0
        self._hold()

    def _hold(self) -> None:
        self._kernel = kernels.Trained(*self._arguments, self._n_taken, self.multipliers, self._steps, *self._half)

    def _will_write(self, rows: Array | None) -> None:
        if self._files is not None:
            self._files.about_to_write(rows)

    @property
    def is_behind(self) -> bool:
        """Whether rows may have steps yet to take."""
        return self._n_steps > 0

    def set_multipliers(self, multipliers: Array | None) -> None:
        """What each row's learning rate is multiplied by from now on (float64, shape (V,)); 0 for a row that stays as it is."""
        if multipliers is not self.multipliers:
            self.flush()
            self.multipliers = multipliers
            self._largest = 1.0 if multipliers is None else float(multipliers.max(initial=0.0))
            self._hold()

    def check_rate(self, what: str, rate: float) -> None:
        """ValueError if the learning rate of a row is infinite in the arithmetic: times a gradient of zero that is NaN."""
        if self._arguments[1].dtype.itemsize == 8:
            _checks.number(what, rate * self._largest, 0.0, sys.float_info.max)
        else:
            _checks.non_negative(what, rate * self._largest)

    def catch_up(self, rows: Array) -> None:
        """Let rows (checked int64, any shape) take the steps that they missed."""
        if self._n_steps > 0:
            self._will_write(rows)
            self._kernel.catch_up(self._n_steps, rows.reshape(-1))

    def flush(self) -> None:
        """Let all rows take the steps that they missed."""
        if self._n_steps > 0:
            self._will_write(None)
            self._kernel.catch_up(self._n_steps, None)
            self._n_taken[:] = 0
            self._n_steps = 0

    def train(self, step: Array, is_recorded: bool, batch: Batch) -> None:
        """Take one step, with gradients for the rows of a batch and of zeros for all others."""
        if self._n_steps == MAX_STEPS:
            self.flush()
        self._will_write(batch.rows)
        self._kernel.train(self._n_steps, step, is_recorded, *batch)
        if is_recorded:
            self._steps[self._n_steps] = step
            self._n_steps += 1
