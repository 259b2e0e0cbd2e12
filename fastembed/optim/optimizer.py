"""What all optimisers share: items, options by group, state arrays, and steps that change all or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from .. import _checks
from .._kernels.backend import kernels
from ..functional.row_grad import Batch
from ..tables.lazy_table import LazyTable
from ..tables.trainable import Trainable, own_rows
from .parameter import matrices
from .state import ROW_OPTIONS, Options, Stateful

if TYPE_CHECKING:
    from .._typing import Array

_SCALARS = ("lr", "beta1", "alpha1", "beta2", "alpha2", "correction", "eps", "l2", "decay", "nesterov", "number")
_STREAMS = 16  # of random numbers, for the tables of one item


def scalars(**values: float) -> Array:
    """The scalars of one step, as the kernels take them."""
    step = np.zeros(kernels.N_SCALARS)
    step[: len(_SCALARS)] = [values.get(name, 1.0 if name in ("beta2", "correction", "eps") else 0.0) for name in _SCALARS]
    return step


class Step(NamedTuple):
    """A step of one item that has been checked, and can be taken.

    Attributes
    ----------
    scalars : ndarray
    options : dict
    is_recorded : bool
        Whether rows without a gradient take it later.
    parts : list of (LazyTable, Batch)
        None of what is frozen.
    """

    scalars: Array
    options: Options
    is_recorded: bool
    parts: list[tuple[LazyTable, Batch]]


class Optimizer(Stateful):
    """What to update, how far each item has come, and the state arrays of each. Subclasses say how one step goes."""

    rule: ClassVar[str]

    def __init__(
        self,
        layers_and_parameters: Any,
        options: Options,
        *,
        trainable_rows: Any = None,
        lr_multipliers: Any = None,
        master_rows: bool = False,
        stochastic_rounding: int | None = None,
    ) -> None:
        has_masters = _checks.flag("master_rows", master_rows)
        self._seed = None if stochastic_rounding is None else _checks.size("stochastic_rounding", stochastic_rounding)
        if has_masters and self._seed is not None:
            raise ValueError("master_rows and stochastic_rounding exclude each other: masters lose nothing")
        self.trainable_rows, self.lr_multipliers = trainable_rows, lr_multipliers
        super().__init__(layers_and_parameters, options, has_masters)
        for k, item in enumerate(self.items):
            if item.by_rows:
                self._multipliers_of(k, item)  # so that what is wrong with them is said here

    # ---- what subclasses say ----

    def scalars(self, options: Options, t: int) -> Array:
        """The scalars of step t (from 1)."""
        raise NotImplementedError

    def moves_without_gradient(self, options: Options) -> bool:
        """Whether a step changes rows that have no gradient, or their state."""
        return False

    def _tables_of(self, k: int, options: Options) -> dict[str, list[LazyTable]]:
        """The arrays of item k with their state, as they are trained."""
        if set(self._state_kinds(k, options)) - set(self._state[k]):  # an option was changed to one that needs more
            self._state[k] = self._new_state(k, options) | self._state[k]
            self._tables[k] = None
        tables = self._tables[k]
        if tables is None:
            tables = self._tables[k] = {
                name: [
                    self._lazy_table(k, place, table, states)
                    for table, *states in zip(matrices(array), *self._state_matrices(k, name, array), strict=True)
                ]
                for place, (name, array) in enumerate(self.items[k].moved_tables().items())
            }
            self._row_options[k] = None
        if self.items[k].by_rows:
            self._set_multipliers(k, tables)
        return tables

    def _lazy_table(self, k: int, place: int, table: Array, states: list[Array]) -> LazyTable:
        """A matrix of item k, of the table with that number in it, with its state."""
        master = states.pop() if self._has_masters and _checks.is_half(table.dtype) else None
        seed = None if self._seed is None else (self._seed, _STREAMS * k + place)
        return LazyTable(self.rule, table, states, self.items[k].storage, master, seed)

    def _state_matrices(self, k: int, name: str, array: Array) -> list[list[Array]]:
        """Each state of an array, in parts as `_matrices` cuts the array itself."""
        states = [arrays[name] for arrays in self._state[k].values()]
        return [matrices(state, 2 if state.shape == array.shape else 1) for state in states]

    def _set_multipliers(self, k: int, tables: dict[str, list[LazyTable]]) -> None:
        """Hand on what `trainable_rows` and `lr_multipliers` say, if it is not what they said last time."""
        item, group = self.items[k], self._group_of[k]
        given, known = self._row_options_of(k), self._row_options[k]
        if known is not None and all(a is b for a, b in zip(known, given, strict=True)):
            return
        group |= {name: own_rows(group[name]) for name in ROW_OPTIONS if name in group}
        given = self._row_options_of(k)
        multipliers = self._multipliers_of(k, item)
        with item.lock:
            for name, parts in tables.items():
                parts[0].set_multipliers(multipliers[name])
        self._row_options[k] = given

    def _multipliers_of(self, k: int, item: Trainable) -> dict[str, Array | None]:
        """What the learning rate of each row of each table of item k is multiplied by; None: by 1."""
        multipliers, first = {}, next(iter(item.tables))
        by_name = [value if value is None or isinstance(value, Mapping) else {first: value} for value in self._row_options_of(k)]
        known = {name for other in self.items if other.by_rows for name in other.tables}
        for option, value, names in zip(("trainable_rows", *ROW_OPTIONS), by_name, (set(item.tables), known, known), strict=True):
            if not set(value or ()) <= names:
                raise KeyError(f"{option} must name tables, which are {sorted(names)}, got {list(value or ())}")
        for name, table in item.tables.items():
            of_layer, of_group, factors = (None if value is None else value.get(name) for value in by_name)
            masks = [_checks.row_mask("trainable_rows", rows, len(table)) for rows in (of_layer, of_group) if rows is not None]
            if factors is not None:
                masks.append(_checks.row_factors("lr_multipliers", factors, len(table)))
            multipliers[name] = np.prod(masks, axis=0, dtype=np.float64) if masks else None
        return multipliers

    # ---- steps ----

    def zero_grad(self) -> None:
        """Forget the gradients of all items."""
        for item in self.items:
            item.zero_grad()

    def step(self) -> None:
        """Take one step with the accumulated gradients; an item without one takes a step with a gradient of zeros.

        Raises
        ------
        ValueError, TypeError
            A gradient does not fit, an option has become invalid, or an array has become read-only. Nothing has moved.
        """
        prepared = [self._prepared(k, item.batches()) for k, item in enumerate(self.items)]
        for k, step in enumerate(prepared):
            self._take(k, step)

    def train(self, layer: Trainable, batches: dict[str, Batch]) -> None:
        """Take one step of one layer with the gradients of a call."""
        found = [k for k, item in enumerate(self.items) if item is layer]
        if not found:
            raise ValueError(f"optimizer does not hold this layer: {layer!r}")
        with layer.lock:  # two threads that train one layer take two steps, not one twice
            self._take(found[0], self._prepared(found[0], {name: [batch] for name, batch in batches.items()}))

    def _prepared(self, k: int, batches: dict[str, list[Batch]]) -> Step:
        """The next step of item k, checked: nothing is written before all of it is."""
        item, options, number = self.items[k], self._options_of(k), self._steps[k] + 1
        scalars = self.scalars(options, number)
        if not item.trainable:
            return Step(scalars, options, False, [])
        item.storage.check_owner(self)
        for name, array in item.tables.items():
            _checks.writable(f"{name} of item {k}", array)
        scalars[_SCALARS.index("number")] = number
        rate = float(max(scalars[_SCALARS.index("lr")], scalars[_SCALARS.index("decay")]))
        parts = [pair for name, tables in self._tables_of(k, options).items() for pair in zip(tables, batches[name], strict=True)]
        for table, _ in parts:
            table.check_rate(f"the learning rate of step {number}", rate)
        return Step(scalars, options, item.by_rows and self.moves_without_gradient(options), parts)

    def _take(self, k: int, step: Step) -> None:
        if step.parts:
            with self.items[k].updating(self._tables[k] or {}):
                for table, batch in step.parts:
                    table.step(step.scalars, step.is_recorded, batch)
        self._steps[k] += 1
        self._record(k, step.options)

    def flush(self) -> None:
        """Bring all rows up to date, and their state: each takes the steps that it has missed so far.

        Mapped files are written by the ``flush`` of their layer.
        """
        for k, item in enumerate(self.items):
            item.apply_pending()
            for tables in (self._tables[k] or {}).values():
                for table in tables:
                    table.apply_all()

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={getattr(self, name)}" for name in self.options)
        return f"{type(self).__name__}({len(self.items)} items, {options})"
