"""TableAttribute: a table of a layer, or the array of a Parameter, as an attribute."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

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
