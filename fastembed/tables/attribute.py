"""Attributes of layers and Parameters: their tables, and none but those that a class declares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, overload

from .. import _checks

if TYPE_CHECKING:
    from .._typing import Array
    from .trainable import Trainable


class TableAttribute:
    """The array of that name itself, up to date; its values can be changed, the array cannot.

    Operators in place work: ``layer.weight -= x`` writes to the array if it is writable.
    """

    def __init__(self, doc: str) -> None:
        self.__doc__ = doc

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, holder: None, owner: type) -> TableAttribute: ...
    @overload
    def __get__(self, holder: Trainable, owner: type) -> Array: ...
    def __get__(self, holder: Trainable | None, owner: type) -> TableAttribute | Array:
        if holder is None:
            return self
        holder.apply_pending()
        return holder.storage.view(holder.tables[self._name])

    def __set__(self, holder: Trainable, value: Array) -> None:
        _checks.in_place(self._name, value, holder.tables[self._name])
        holder.storage.mark_written(None)
        holder.storage.end_write()


class Declared:
    """An object with the public attributes that its classes declare, and no others.

    So an option that is misspelt (``layer.trainable_row = ...``) is an error. Instances of classes
    outside the package take any attribute.
    """

    _attributes: ClassVar[frozenset[str]]
    _takes_any: ClassVar[bool] = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._attributes = frozenset(
            name for base in cls.__mro__ for name in (*base.__dict__, *getattr(base, "__annotations__", ()))
        )
        cls._takes_any = cls.__module__.partition(".")[0] != __package__.partition(".")[0]

    if not TYPE_CHECKING:  # else type checkers would take any attribute too

        def __setattr__(self, name: str, value: Any) -> None:
            if not (name[:1] == "_" or name in self._attributes or self._takes_any):
                settable = [known for known in dir(self) if known[0] != "_" and _is_settable(getattr(type(self), known, None))]
                has = f"what can be set is {', '.join(settable)}" if settable else "it has none that can be set"
                missing = f"a {type(self).__name__} has no attribute {_checks.shown(name, str)}; {has}"
                raise AttributeError(missing, name=name, obj=self)
            object.__setattr__(self, name, value)


def _is_settable(found: Any) -> bool:
    """Whether an attribute that a class has, or None for one of the instance, can be set."""
    return found is None or (found.fset is not None if isinstance(found, property) else hasattr(type(found), "__set__"))
