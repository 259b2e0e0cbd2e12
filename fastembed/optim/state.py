"""What an optimiser knows of its items: groups and their options, step counts and state arrays; all of it kept and loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .. import _checks
from ..layers.base import Layer
from ..layers.lazy_table import OwnRows, TrainedTable, own_rows
from .parameter import Item, Parameter

if TYPE_CHECKING:
    from .._typing import Array
    from ..io.mapped import MappedFiles

Options = dict[str, Any]
Checks = dict[str, Callable[[str, Any], Any]]
ROW_OPTIONS = ("trainable_rows", "lr_multipliers")
MASTER = "master"
_CHANGE_THE_NUMBERS = ("amsgrad", "maximize", "dampening", "weight_decay")  # of PyTorch's options


def arrays_of(item: Item) -> dict[str, Array]:
    """What an item consists of, by name; rows may be behind."""
    return {"data": item.data} if isinstance(item, Parameter) else item.tables


def trained_arrays(item: Item) -> dict[str, Array]:
    """What an optimiser may move: nothing of a frozen layer."""
    return arrays_of(item) if isinstance(item, Parameter) or item.trainable else {}


def files_of(item: Item) -> MappedFiles | None:
    """The mapped files that an item is trained in, if it is."""
    return item.files if isinstance(item, Layer) and item.trainable else None


class Stateful:
    """Items in groups, each of which has a value of every option, as in PyTorch; how far each item has come, and its state.

    An option that is an attribute is that of the groups that were given none of their own: written, it is written into all of
    them; read, it is what the first of them has. What anybody writes into a group is checked in the next step.
    """

    options: ClassVar[Checks]  # each option, and what checks a value for it
    state_names: ClassVar[tuple[str, ...]]
    is_decoupled: ClassVar[bool] = False  # whether weight decay is, where PyTorch has one optimiser for both
    lr: float
    trainable_rows = OwnRows()
    lr_multipliers = OwnRows()

    def __init__(self, layers_and_parameters: Any, options: Options, has_masters: bool) -> None:
        self._defaults = {name: check(name, options[name]) for name, check in self.options.items()}
        given = _groups(layers_and_parameters)
        self.param_groups = [self._group(group) for group in given]
        self._given = [set(group) for group in given]
        self.items: list[Item] = [item for group in self.param_groups for item in group["params"]]
        _check_apart(self.items)
        self._group_of = [group for group in self.param_groups for _ in group["params"]]
        self._has_masters = has_masters
        self._steps = [0] * len(self.items)
        self._state = [self._new_state(k, self._options_of(k)) for k in range(len(self.items))]
        self._tables: list[dict[str, list[TrainedTable]] | None] = [None] * len(self.items)  # with their state; None: as yet
        self._row_options: list[Any] = [None] * len(self.items)
        self._attach()

    def _attach(self) -> None:
        for item in self.items:
            if isinstance(item, Layer):
                item.optimizers.add(self)

    def _group(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """A parameter group: its items as a list, and all options, checked."""
        unknown = set(given) - {"params", *self.options, *ROW_OPTIONS}
        if unknown or "params" not in given:
            raise KeyError(f"a parameter group has params and options of {sorted(self.options)}, got {sorted(map(str, given))}")
        params = given["params"]
        items = [params] if isinstance(params, Item) else list(params)
        for item in items:
            if not isinstance(item, Item):
                raise TypeError(f"item {items.index(item)} must be a layer or a Parameter, got {type(item).__name__}")
            if isinstance(item, Layer) and item.files is not None and item.files.mode == "r":
                raise ValueError(
                    f"item {items.index(item)} is a table in a file, opened with mode 'r': only with 'r+' can it be trained"
                )
        rows = {name: own_rows(given[name]) for name in ROW_OPTIONS if name in given}
        return {"params": items, **self._checked({**self._defaults, **given}), **rows}

    def _checked(self, group: Mapping[str, Any]) -> Options:
        """The options of a group as they are now."""
        return {name: check(name, group[name]) for name, check in self.options.items()}

    def _options_of(self, k: int) -> Options:
        return self._checked(self._group_of[k])

    def _row_options_of(self, k: int) -> tuple[Any, ...]:
        """What the layer and the group of item k say of its rows."""
        item, group = self.items[k], self._group_of[k]
        return getattr(item, "trainable_rows", None), *(group.get(name, getattr(self, name)) for name in ROW_OPTIONS)

    def _followers(self, name: str) -> list[dict[str, Any]]:
        """The groups that were given no such option of their own."""
        return [group for group, given in zip(self.param_groups, self._given, strict=True) if name not in given]

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.options:
            object.__setattr__(self, name, value)
            return
        self._defaults[name] = value = self.options[name](name, value)
        for group in self._followers(name):
            group[name] = value

    def __getattr__(self, name: str) -> Any:
        if name not in self.options:
            raise AttributeError(f"{type(self).__name__} has no {name}")
        return next((group[name] for group in self._followers(name)), self._defaults[name])

    def flush(self) -> None:
        """Bring all rows up to date, and their state."""
        raise NotImplementedError

    def needs_state(self, options: Options) -> bool:
        """Whether a step with these options uses the state arrays."""
        return True

    def state_start(self, options: Options) -> float:
        """What state arrays are filled with at first."""
        return 0.0

    def state_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the state of an array."""
        return shape

    def _state_kinds(self, k: int, options: Options, given: Any = ()) -> tuple[str, ...]:
        """The state arrays of item k, by name, that options need or a state has; masters, of half precision alone, come last."""
        is_half = all(_checks.is_half(array.dtype) for array in arrays_of(self.items[k]).values())
        names = self.state_names if self.needs_state(options) or any(name in given for name in self.state_names) else ()
        return (*names, *((MASTER,) if self._has_masters and is_half else ()))

    def _spec(
        self, kind: str, options: Options, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> tuple[tuple[int, ...], np.dtype[Any], float]:
        """Shape, dtype and first value of a state of an array of that shape and dtype; in a master zeros mean none."""
        if kind == MASTER:
            return shape, np.dtype(np.float32), 0.0
        return self.state_shape(shape), _checks.arithmetic(dtype), self.state_start(options)

    def _new_array(self, kind: str, options: Options, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """A state of an array of that shape and dtype. Zeros take no memory before they are used."""
        shape, dtype, start = self._spec(kind, options, shape, dtype)
        return np.zeros(shape, dtype) if start == 0 else np.full(shape, start, dtype)

    def _new_state(self, k: int, options: Options, given: Any = ()) -> dict[str, dict[str, Array]]:
        item, files, kinds = self.items[k], files_of(self.items[k]), self._state_kinds(k, options, given)
        if files is not None:
            specs = {kind: self._spec(kind, options, files.table.shape, files.table.dtype) for kind in kinds}
            states = files.states(self, options, specs)
            self._steps[k] = files.step
            return {kind: {"weight": states[kind]} for kind in kinds}
        return {
            kind: {name: self._new_array(kind, options, array.shape, array.dtype) for name, array in arrays_of(item).items()}
            for kind in kinds
            if isinstance(item, Parameter) or item.files is None  # a frozen table in a file may be larger than memory
        }

    def _tell(self, k: int) -> None:
        """Let the files of item k know how far it has come, if it has any."""
        files = files_of(self.items[k])
        if files is not None:
            files.steps_taken(self, self._steps[k], self._options_of(k))

    def state_dict(self) -> dict[str, Any]:
        """The options, and for each item its step count and its state arrays (themselves, not copies), up to date.

        Returns
        -------
        dict
            ``"optimizer"`` to the name of its class, option names to numbers, ``"groups"`` to a list of the options in which
            each parameter group differs, and ``"items"`` to a list of ``{"step": int, state: {name: ndarray}}``.
        """
        self.flush()
        items = [{"step": step, **self._shown_state(k)} for k, step in enumerate(self._steps)]
        options = {name: check(name, getattr(self, name)) for name, check in self.options.items()}
        groups = [dict(self._checked(group).items() - options.items()) for group in self.param_groups]
        return {"optimizer": type(self).__name__} | options | {"groups": groups, "items": items}

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
            It is the state of another kind of optimiser, a name is missing or unexpected, or an array has another shape. Nothing
            is changed.
        """
        state = {"optimizer": type(self).__name__, **_mapping("the state", state)}
        if state["optimizer"] != type(self).__name__:
            raise ValueError(f"the state is one of {state['optimizer']}, not of {type(self).__name__}")
        _same_names("the state", state, {"optimizer", *self.options, "groups", "items"})
        options = {name: check(name, state[name]) for name, check in self.options.items()}
        groups = _list_of("groups", state["groups"], len(self.param_groups))
        for group in groups:
            if not isinstance(group, Mapping) or not set(group) <= set(self.options):
                raise KeyError(f"a group of the state must have options of {sorted(self.options)}, got {group!r:.80}")
        groups = [self._checked(options | group) for group in groups]
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
        groups, states = _torch_parts(state)
        arrays = [(k, name, array) for k, item in enumerate(self.items) for name, array in arrays_of(item).items()]
        if len(states) != len(arrays) or len(groups) not in (1, len(self.param_groups)):
            raise ValueError(f"a state of {len(states)} parameters in {len(groups)} groups is not one of {len(arrays)} arrays")
        known, options = _torch_options(groups, self.options, type(self).__name__, self.is_decoupled), self._defaults
        if len(groups) == 1:  # groups here keep what they were given of their own
            options = options | known[0]
            known = [{name: value for name, value in known[0].items() if name not in given} for given in self._given]
        coming = [self._checked(group | new) for group, new in zip(self.param_groups, known, strict=True)]
        items: list[dict[str, Any]] = [{"step": None} for _ in self.items]
        for number, ((k, name, array), given) in enumerate(zip(arrays, states, strict=True)):
            step = _checks.whole(f"step of parameter {number}", given.get("step", 0))
            if items[k]["step"] not in (None, step):
                raise ValueError(f"{name} of item {k} has taken {step} steps, and another table of it {items[k]['step']}")
            items[k]["step"] = step
            for kind in self._state_for(k, coming, ()):
                value = given.get(kind) if given and kind != MASTER else self._new_array(kind, options, array.shape, array.dtype)
                if value is None:
                    raise KeyError(f"the state of parameter {number} has no {kind}")
                items[k].setdefault(kind, {})[name] = np.asarray(value)
        self._load(items, options, coming)

    def _state_for(self, k: int, groups: list[Options], given: Any) -> dict[str, dict[str, Array]]:
        """The state arrays of item k, new ones among them if options or a state that are about to be loaded need more."""
        coming = next(new for group, new in zip(self.param_groups, groups, strict=True) if group is self._group_of[k])
        mine = self._state[k]
        return mine if set(self._state_kinds(k, coming, given)) <= set(mine) else self._new_state(k, coming, given) | mine

    def _load(self, items: list[Any], options: Options, groups: list[Options]) -> None:
        """Take over items, options and those of each group, all or nothing."""
        for k, given in enumerate(items):
            _mapping(f"item {k}", given)
        states = [self._state_for(k, groups, given) for k, given in enumerate(items)]
        mapped = [files for files in map(files_of, self.items) if files is not None]
        for files in mapped:
            files.check_owner(self)
        steps, loaded = [], []
        for k, (mine, given) in enumerate(zip(states, items, strict=True)):
            _same_names(f"item {k}", given, {*mine, "step"})
            steps.append(_checks.size(f"step of item {k}", given["step"]))
            for kind, arrays in mine.items():
                _same_names(f"{kind} of item {k}", given[kind], set(arrays))
                for name, array in arrays.items():
                    loaded.append((array, _checks.like(f"{kind}.{name}", given[kind][name], array.shape, array.dtype)))
        self.flush()
        self._defaults = dict(options)
        for group, new in zip(self.param_groups, groups, strict=True):
            group |= new
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
        for name in ROW_OPTIONS:  # what was read-only is not any more
            setattr(self, name, state[name])
        self._attach()


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
        for name, array in trained_arrays(item).items():
            what = f"{name} of item {k}"
            _checks.writable(what, array)
            for other_name, other in seen:
                _checks.apart(what, array, **{other_name: other})
            seen.append((what, array))


def _torch_parts(state: Any) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """The groups, and the state of each parameter in their order, of PyTorch's ``state_dict``."""
    if not isinstance(state, Mapping) or not {"state", "param_groups"} <= set(state) or not isinstance(state["state"], Mapping):
        raise TypeError(f"a state of PyTorch is a mapping with state, a mapping, and param_groups, got {state!r:.80}")
    groups = state["param_groups"]
    if not isinstance(groups, list | tuple) or not all(isinstance(group, Mapping) and "params" in group for group in groups):
        raise TypeError(f"param_groups of a state of PyTorch must be mappings with params, got {groups!r:.80}")
    return list(groups), [state["state"].get(number, {}) for group in groups for number in group["params"]]


def _torch_options(groups: list[Mapping[str, Any]], checks: Checks, kind: str, is_decoupled: bool) -> list[dict[str, Any]]:
    """The options that a kind of optimiser knows, checked; ValueError if it lacks one that changes the numbers."""
    for group in groups:
        foreign = [name for name in _CHANGE_THE_NUMBERS if group.get(name) and name not in checks]
        if group.get("weight_decay") and group.get("decoupled_weight_decay", is_decoupled) != is_decoupled:
            foreign.append(f"decoupled_weight_decay={not is_decoupled}")
        if foreign:
            raise ValueError(f"a state with {', '.join(foreign)} cannot be taken over by {kind}")
    return [{name: check(name, group[name]) for name, check in checks.items() if name in group} for group in groups]


def _mapping(what: str, given: Any) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise TypeError(f"{what} must be a mapping, got {type(given).__name__}")
    return given


def _same_names(what: str, given: Any, expected: set[str]) -> None:
    if set(_mapping(what, given)) != expected:
        raise KeyError(f"{what} must have the names {sorted(expected)}, got {sorted(map(str, given))}")


def _list_of(what: str, given: Any, length: int) -> list[Any]:
    if not isinstance(given, list | tuple) or len(given) != length:
        raise ValueError(f"{what} of the state must be a list of {length}, got {given!r:.80}")
    return list(given)
