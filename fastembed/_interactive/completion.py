"""What completion offers of modules and objects: the names that users use."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence


def names_of(public: Sequence[str]) -> Callable[[], list[str]]:
    """The ``__dir__`` of a module: its public names, and no others."""
    return lambda: sorted(public)


def without_internals(names: Iterable[str], internal: Collection[str] = ()) -> list[str]:
    """The names of an object, without internal ones and those that begin with one underscore."""
    return [name for name in names if name not in internal and (name.startswith("__") or not name.startswith("_"))]
