"""Parameter groups: lists and mappings that take what an optimiser knows, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Self

import numpy as np

from .. import _checks

ROW_OPTIONS = ("trainable_rows", "lr_multipliers")
_OF_SCHEDULES = ("initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum")  # what those of PyTorch keep in a group


def kind_of(item: Any) -> str:
    """What was given in the place of a layer or a Parameter, and what to give, for errors."""
    kind = type(item)
    if isinstance(item, np.ndarray | str):  # of parameters(), or the names of a state
        return f"{kind.__name__}: give the layer, not its parameters(), or Parameter(array)"
    if kind.__module__.partition(".")[0] == "torch" or any(base.__module__.startswith("torch.") for base in kind.__mro__):
        return f"{kind.__name__} of PyTorch: fastembed.adapters.torch.optim has optimisers for it"
    return kind.__name__


class Fixed(list[Any]):
    """The groups of an optimiser, or the items of a group: a list that stays as it was made."""

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise TypeError("an optimiser keeps the groups and items that it was made with: make one of all of them")

    append = extend = insert = pop = remove = clear = reverse = sort = __delitem__ = __iadd__ = __imul__ = _refuse

    def __setitem__(self, k: Any, value: Any) -> None:
        if self[k] is not value:  # as in groups[0] |= options
            self._refuse()

    def __reduce__(self) -> tuple[Any, ...]:
        return Fixed, (list(self),)


class Group(dict[str, Any]):
    """A parameter group: items and options by name, what schedules keep, and nothing else.

    Items stay as they are, and options stay there; what only some groups have can be removed.
    """

    def __init__(self, values: Mapping[str, Any], options: Iterable[str]) -> None:
        super().__init__(values)
        self._options = tuple(options)

    def __setitem__(self, name: str, value: Any) -> None:
        self.update({name: value})

    def update(self, *given: Any, **named: Any) -> None:
        """Set several options, as a dict does: all of them, or on an error none."""
        new, known = dict(*given, **named), (*self._options, *ROW_OPTIONS)
        for name in new:
            if name not in ("params", *known, *_OF_SCHEDULES):
                raise KeyError(f"a parameter group has no option {_checks.shown(name, str)}; it has {', '.join(known)}")
        if new.get("params", self["params"]) is not self["params"]:
            raise TypeError("params of a parameter group are fixed: make an optimiser of all layers")
        super().update(new)

    def __ior__(self, given: Any) -> Self:  # type: ignore[override,misc]
        self.update(given)
        return self

    def setdefault(self, name: str, default: Any = None) -> Any:
        """The value of an option, which is set if it has none."""
        if name not in self:
            self[name] = default
        return self[name]

    def __delitem__(self, name: str) -> None:
        self._check_removable(name)
        super().__delitem__(name)

    def pop(self, name: str, *default: Any) -> Any:
        """Remove what only some groups have, and return it."""
        self._check_removable(name)
        return super().pop(name, *default)

    def popitem(self) -> Any:
        """TypeError, as for `clear`: a group keeps its params and options."""
        self._check_removable("params")

    clear = popitem

    def _check_removable(self, name: str) -> None:
        if name in ("params", *self._options):
            raise TypeError(f"a parameter group keeps its params and {', '.join(self._options)}: {name} cannot be removed")

    def __reduce__(self) -> tuple[Any, ...]:
        return Group, (dict(self), self._options)
