"""Optimizer: the base of all optimisers. It prepares and checks a step, then applies it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from .. import _checks
from .._interactive.completion import without_internals
from .._kernels.backend import kernels
from .._kernels.floats import own_floats
from .._memory import memory_errors
from .._messages import counted
from ..functional.batch import Batch
from ..tables.lazy_table import LazyTable
from ..tables.trainable import Trainable, read_only_copy
from .groups import ROW_OPTIONS
from .parameter import matrices
from .state import Options, Stateful

if TYPE_CHECKING:
    from .._typing import Array

_SCALARS = ("lr", "beta1", "alpha1", "beta2", "alpha2", "correction", "eps", "l2", "decay", "nesterov", "number")
_STREAMS = 16  # random streams of one item, one for each of its tables


# What steps, layers and subclasses use of an optimiser, and users do not.
_INTERNAL = {
    "add_resized", "is_decoupled", "moves_without_gradient", "needs_state", "optional_state", "options", "rounds_at_random",
    "rule", "scalars", "state_names", "state_shape", "state_start", "train", "train_together",
}  # fmt: skip


def scalars(**values: float) -> Array:
    """The scalars of one step as an array for the kernels."""
    step = np.zeros(kernels.N_SCALARS)
    step[: len(_SCALARS)] = [values.get(name, 1.0 if name in ("beta2", "correction", "eps") else 0.0) for name in _SCALARS]
    return step


class Step(NamedTuple):
    """A step of one item, checked and ready to be applied.

    Attributes
    ----------
    scalars : ndarray
    options : dict
    is_recorded : bool
        Whether rows without a gradient take it later.
    parts : list of (LazyTable, Batch)
        Empty for a frozen item.
    """

    scalars: Array
    options: Options
    is_recorded: bool
    parts: list[tuple[LazyTable, Batch]]


class Optimizer(Stateful):
    """Steps of all items. A subclass defines the rule, the options and the scalars of a step."""

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
        step_without_grad: bool = True,
        **unknown: Any,
    ) -> None:
        known = (*self.options, *ROW_OPTIONS, "master_rows", "stochastic_rounding", "step_without_grad")
        _checks.known_options(type(self).__name__, unknown, known)
        self._steps_without_grad = _checks.flag("step_without_grad", step_without_grad)
        has_masters = _checks.flag("master_rows", master_rows)
        self._seed = None if stochastic_rounding is None else _checks.size("stochastic_rounding", stochastic_rounding)
        if has_masters and self._seed is not None:
            raise ValueError("master_rows and stochastic_rounding exclude each other: masters lose nothing")
        self.trainable_rows, self.lr_multipliers = trainable_rows, lr_multipliers
        super().__init__(layers_and_parameters, options, has_masters)
        for k, item in enumerate(self.items):
            if item.by_rows:
                self._multipliers_of(k, item)  # raises if they are invalid

    # ---- to be overridden by subclasses ----

    def scalars(self, options: Options, t: int) -> Array:
        """The scalars of step t (from 1)."""
        raise NotImplementedError

    def moves_without_gradient(self, options: Options) -> bool:
        """Whether a step changes rows without a gradient, or their state."""
        return False

    # ---- tables with their state ----

    @property
    def rounds_at_random(self) -> bool:
        """Whether rows of half precision are rounded at random."""
        return self._seed is not None

    def _tables_of(self, k: int, options: Options) -> dict[str, list[LazyTable]]:
        """The lazy tables of item k, made again if its state has changed."""
        if set(self._state_kinds(k, options)) - set(self._state[k]):  # a changed option needs more state
            self._tables[k] = None
            self._state[k] = self._new_state(k, options) | self._state[k]
        tables = self._tables[k]
        if tables is None:
            tables = self._tables[k] = {
                name: [
                    self._lazy_table(k, number, table, states)
                    for table, *states in zip(matrices(array), *self._state_matrices(k, name, array), strict=True)
                ]
                for number, (name, array) in enumerate(self.items[k].moved_tables().items())
            }
            self._row_options[k] = None
        if self.items[k].by_rows:
            self._set_multipliers(k, tables)
        return tables

    def _lazy_table(self, k: int, number: int, table: Array, states: list[Array]) -> LazyTable:
        """A matrix of item k, part of its array of that number, with its state."""
        master = states.pop() if self._has_masters and _checks.is_half(table.dtype) else None
        seed = None if self._seed is None else (self._seed, _STREAMS * k + number)
        return LazyTable(self.rule, table, states, self.items[k].storage, master, seed)

    def _state_matrices(self, k: int, name: str, array: Array) -> list[list[Array]]:
        """Each state array, split like the array itself into matrices, or vectors if row-wise."""
        states = [arrays[name] for arrays in self._state[k].values()]
        return [matrices(state, 2 if state.shape == array.shape else 1) for state in states]

    def _set_multipliers(self, k: int, tables: dict[str, list[LazyTable]]) -> None:
        """Set the multipliers of tables if `trainable_rows` or `lr_multipliers` have changed."""
        item, group = self.items[k], self._group_of[k]
        given, known = self._row_options_of(k), self._row_options[k]
        if known is not None and all(a is b for a, b in zip(known, given, strict=True)):
            return
        group |= {name: read_only_copy(group[name]) for name in ROW_OPTIONS if name in group}
        given = self._row_options_of(k)
        multipliers = self._multipliers_of(k, item)
        with item.lock:
            for name, parts in tables.items():
                parts[0].set_multipliers(multipliers[name])
        self._row_options[k] = given

    @own_floats
    def _multipliers_of(self, k: int, item: Trainable) -> dict[str, Array | None]:
        """The factors of the learning rates of rows, for each table of item k; None for 1."""
        multipliers, first = {}, next(iter(item.tables))
        by_name = [value if value is None or isinstance(value, Mapping) else {first: value} for value in self._row_options_of(k)]
        known = {name for other in self.items if other.by_rows for name in other.tables}
        for option, value, names in zip(("trainable_rows", *ROW_OPTIONS), by_name, (set(item.tables), known, known), strict=True):
            if not set(value or ()) <= names:
                raise KeyError(f"{option} must name tables, which are {sorted(names)}, got {_checks.listed(value or ())}")
        for name, table in item.tables.items():
            of_layer, of_group, factors = (None if value is None else value.get(name) for value in by_name)
            masks = [_checks.row_mask("trainable_rows", rows, len(table)) for rows in (of_layer, of_group) if rows is not None]
            if factors is not None:
                masks.append(_checks.row_factors("lr_multipliers", factors, len(table)))
            multipliers[name] = np.prod(masks, axis=0, dtype=np.float64) if masks else None
        return multipliers

    # ---- steps ----

    def zero_grad(self) -> None:
        """Drop the gradients of all items."""
        for item in self.items:
            item.zero_grad()

    @memory_errors()
    def step(self) -> None:
        """Take one step with the accumulated gradients.

        Items without one take it with a gradient of zeros; or no step, with
        ``step_without_grad=False``.

        Raises
        ------
        ValueError, TypeError
            A gradient has an invalid shape or dtype, an option has become invalid, or an array has
            become read-only. Nothing is changed.
        """
        moved = [(k, item) for k, item in enumerate(self.items) if self._steps_without_grad or item.has_grad]
        _apply_all([(self, k, self._prepare(k, item.batches())) for k, item in moved])

    def train(self, layer: Trainable, batches: dict[str, Batch], commit: kernels.Commit | None = None) -> None:
        """Take one step of one layer with the gradients of one backward pass."""
        self.train_together([(layer, batches)], (), commit)

    def train_together(
        self,
        given: Sequence[tuple[Trainable, dict[str, Batch]]],
        others: Sequence[Optimizer] = (),
        commit: kernels.Commit | None = None,
    ) -> None:
        """Take one step of each of several layers: all of them, or none.

        A layer is trained by this optimiser, or by that of the ``others`` that holds it. What a
        commit has already is written together with the steps.
        """
        holders: dict[int, list[tuple[Optimizer, int]]] = {id(layer): [] for layer, _ in given}
        for optimizer in (self, *others):
            for k, item in enumerate(optimizer.items):
                if id(item) in holders:
                    holders[id(item)].append((optimizer, k))
        for layer, _ in given:
            n = len(holders[id(layer)])
            if n != 1:
                found = f"{n} optimizers hold" if n else "optimizer does not hold"
                raise ValueError(f"{found} this layer: {_checks.shown(layer)}")
        with contextlib.ExitStack() as held:
            for layer, _ in sorted(given, key=lambda pair: id(pair[0])):
                held.enter_context(layer.lock)  # of two threads that train one layer each takes a step of its own
            steps = []
            for layer, batches in given:
                ((optimizer, k),) = holders[id(layer)]
                steps.append((optimizer, k, optimizer._prepare(k, {name: [batch] for name, batch in batches.items()})))
            _apply_all(steps, commit)

    @own_floats
    def _prepare(self, k: int, batches: dict[str, list[Batch]]) -> Step:
        """The next step of item k, checked completely before anything is written."""
        item, options, number = self.items[k], self._options_of(k), int(self._steps[k]) + 1
        scalars = self.scalars(options, number)
        if not item.trainable:
            return Step(scalars, options, False, [])
        item.storage.check_owner(self)
        for name, array in item.tables.items():
            _checks.writable(f"{name} of item {k}", array)
        scalars[_SCALARS.index("number")] = number
        rate = float(max(scalars[_SCALARS.index("lr")], scalars[_SCALARS.index("decay")]))
        if options["maximize"]:
            batches = {name: [batch.negated() for batch in parts] for name, parts in batches.items()}
        parts = [pair for name, tables in self._tables_of(k, options).items() for pair in zip(tables, batches[name], strict=True)]
        for table, _ in parts:
            table.check_rate(f"the learning rate of step {number}", rate)
        return Step(scalars, options, item.by_rows and self.moves_without_gradient(options), parts)

    def flush(self) -> None:
        """Apply the pending updates of all rows, and of their state.

        Mapped files are written by ``flush`` of their layer.
        """
        for k, item in enumerate(self.items):
            item.apply_pending()
            for tables in (self._tables[k] or {}).values():
                for table in tables:
                    table.apply_all()

    def __dir__(self) -> list[str]:
        return [*without_internals(super().__dir__(), _INTERNAL), *self.options]

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={getattr(self, name)}" for name in self.options)
        own = [{name: group[name] for name in self.options if group[name] != getattr(self, name)} for group in self.param_groups]
        groups = f", groups={_checks.listed(own)}" if len(own) > 1 else ""
        return f"{type(self).__name__}({counted(len(self.items), 'item')}, {options}{groups})"


def _apply_all(steps: list[tuple[Optimizer, int, Step]], commit: kernels.Commit | None = None) -> None:
    """Take prepared steps of some items, each of an optimiser: all of them together, or none.

    What a commit has already is written together with them.

    The locks of the items are acquired in one order, so that two optimisers do not wait for each
    other.
    """
    commit = kernels.Commit() if commit is None else commit
    with contextlib.ExitStack() as held:
        for optimizer, k, step in sorted(steps, key=lambda of_step: id(of_step[0].items[of_step[1]])):
            if step.parts:
                held.enter_context(optimizer.items[k].updating(optimizer._tables[k] or {}))
            for table, batch in step.parts:
                table.add_step(commit, step.scalars, step.is_recorded, batch)
            optimizer._track(k, step.options)
            commit.add_copy(optimizer._steps[k : k + 1], optimizer._steps[k : k + 1] + 1)
        commit.run()
