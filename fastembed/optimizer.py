"""What all optimisers share: items, options by group, state arrays, and steps that change all or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from . import _checks
from ._backend import kernels
from .layer import Layer
from .parameter import Item, Parameter
from .rowgrad import Batch, plain_batch
from .trained import TrainedTable

if TYPE_CHECKING:
    from ._typing import Array
    from .mapped import MappedFiles


Options = dict[str, Any]
Checks = dict[str, Callable[[str, Any], Any]]
_SCALARS = ("lr", "beta1", "alpha1", "beta2", "alpha2", "correction", "eps", "l2", "decay", "nesterov", "number")
_ROW_OPTIONS = ("trainable_rows", "lr_multipliers")
_MASTER = "master"
_FOREIGN = ("amsgrad", "maximize", "dampening", "weight_decay")  # options of PyTorch's that change the numbers
_STREAMS = 16  # of random numbers, for the tables of one item


def scalars(**values: float) -> Array:
    """The scalars of one step, as the kernels take them."""
    step = np.zeros(kernels.N_SCALARS)
    step[: len(_SCALARS)] = [values.get(name, 1.0 if name in ("beta2", "correction", "eps") else 0.0) for name in _SCALARS]
    return step


def _arrays(item: Item) -> dict[str, Array]:
    """What an item consists of, by name; rows may be behind."""
    return {"data": item.data} if isinstance(item, Parameter) else item.tables


def _trained_arrays(item: Item) -> dict[str, Array]:
    """What an optimiser may move: nothing of a frozen layer."""
    return _arrays(item) if isinstance(item, Parameter) or item.trainable else {}


def _files_of(item: Item) -> MappedFiles | None:
    """The mapped files that an item is trained in, if it is."""
    return item.files if isinstance(item, Layer) and item.trainable else None


def _matrices(array: Array, n_axes: int = 2) -> list[Array]:
    """Views that cover an array, each of the last ``n_axes`` of its axes; one matrix of one row where it has fewer than two."""
    if array.ndim < n_axes:
        return [array.reshape((1, -1)[:n_axes])]
    return [array[index] for index in np.ndindex(array.shape[: array.ndim - n_axes])]


class Optimizer:
    """What to update, how far each item has come, and the state arrays of each. Subclasses say how one step goes."""

    rule: ClassVar[str]
    options: ClassVar[Checks]  # each option, and what checks a value for it
    is_decoupled: ClassVar[bool] = False  # whether weight decay is, where PyTorch has one optimiser for both

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
        for name, value in options.items():
            setattr(self, name, value)
        self.trainable_rows = trainable_rows
        self.lr_multipliers = lr_multipliers
        self._has_masters = _checks.flag("master_rows", master_rows)
        self._seed = None if stochastic_rounding is None else _checks.size("stochastic_rounding", stochastic_rounding)
        if self._has_masters and self._seed is not None:
            raise ValueError("master_rows and stochastic_rounding exclude each other: masters lose nothing")
        self.param_groups = [self._group(given) for given in _groups(layers_and_parameters)]
        self.items: list[Item] = [item for group in self.param_groups for item in group["params"]]
        _check_apart(self.items)
        self._group_of = [group for group in self.param_groups for _ in group["params"]]
        self._steps = [0] * len(self.items)
        self._state = [self._new_state(k, self._options_of(k)) for k in range(len(self.items))]
        self._tables: list[dict[str, list[TrainedTable]] | None] = [None] * len(self.items)
        self._row_options: list[Any] = [None] * len(self.items)
        self._attach()

    def _attach(self) -> None:
        for item in self.items:
            if isinstance(item, Layer):
                item.optimizers.add(self)

    def _group(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """A parameter group: its items as a list, and the options in which it differs, checked."""
        unknown = set(given) - {"params", *self.options, *_ROW_OPTIONS}
        if unknown or "params" not in given:
            raise KeyError(f"a parameter group has params and options of {sorted(self.options)}, got {sorted(map(str, given))}")
        params = given["params"]
        items = [params] if isinstance(params, Item) else list(params)
        for item in items:
            if not isinstance(item, Item):
                raise TypeError(f"item {items.index(item)} must be a layer or a Parameter, got {type(item).__name__}")
        return {
            **given,
            "params": items,
            **{name: self.options[name](name, given[name]) for name in self.options if name in given},
        }

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, self.options[name](name, value) if name in self.options else value)

    def _options_of(self, k: int) -> Options:
        """The options of item k, those of its group first, as they are now."""
        group = self._group_of[k]
        return {name: check(name, group[name]) if name in group else getattr(self, name) for name, check in self.options.items()}

    # ---- what subclasses say ----

    def state_names(self, options: Options) -> tuple[str, ...]:
        """The state arrays that these options need."""
        return ()

    def state_start(self, options: Options) -> float:
        """What state arrays are filled with at first."""
        return 0.0

    def state_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the state of an array."""
        return shape

    def scalars(self, options: Options, t: int) -> Array:
        """The scalars of step t (from 1)."""
        raise NotImplementedError

    def moves_without_gradient(self, options: Options) -> bool:
        """Whether a step changes rows that have no gradient, or their state."""
        return False

    # ---- state ----

    def _state_kinds(self, k: int, options: Options) -> tuple[str, ...]:
        """The state arrays of item k by name; masters, of rows of half precision alone, come last."""
        is_half = all(_checks.is_half(array.dtype) for array in _arrays(self.items[k]).values())
        return (*self.state_names(options), *((_MASTER,) if self._has_masters and is_half else ()))

    def _spec(
        self, kind: str, options: Options, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> tuple[tuple[int, ...], np.dtype[Any], float]:
        """Shape, dtype and first value of a state of an array of that shape and dtype; in a master zeros mean none."""
        if kind == _MASTER:
            return shape, np.dtype(np.float32), 0.0
        return self.state_shape(shape), _checks.arithmetic(dtype), self.state_start(options)

    def _new_array(self, kind: str, options: Options, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """A state of an array of that shape and dtype. Zeros take no memory before they are used."""
        shape, dtype, start = self._spec(kind, options, shape, dtype)
        return np.zeros(shape, dtype) if start == 0 else np.full(shape, start, dtype)

    def _new_state(self, k: int, options: Options) -> dict[str, dict[str, Array]]:
        item, files, kinds = self.items[k], _files_of(self.items[k]), self._state_kinds(k, options)
        if files is not None:
            specs = {kind: self._spec(kind, options, files.table.shape, files.table.dtype) for kind in kinds}
            states = files.states(self, options, specs)
            self._steps[k] = files.step
            return {kind: {"weight": states[kind]} for kind in kinds}
        return {
            kind: {name: self._new_array(kind, options, array.shape, array.dtype) for name, array in _arrays(item).items()}
            for kind in kinds
            if isinstance(item, Parameter) or item.files is None  # a frozen table in a file may be larger than memory
        }

    def _tables_of(self, k: int, options: Options) -> dict[str, list[TrainedTable]]:
        """The arrays of item k with their state, as they are trained."""
        if set(self._state_kinds(k, options)) - set(self._state[k]):  # an option was changed to one that needs more
            self._state[k] = self._new_state(k, options) | self._state[k]
            self._tables[k] = None
        tables = self._tables[k]
        if tables is None:
            tables = self._tables[k] = {
                name: [
                    self._trained(
                        table,
                        states,
                        None if self._seed is None else (self._seed, _STREAMS * k + place),
                        _files_of(self.items[k]),
                    )
                    for table, *states in zip(_matrices(array), *self._state_matrices(k, name, array), strict=True)
                ]
                for place, (name, array) in enumerate(_trained_arrays(self.items[k]).items())
            }
            self._row_options[k] = None
        self._set_multipliers(k, tables)
        return tables

    def _trained(
        self, table: Array, states: list[Array], seed: tuple[int, int] | None, files: MappedFiles | None
    ) -> TrainedTable:
        master = states.pop() if self._has_masters and _checks.is_half(table.dtype) else None
        return TrainedTable(self.rule, table, states, master, seed, files)

    def _state_matrices(self, k: int, name: str, array: Array) -> list[list[Array]]:
        """Each state of an array, in parts as `_matrices` cuts the array itself."""
        states = [arrays[name] for arrays in self._state[k].values()]
        return [_matrices(state, 2 if state.shape == array.shape else 1) for state in states]

    def _set_multipliers(self, k: int, tables: dict[str, list[TrainedTable]]) -> None:
        """Hand on what `trainable_rows` and `lr_multipliers` say, if it is not what they said last time."""
        item, group = self.items[k], self._group_of[k]
        if isinstance(item, Parameter):
            return
        given = (item.trainable_rows, *(group.get(name, getattr(self, name)) for name in _ROW_OPTIONS))
        known = self._row_options[k]
        if known is not None and all(a is b for a, b in zip(known, given, strict=True)):
            return
        first = next(iter(item.tables))
        by_name = [value if value is None or isinstance(value, Mapping) else {first: value} for value in given]
        multipliers = {}
        for name, table in item.tables.items():
            of_layer, of_group, factors = (None if value is None else value.get(name) for value in by_name)
            masks = [_checks.row_mask("trainable_rows", rows, len(table)) for rows in (of_layer, of_group) if rows is not None]
            if factors is not None:
                masks.append(_checks.row_factors("lr_multipliers", factors, len(table)))
            multipliers[name] = np.prod(masks, axis=0, dtype=np.float64) if masks else None
        with item.lock:
            for name, parts in tables.items():
                parts[0].set_multipliers(multipliers[name])
        self._row_options[k] = given

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
        prepared = [self._prepared(k, self._batches(item)) for k, item in enumerate(self.items)]
        for k, item in enumerate(prepared):
            self._take(k, *item)

    def train(self, layer: Layer, batches: dict[str, Batch]) -> None:
        """Take one step of one layer with the gradients of a call."""
        found = [k for k, item in enumerate(self.items) if item is layer]
        if not found:
            raise ValueError(f"optimizer does not hold this layer: {layer!r}")
        with layer.lock:  # two threads that train one layer take two steps, not one twice
            self._take(found[0], *self._prepared(found[0], {name: [batch] for name, batch in batches.items()}))

    def _batches(self, item: Item) -> dict[str, list[Batch]]:
        """The accumulated gradient of an item."""
        if isinstance(item, Layer):
            return {name: [grad.checked(item.tables[name])] for name, grad in item.grads().items()}
        grads = _matrices(item.checked_grad())
        return {"data": [plain_batch(np.arange(len(grad)), np.ascontiguousarray(grad)) for grad in grads]}

    def _prepared(self, k: int, batches: dict[str, list[Batch]]) -> tuple[Array, bool, list[tuple[TrainedTable, Batch]]]:
        """The scalars of the next step of item k, whether it is recorded, and each of its arrays with its batch."""
        item, options, files = self.items[k], self._options_of(k), _files_of(self.items[k])
        if files is not None:
            files.check_owner(self)
        for name, array in _trained_arrays(item).items():
            _checks.writable(f"{name} of item {k}", array)
        if not _trained_arrays(item):
            return self.scalars(options, self._steps[k] + 1), False, []
        step = self.scalars(options, self._steps[k] + 1)
        step[_SCALARS.index("number")] = self._steps[k] + 1
        parts = [pair for name, tables in self._tables_of(k, options).items() for pair in zip(tables, batches[name], strict=True)]
        is_recorded = isinstance(item, Layer) and self.moves_without_gradient(options)
        return step, is_recorded, parts

    def _take(self, k: int, step: Array, is_recorded: bool, parts: list[tuple[TrainedTable, Batch]]) -> None:
        item = self.items[k]
        if isinstance(item, Parameter):
            for table, batch in parts:
                table.train(step, is_recorded, batch)
        elif parts:
            with item.trained_by({name: tables[0] for name, tables in (self._tables[k] or {}).items()}):
                for table, batch in parts:
                    table.train(step, is_recorded, batch)
        self._steps[k] += 1
        self._tell(k)

    def _tell(self, k: int) -> None:
        """Let the files of item k know how far it has come, if it has any."""
        files = _files_of(self.items[k])
        if files is not None:
            files.steps_taken(self, self._steps[k], self._options_of(k))

    def flush(self) -> None:
        """Bring all rows up to date, and their state: each takes the steps that it has missed so far.

        Mapped files are written by the ``flush`` of their layer.
        """
        for k, item in enumerate(self.items):
            if isinstance(item, Layer):
                item.settle()
            for tables in (self._tables[k] or {}).values():
                for table in tables:
                    table.flush()

    # ---- keeping, loading, resizing ----

    def state_dict(self) -> dict[str, Any]:
        """The options, and for each item its step count and its state arrays (themselves, not copies), up to date.

        Returns
        -------
        dict
            Option names to numbers, ``"groups"`` to a list of the options in which each parameter group differs, and ``"items"``
            to a list of ``{"step": int, state: {name: ndarray}}``.
        """
        self.flush()
        items = [{"step": step, **self._shown_state(k)} for k, step in enumerate(self._steps)]
        groups = [{name: group[name] for name in self.options if name in group} for group in self.param_groups]
        return {name: getattr(self, name) for name in self.options} | {"groups": groups, "items": items}

    def _shown_state(self, k: int) -> dict[str, dict[str, Array]]:
        """The state arrays of item k as they are handed out: those in mapped files are not to be written."""
        files = getattr(self.items[k], "files", None)
        if files is None:
            return self._state[k]
        return {kind: {name: files.shown(array) for name, array in arrays.items()} for kind, arrays in self._state[k].items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Copy what `state_dict` returned into this optimiser.

        Raises
        ------
        KeyError, ValueError, TypeError
            A name is missing or unexpected, or an array has another shape. Nothing is changed.
        """
        _same_names("the state", state, {*self.options, "groups", "items"})
        options = {name: check(name, state[name]) for name, check in self.options.items()}
        groups = _list_of("groups", state["groups"], len(self.param_groups))
        for group in groups:
            if not isinstance(group, Mapping) or not set(group) <= set(self.options):
                raise KeyError(f"a group of the state must have options of {sorted(self.options)}, got {group!r:.80}")
        groups = [{name: self.options[name](name, value) for name, value in group.items()} for group in groups]
        self._load(_list_of("items", state["items"], len(self.items)), options, groups)

    def load_torch_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of the PyTorch optimiser of the same name: ``torch_optimizer.state_dict()``.

        PyTorch's parameters are taken in their order for the arrays of this optimiser's items in theirs (``wte`` before ``wpe``).

        Parameters
        ----------
        state : mapping
            With ``"state"``, each parameter's ``"step"`` and state tensors (one that is missing has not taken a step), and
            ``"param_groups"``, the options.

        Raises
        ------
        KeyError, ValueError, TypeError
            Something is missing or of another shape, an option is one that there is none of here (amsgrad, maximize), or two
            tables of one layer have taken different numbers of steps. Nothing is changed.
        """
        groups, of_params = _torch_parts(state)
        numbers = [number for group in groups for number in group["params"]]
        arrays = [(k, name, array) for k, item in enumerate(self.items) for name, array in _arrays(item).items()]
        if len(numbers) != len(arrays) or len(groups) not in (1, len(self.param_groups)):
            raise ValueError(f"a state of {len(numbers)} parameters in {len(groups)} groups is not one of {len(arrays)} arrays")
        for group in groups:
            foreign = [name for name in _FOREIGN if group.get(name) and name not in self.options]
            if group.get("weight_decay") and group.get("decoupled_weight_decay", self.is_decoupled) != self.is_decoupled:
                foreign.append(f"decoupled_weight_decay={not self.is_decoupled}")
            if foreign:
                raise ValueError(f"a state with {', '.join(foreign)} cannot be taken over by {type(self).__name__}")
        known = [{name: check(name, group[name]) for name, check in self.options.items() if name in group} for group in groups]
        options = {name: getattr(self, name) for name in self.options} | (known[0] if len(groups) == 1 else {})
        known = known if len(groups) > 1 else [{} for _ in self.param_groups]
        items: list[dict[str, Any]] = [{"step": None} for _ in self.items]
        for number, (k, name, array) in zip(numbers, arrays, strict=True):
            given = of_params.get(number, {})
            step = _checks.whole(f"step of parameter {number}", given.get("step", 0))
            if items[k]["step"] not in (None, step):
                raise ValueError(f"{name} of item {k} has taken {step} steps, and another table of it {items[k]['step']}")
            items[k]["step"] = step
            for kind in self._state_for(k, options, known):
                value = given.get(kind) if given and kind != _MASTER else self._new_array(kind, options, array.shape, array.dtype)
                if value is None:
                    raise KeyError(f"the state of parameter {number} has no {kind}")
                items[k].setdefault(kind, {})[name] = np.asarray(value)
        self._load(items, options, known)

    def _state_for(self, k: int, options: Options, groups: list[Options]) -> dict[str, dict[str, Array]]:
        """The state arrays of item k, new ones among them if options that are about to be loaded need more."""
        own = next(new for group, new in zip(self.param_groups, groups, strict=True) if group is self._group_of[k])
        coming = options | {name: self._group_of[k][name] for name in options if name in self._group_of[k]} | own
        mine = self._state[k]
        return mine if set(self._state_kinds(k, coming)) <= set(mine) else self._new_state(k, coming) | mine

    def _load(self, items: list[Any], options: Options, groups: list[Options]) -> None:
        states = [self._state_for(k, options, groups) for k in range(len(self.items))]
        steps, loaded = [], []
        mapped = [files for files in map(_files_of, self.items) if files is not None]
        for files in mapped:
            files.check_owner(self)
        for k, (mine, given) in enumerate(zip(states, items, strict=True)):
            _same_names(f"item {k}", given, {*mine, "step"})
            steps.append(_checks.size(f"step of item {k}", given["step"]))
            for kind, arrays in mine.items():
                _same_names(f"{kind} of item {k}", given[kind], set(arrays))
                for name, array in arrays.items():
                    loaded.append((array, _checks.like(f"{kind}.{name}", given[kind][name], array.shape, array.dtype)))
        self.flush()
        for name, value in options.items():
            setattr(self, name, value)
        for group, changed in zip(self.param_groups, groups, strict=True):
            group.update(changed)
        self._tables = [
            tables if new is old else None for tables, new, old in zip(self._tables, states, self._state, strict=True)
        ]
        self._state, self._steps = states, steps
        for files in mapped:
            files.about_to_write(None)
        for k in range(len(self.items)):
            self._tell(k)
        _checks.copy_into(loaded)

    def resized(self, layer: Layer, name: str, n_rows: int) -> Callable[[], None]:
        """Make the state of a table that is about to have ``n_rows``; what is returned puts it in the place of the old one."""
        (k,) = (k for k, item in enumerate(self.items) if item is layer)
        options, made = self._options_of(k), {}
        for kind, arrays in self._state[k].items():
            if layer.files is not None:
                made[kind] = layer.files.states_now()[kind]
                continue
            old = arrays[name]
            new = self._new_array(kind, options, (n_rows, *layer.tables[name].shape[1:]), layer.dtype)
            new[: len(old)] = old[:n_rows]
            made[kind] = new

        def put() -> None:
            for kind, new in made.items():
                self._state[k][kind][name] = new
            self._tables[k] = None

        return put

    def __getstate__(self) -> dict[str, Any]:
        self.flush()
        return {**self.__dict__, "_tables": [None] * len(self.items), "_row_options": [None] * len(self.items)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._attach()

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={getattr(self, name)}" for name in self.options)
        return f"{type(self).__name__}({len(self.items)} items, {options})"


def _groups(given: Any) -> list[Mapping[str, Any]]:
    """Parameter groups: one of everything, or the mappings that were given."""
    if isinstance(given, Item):
        return [{"params": [given]}]
    if not isinstance(given, Iterable):
        raise TypeError(f"expected a layer, a Parameter, or an iterable of them, got {type(given).__name__}")
    parts = list(given)
    if parts and all(isinstance(part, Mapping) for part in parts):
        return parts
    return [{"params": parts}]


def _check_apart(items: list[Item]) -> None:
    """ValueError or TypeError unless every array can be written in place and shares memory with no other."""
    seen: list[tuple[str, Array]] = []
    for k, item in enumerate(items):
        for name, array in _trained_arrays(item).items():
            what = f"{name} of item {k}"
            _checks.writable(what, array)
            for other_name, other in seen:
                _checks.apart(what, array, **{other_name: other})
            seen.append((what, array))


def _same_names(what: str, given: Mapping[str, Any], expected: set[str]) -> None:
    if not isinstance(given, Mapping):
        raise TypeError(f"{what} must be a mapping, got {type(given).__name__}")
    if set(given) != expected:
        raise KeyError(f"{what} must have the names {sorted(expected)}, got {sorted(map(str, given))}")


def _torch_parts(state: Any) -> tuple[list[Mapping[str, Any]], Mapping[Any, Any]]:
    """The groups and the states of parameters of PyTorch's ``state_dict``."""
    if not isinstance(state, Mapping) or not {"state", "param_groups"} <= set(state) or not isinstance(state["state"], Mapping):
        raise TypeError(f"a state of PyTorch is a mapping with state, a mapping, and param_groups, got {state!r:.80}")
    groups = state["param_groups"]
    if not isinstance(groups, list | tuple) or not all(isinstance(group, Mapping) and "params" in group for group in groups):
        raise TypeError(f"param_groups of a state of PyTorch must be mappings with params, got {groups!r:.80}")
    return list(groups), state["state"]


def _list_of(what: str, given: Any, length: int) -> list[Any]:
    if not isinstance(given, list | tuple) or len(given) != length:
        raise ValueError(f"{what} of the state must be a list of {length}, got {given!r:.80}")
    return list(given)
