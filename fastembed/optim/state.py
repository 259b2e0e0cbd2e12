"""Stateful: parameter groups and options, step counts and state arrays; saving and loading them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .. import _checks
from .._kernels.backend import kernels
from .._kernels.floats import own_floats
from .._messages import of_names
from ..tables.lazy_table import LazyTable
from ..tables.storage import State, StateSpec
from ..tables.trainable import ReadOnlyCopy, Trainable, read_only_copy
from . import torch_state
from .groups import ROW_OPTIONS, Fixed, Group, kind_of

if TYPE_CHECKING:
    from .._typing import Array

Options = dict[str, Any]
Rate = float | Callable[[int], float]  # a learning rate, or a function of the step
Checks = dict[str, Callable[[str, Any], Any]]
MASTER = "master"
_MOST_STEPS = 2**53  # to load: a float64 counts no further
_FIXED = ("param_groups", "items")  # what an optimiser gets when it is made
_LATER_OPTIONS = {"maximize": False, "dampening": 0.0}  # which states saved by earlier versions lack


class Stateful:
    """Items in parameter groups, as in PyTorch, with the step count and the state of each item.

    Every group has a value for each option. An option is also an attribute, for the groups that
    were not given a value of their own: setting it sets it in all of them, reading it reads the
    first of them. Values that are written into a group are checked in the next step.
    """

    options: ClassVar[Checks]  # the check for the value of each option
    state_names: ClassVar[tuple[str, ...]]
    optional_state: ClassVar[tuple[str, ...]] = ()  # a state to load may lack these, which are then zeros
    is_decoupled: ClassVar[bool] = False  # whether weight decay is decoupled
    lr: Rate
    trainable_rows = ReadOnlyCopy()
    lr_multipliers = ReadOnlyCopy()

    def __init__(self, layers_and_parameters: Any, options: Options, has_masters: bool) -> None:
        self._defaults = {name: check(name, options[name]) for name, check in self.options.items()}
        groups = _groups(layers_and_parameters)
        self.param_groups = Fixed(self._group(group) for group in groups)
        self._given_names = [set(group) for group in groups]  # the options that each group was given
        self.items: list[Trainable] = Fixed(item for group in self.param_groups for item in group["params"])
        _check_no_overlap(self.items)
        self._group_of = [group for group in self.param_groups for _ in group["params"]]
        self._has_masters = has_masters
        self._steps = self._stored_steps()
        self._state = [self._new_state(k, self._options_of(k)) for k in range(len(self.items))]
        self._steps = self._stored_steps()  # those of another optimiser are not counted
        self._tables: list[dict[str, list[LazyTable]] | None] = [None] * len(self.items)  # None: not made yet
        self._row_options: list[Any] = [None] * len(self.items)
        self._attach()

    def _stored_steps(self) -> Array:
        return np.array([item.storage.step if item.trainable else 0 for item in self.items], np.int64)

    def _attach(self) -> None:
        """Let the items know this optimiser, so that it resizes its state with them."""
        for item in self.items:
            item.optimizers.add(self)

    def _group(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """A parameter group with its items as a list, and all options, checked."""
        unknown = set(given) - {"params", *self.options, *ROW_OPTIONS}
        if unknown or "params" not in given:
            names = _checks.listed(sorted(given, key=_checks.shown))
            raise KeyError(f"a parameter group has params and options of {sorted(self.options)}, got {names}")
        params = given["params"]
        items = [params] if isinstance(params, Trainable) else list(params)
        for k, item in enumerate(items):
            if not isinstance(item, Trainable):
                raise TypeError(f"item {k} must be a layer or a Parameter, got {kind_of(item)}")
            item.storage.check_can_train(f"item {k}")
        rows = {name: read_only_copy(given[name]) for name in ROW_OPTIONS if name in given}
        return Group({"params": Fixed(items), **self._checked({**self._defaults, **given}), **rows}, self.options)

    def _checked(self, group: Mapping[str, Any]) -> Options:
        """The options of a group, checked."""
        return {name: check(name, group[name]) for name, check in self.options.items()}

    def _options_of(self, k: int) -> Options:
        """The options of the next step of item k."""
        return _at_step(self._checked(self._group_of[k]), int(self._steps[k]))

    def _options_of_group(self, group: Mapping[str, Any]) -> Options:
        """The options of the next step of the first item in a group."""
        first = next((k for k, own in enumerate(self._group_of) if own is group), None)
        return _at_step(self._checked(group), 0) if first is None else self._options_of(first)

    def _row_options_of(self, k: int) -> tuple[Any, ...]:
        """The row options of item k: of the layer itself, then those of its group."""
        item, group = self.items[k], self._group_of[k]
        return item.trainable_rows, *(group.get(name, getattr(self, name)) for name in ROW_OPTIONS)

    def _groups_without_own(self, name: str) -> list[dict[str, Any]]:
        """The groups that were not given a value of that option."""
        return [group for group, given in zip(self.param_groups, self._given_names, strict=True) if name not in given]

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.options:
            if not (name.startswith("_") or name in ROW_OPTIONS or (name in _FIXED and name not in self.__dict__)):
                raise AttributeError(f"{self._missing(name)}, and {' and '.join(_FIXED)} are fixed")
            object.__setattr__(self, name, value)
            return
        self._defaults[name] = value = self.options[name](name, value)
        for group in self._groups_without_own(name):
            group[name] = value

    def __getattr__(self, name: str) -> Any:
        if name not in self.options:
            raise AttributeError(self._missing(name))
        return next((group[name] for group in self._groups_without_own(name)), self._defaults[name])

    def _missing(self, name: str) -> str:
        known = ", ".join((*self.options, *ROW_OPTIONS))
        return f"{type(self).__name__} has no option {_checks.shown(name, str)}; it has {known}"

    def flush(self) -> None:
        """Apply the pending updates of all rows, and of their state."""
        raise NotImplementedError

    def needs_state(self, options: Options) -> bool:
        """Whether a step with these options needs the state arrays."""
        return True

    def state_start(self, options: Options) -> float:
        """The initial value of state arrays."""
        return 0.0

    def state_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of a state array for an array of that shape."""
        return shape

    def _state_kinds(self, k: int, options: Options, given: Any = ()) -> tuple[str, ...]:
        """The names of item k's state arrays that options need or ``given`` has, masters last."""
        is_half = all(_checks.is_half(array.dtype) for array in self.items[k].tables.values())
        names = self.state_names if self.needs_state(options) or any(name in given for name in self.state_names) else ()
        return (*names, *((MASTER,) if self._has_masters and is_half else ()))

    def _spec(self, kind: str, options: Options, shape: tuple[int, ...], dtype: np.dtype[Any]) -> StateSpec:
        """The spec of a state array for an array of that shape; zeros in a master mean unset."""
        if kind == MASTER:
            return StateSpec(shape, np.dtype(np.float32), 0.0)
        return StateSpec(self.state_shape(shape), _checks.arithmetic_dtype(dtype), self.state_start(options))

    def _new_state(self, k: int, options: Options, given: Any = ()) -> State:
        item = self.items[k]
        specs = {
            kind: {name: self._spec(kind, options, array.shape, array.dtype) for name, array in item.tables.items()}
            for kind in self._state_kinds(k, options, given)
        }
        return item.storage.states(self if item.trainable else None, options, specs)

    def _track(self, k: int, options: Options) -> None:
        """Let the storage of item k know where the step count of the item is."""
        if self.items[k].trainable:
            self.items[k].storage.track(self, self._steps[k : k + 1], options)

    @property
    def step_counts(self) -> list[int]:
        """The number of steps that each item has taken."""
        return self._steps.tolist()

    def state_dict(self) -> dict[str, Any]:
        """The options, and for each item its step count and state arrays (not copied), up to date.

        Returns
        -------
        dict
            ``"optimizer"``, the name of its class; each option by name, of an ``lr`` that is a
            function its value in the next step; ``"groups"``, for each
            parameter group the options that differ; and ``"items"``, a list of ``{"step": int,
            state: {name: ndarray}}``.
        """
        self.flush()
        items = [{"step": step, **self._state_views(k)} for k, step in enumerate(self.step_counts)]
        options = _at_step(self._checked({name: getattr(self, name) for name in self.options}), max(self.step_counts, default=0))
        groups = [dict(self._options_of_group(group).items() - options.items()) for group in self.param_groups]
        return {"optimizer": type(self).__name__} | options | {"groups": groups, "items": items}

    def _state_views(self, k: int) -> State:
        """The state arrays of item k, as views for the user."""
        view = self.items[k].storage.view
        return {kind: {name: view(array) for name, array in arrays.items()} for kind, arrays in self._state[k].items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Copy a state from `state_dict` into this optimiser.

        Where ``lr`` is a function here, it stays, and goes on from the step that is loaded.

        Raises
        ------
        KeyError, ValueError, TypeError
            The state is of another kind of optimiser, a name is missing or unexpected, or an array
            has another shape. Nothing is changed.
        """
        later = {name: value for name, value in _LATER_OPTIONS.items() if name in self.options}
        given = _checks.mapping("the state", state)
        state = {"optimizer": type(self).__name__, **later, **given}
        if state["optimizer"] != type(self).__name__:
            raise ValueError(f"the state is one of {_checks.shown(state['optimizer'], str)}, not of {type(self).__name__}")
        expected = {"optimizer", *self.options, "groups", "items"}
        if set(state) != expected:
            lacking, others = sorted(expected - set(state)), sorted(set(given) - expected, key=_checks.shown)
            raise KeyError(f"the state of an optimiser: {of_names(lacking, others, sorted(expected))}")
        options = {name: check(name, state[name]) for name, check in self.options.items()}
        groups = _list_of("groups", state["groups"], len(self.param_groups))
        for group in groups:
            if not isinstance(group, Mapping) or not set(group) <= set(self.options):
                raise KeyError(f"a group of the state must have options of {sorted(self.options)}, got {_checks.shown(group)}")
        groups = [self._checked(options | group) for group in groups]
        self._load(_list_of("items", state["items"], len(self.items)), options, groups)

    def load_torch_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load ``torch_optimizer.state_dict()`` of the PyTorch optimiser of the same name.

        PyTorch's parameters correspond in order to the arrays of this optimiser's items (``wte``
        before ``wpe``).

        Parameters
        ----------
        state : mapping
            With ``"state"``, each parameter's ``"step"`` and state tensors (a missing parameter has
            taken no step), and ``"param_groups"``, the options.

        Raises
        ------
        KeyError, ValueError, TypeError
            An array is missing or has another shape, an option is unsupported here (amsgrad), or
            two tables of one layer have different step counts. Nothing is changed.
        """
        groups, states = torch_state.parts(state)
        arrays = [(k, name, array) for k, item in enumerate(self.items) for name, array in item.tables.items()]
        if len(states) != len(arrays) or len(groups) not in (1, len(self.param_groups)):
            raise ValueError(f"a state of {len(states)} parameters in {len(groups)} groups is not one of {len(arrays)} arrays")
        loaded, options = torch_state.options(groups, self.options, type(self).__name__, self.is_decoupled), self._defaults
        if len(groups) == 1:  # options that a group here was given stay
            options = options | loaded[0]
            loaded = [{name: value for name, value in loaded[0].items() if name not in given} for given in self._given_names]
        new_groups = [self._checked(group | new) for group, new in zip(self.param_groups, loaded, strict=True)]
        items: list[dict[str, Any]] = [{"step": None} for _ in self.items]
        for number, ((k, name, array), given) in enumerate(zip(arrays, states, strict=True)):
            step = _checks.whole_number(f"step of parameter {number}", given.get("step", 0))
            if items[k]["step"] not in (None, step):
                raise ValueError(f"{name} of item {k} has taken {step} steps, and another table of it {items[k]['step']}")
            items[k]["step"] = step
            for kind in self._state_to_load(k, new_groups, ()):
                is_new = kind == MASTER or not given or (kind in self.optional_state and given.get(kind) is None)
                value = self._spec(kind, options, array.shape, array.dtype).allocate() if is_new else given.get(kind)
                if value is None:
                    raise KeyError(f"the state of parameter {number} has no {kind}")
                items[k].setdefault(kind, {})[name] = _checks.as_array(f"{kind} of parameter {number}", value)
        self._load(items, options, new_groups)

    def _state_to_load(self, k: int, groups: list[Options], given: Any) -> State:
        """The state arrays of item k, with new ones if the options or state to load need them."""
        new_options = next(new for group, new in zip(self.param_groups, groups, strict=True) if group is self._group_of[k])
        options = _at_step(new_options, int(self._steps[k]))
        own = self._state[k]
        return own if set(self._state_kinds(k, options, given)) <= set(own) else self._new_state(k, options, given) | own

    @own_floats
    def _load(self, items: list[Any], options: Options, groups: list[Options]) -> None:
        """Load items, options and those of each group; on an error nothing has changed."""
        for k, given in enumerate(items):
            _checks.mapping(f"item {k}", given)
        states = [self._state_to_load(k, groups, given) for k, given in enumerate(items)]
        trained = [item for item in self.items if item.trainable]
        for item in trained:
            item.storage.check_owner(self)
        steps, loaded = [], []
        for k, (own, given) in enumerate(zip(states, items, strict=True)):
            for kind in own.keys() & set(self.optional_state) - given.keys():
                given = {**given, kind: {name: np.broadcast_to(0.0, array.shape) for name, array in own[kind].items()}}
            _check_names(f"item {k}", given, {*own, "step"})
            steps.append(_checks.size(f"step of item {k}", given["step"], _MOST_STEPS))
            for kind, arrays in own.items():
                _check_names(f"{kind} of item {k}", given[kind], set(arrays))
                for name, array in arrays.items():
                    value = _checks.convertible_array(f"{kind}.{name}", given[kind][name], array.shape, array.dtype)
                    loaded.append((array, value))
        self.flush()
        tables = [known if new is old else None for known, new, old in zip(self._tables, states, self._state, strict=True)]
        commit = kernels.Commit()
        for target, source in _checks.sources_for(loaded):
            commit.add_copy(target, source)
        commit.add_copy(self._steps, np.array(steps, np.int64))
        commit.set_attribute(self, "_defaults", _with_function(options, self._defaults))
        commit.set_attribute(self, "_tables", tables)
        commit.set_attribute(self, "_state", states)
        for group, new in zip(self.param_groups, groups, strict=True):
            for name, value in _with_function(new, group).items():
                commit.set_item(group, name, value)
        for item in trained:
            item.storage.begin_write(None)
        commit.run()
        for item in trained:
            item.storage.end_write()

    def add_resized(self, commit: kernels.Commit, item: Trainable, name: str, n_rows: int, stored: Mapping[str, Array]) -> None:
        """Let the commit put the state of a resized table in the place of the old one.

        ``stored`` has the resized arrays, by kind, of an item that is not in memory.
        """
        (k,) = (k for k, known in enumerate(self.items) if known is item)
        options, table = self._options_of(k), item.tables[name]
        shape, dtype = (n_rows, *table.shape[1:]), _checks.native(table.dtype)
        for kind, arrays in self._state[k].items():
            spec = self._spec(kind, options, shape, dtype)
            commit.set_item(arrays, name, stored[kind] if kind in stored else spec.resized(arrays[name]))
        commit.set_item(self._tables, k, None)

    def __getstate__(self) -> dict[str, Any]:
        self.flush()
        return {**self.__dict__, "_tables": [None] * len(self.items), "_row_options": [None] * len(self.items)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _steps=state["_steps"].copy())
        for name in ROW_OPTIONS:  # copying lost the read-only flag of arrays
            setattr(self, name, state[name])
        self._attach()


def _at_step(options: Options, step: int) -> Options:
    """The options with a learning rate that is a function replaced by its value, checked."""
    lr = options["lr"]
    return {**options, "lr": _checks.non_negative(f"lr({step})", lr(step))} if callable(lr) else options


def _with_function(loaded: Options, own: Mapping[str, Any]) -> Options:
    """Options that were loaded, but for a learning rate of one's own that is a function."""
    return {**loaded, "lr": own["lr"]} if callable(own["lr"]) else loaded


def _groups(given: Any) -> list[Mapping[str, Any]]:
    """The given parameter groups, or one group of all items."""
    if isinstance(given, Trainable):
        return [{"params": [given]}]
    if not isinstance(given, Iterable):
        raise TypeError(f"expected a layer, a Parameter, or an iterable of them, got {kind_of(given)}")
    parts = list(given)
    if parts and all(isinstance(part, Mapping) for part in parts):
        return parts
    return [{"params": parts}]


def _check_no_overlap(items: list[Trainable]) -> None:
    """ValueError or TypeError unless every array is writable and overlaps no other."""
    seen: list[tuple[str, Array]] = []
    for k, item in enumerate(items):
        for name, array in item.moved_tables().items():
            what = f"{name} of item {k}"
            _checks.writable(what, array)
            for other_name, other in seen:
                _checks.check_no_overlap(what, array, **{other_name: other})
            seen.append((what, array))
    first_of: dict[int, int] = {}
    for k, item in enumerate(items):
        first = first_of.setdefault(id(item), k)
        if first != k:  # frozen: its arrays are not among those that are written
            raise ValueError(f"item {k} must not overlap item {first}, which is the same")


def _check_names(what: str, given: Any, expected: set[str]) -> None:
    if set(_checks.mapping(what, given)) != expected:
        raise KeyError(f"{what} must have the names {sorted(expected)}, got {_checks.listed(sorted(given, key=_checks.shown))}")


def _list_of(what: str, given: Any, length: int) -> list[Any]:
    if not isinstance(given, list | tuple) or len(given) != length:
        raise ValueError(f"{what} of the state must be a list of {length}, got {_checks.shown(given)}")
    return list(given)
