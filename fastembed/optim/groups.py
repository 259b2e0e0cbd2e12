"""Parameter groups: lists and mappings that take what an optimiser knows, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Self

from .. import _checks

ROW_OPTIONS = ("trainable_rows", "lr_multipliers")
_OF_SCHEDULES = ("initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum")  # what those of PyTorch keep in a group


class Fixed(list[Any]):
    """The groups of an optimiser, or the items of a group: a list that stays as it was made."""

    def _refuse(self, *_: Any) -> Any:
        raise TypeError("an optimiser keeps the groups and items that it was made with: make one of all of them")

    append = extend = insert = pop = remove = clear = reverse = __delitem__ = __iadd__ = _refuse

    def __setitem__(self, k: Any, value: Any) -> None:
        if self[k] is not value:  # as in groups[0] |= options
            self._refuse()

    def __reduce__(self) -> tuple[Any, ...]:
        return Fixed, (list(self),)


class Group(dict[str, Any]):
    """A parameter group: items and options by name, what schedules keep, and nothing else."""

    def __init__(self, values: Mapping[str, Any], known: Iterable[str]) -> None:
        super().__init__(values)
        self._known = (*known, *ROW_OPTIONS)

    def __setitem__(self, name: str, value: Any) -> None:
        if name not in ("params", *self._known, *_OF_SCHEDULES):
            raise KeyError(f"a parameter group has no option {_checks.shown(name, str)}; it has {', '.join(self._known)}")
        super().__setitem__(name, value)

    def update(self, *given: Any, **named: Any) -> None:
        """Set several options, as a dict does."""
        for name, value in dict(*given, **named).items():
            self[name] = value

    def __ior__(self, given: Any) -> Self:  # type: ignore[override,misc]
        self.update(given)
        return self

    def setdefault(self, name: str, default: Any = None) -> Any:
        """The value of an option, which is set if it has none."""
        if name not in self:
            self[name] = default
        return self[name]

    def __reduce__(self) -> tuple[Any, ...]:
        return Group, (dict(self), self._known)
