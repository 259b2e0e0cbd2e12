"""Trainable: what an optimiser asks of a layer or a Parameter, and the updates that their rows have yet to take."""

from __future__ import annotations

import contextlib
import copy
import os
import threading
import weakref
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .storage import MEMORY, Storage

if TYPE_CHECKING:
    from .._typing import Array
    from ..functional.row_grad import Batch
    from .lazy_table import LazyTable


def own_rows(value: Any) -> Any:
    """A copy of what was given for the rows of a table, or of tables by name; its arrays are read-only."""
    if isinstance(value, Mapping):
        return {name: own_rows(rows) for name, rows in value.items()}
    own = tuple(value) if isinstance(value, list) else copy.deepcopy(value)
    if isinstance(own, np.ndarray):
        own.flags.writeable = False
    return own


class OwnRows:
    """An attribute that keeps `own_rows` of what it is set to."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, holder: Any, owner: type) -> Any:
        return holder.__dict__[self._name]

    def __set__(self, holder: Any, value: Any) -> None:
        holder.__dict__[self._name] = own_rows(value)


class Trainable:
    """Arrays by name with a gradient, that an optimiser moves.

    Rows may have pending updates: steps that an optimiser has recorded, and that a row takes when
    it is next needed. A lock keeps one thread from reading rows while another applies them.

    Parameters
    ----------
    tables : dict of name to ndarray
    trainable : bool
        Whether optimisers may move them.
    trainable_rows : array_like, or mapping of table name to array_like, optional
        Numbers, or a mask, of the rows that optimisers change: all of them by default.
    storage : Storage
        Where the arrays lie.
    """

    by_rows: ClassVar[bool]  # whether rows are trained one by one, and may have pending updates
    trainable_rows = OwnRows()

    def __init__(
        self, tables: dict[str, Array], trainable: bool = True, trainable_rows: Any = None, storage: Storage = MEMORY
    ) -> None:
        self.tables = dict(tables)
        self.trainable = trainable
        self.trainable_rows = trainable_rows
        self.storage = storage
        self._begin()

    def _begin(self) -> None:
        """What a copy has of its own."""
        self.optimizers: weakref.WeakSet[Any] = weakref.WeakSet()
        self.lock = threading.RLock()
        self._lazy_tables: dict[str, list[LazyTable]] = {}
        self._has_pending = False
        _all.add(self)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("optimizers", "lock", "_lazy_tables")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def moved_tables(self) -> dict[str, Array]:
        """The arrays that an optimiser may move, by name: none of what is frozen."""
        return self.tables if self.trainable else {}

    # ---- gradients ----

    def zero_grad(self) -> None:
        """Forget the gradient."""
        raise NotImplementedError

    def batches(self) -> dict[str, list[Batch]]:
        """The accumulated gradient as kernels take it: a batch for each matrix of each array."""
        raise NotImplementedError

    def gradient_arrays(self) -> list[Array]:
        """Arrays with all elements of the accumulated gradient that are not zero."""
        raise NotImplementedError

    def scale_gradient(self, factor: float) -> None:
        """Multiply the accumulated gradient by a number."""
        raise NotImplementedError

    # ---- pending updates ----

    @contextlib.contextmanager
    def updating(self, tables: dict[str, list[LazyTable]]) -> Iterator[None]:
        """While an optimiser takes a step: nobody else reads or writes the tables.

        The tables belong to whoever trained them last: updates of another optimiser come first.
        """
        with self.lock:
            if self._lazy_tables is not tables:
                self.apply_pending()
                self._lazy_tables = tables
            self._set_pending(True)
            try:
                yield
            finally:
                self._set_pending(any(table.has_pending for parts in tables.values() for table in parts))

    @contextlib.contextmanager
    def up_to_date(self, rows_by_name: dict[str, Array]) -> Iterator[None]:
        """While these rows (checked int64) are read: no update is pending, and nobody trains them."""
        with self.lock:
            for name, parts in self._lazy_tables.items():
                for table in parts:
                    table.apply_pending(rows_by_name[name])
            yield

    def apply_pending(self) -> None:
        """Let all rows take their pending updates, in memory."""
        self.storage.check_open()
        if self._has_pending:
            with self.lock:
                for parts in self._lazy_tables.values():
                    for table in parts:
                        table.apply_all()
                self._set_pending(False)

    def _set_pending(self, has_pending: bool) -> None:
        self._has_pending = has_pending


_all: weakref.WeakSet[Trainable] = weakref.WeakSet()


def _new_locks() -> None:
    """A forked child has no thread that would ever open a lock that another thread held."""
    for item in list(_all):
        item.lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_locks)
