"""Trainable: the interface of layers and Parameters for optimisers, with their pending updates."""

from __future__ import annotations

import contextlib
import copy
import os
import threading
import weakref
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .._interactive.completion import without_internals
from .._memory import memory_errors
from .attribute import Declared
from .storage import InMemory, Storage

if TYPE_CHECKING:
    from .._kernels.backend import kernels
    from .._typing import Array
    from ..functional.batch import Batch
    from .lazy_table import LazyTable


def read_only_copy(value: Any) -> Any:
    """A copy of a row option, given for one table or for tables by name; arrays are read-only."""
    if isinstance(value, Mapping):
        return {name: read_only_copy(rows) for name, rows in value.items()}
    result = tuple(value) if isinstance(value, list) else copy.deepcopy(value)
    if isinstance(result, np.ndarray):
        result.flags.writeable = False
    return result


class ReadOnlyCopy:
    """An attribute that stores a `read_only_copy` of each value that it is set to."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, holder: Any, owner: type) -> Any:
        return holder.__dict__[self._name]

    def __set__(self, holder: Any, value: Any) -> None:
        holder.__dict__[self._name] = read_only_copy(value)


# What optimisers, kernels and storages ask of a layer or a Parameter, and users do not.
_INTERNAL = {
    "add_scaled", "apply_pending", "batches", "by_rows", "checked_grad", "gradient_arrays", "gradient_of", "lock",
    "moved_tables", "optimizers", "reading", "storage", "tables", "up_to_date", "updating",
}  # fmt: skip


class Trainable(Declared):
    """Named arrays with gradients, which an optimiser updates.

    Rows may have pending updates: steps that an optimiser has recorded, and that a row takes when
    it is next needed. A lock keeps one thread from reading rows while another updates them.

    Parameters
    ----------
    tables : dict of name to ndarray
    trainable : bool
        Whether optimisers update them.
    trainable_rows : array_like, or mapping of table name to array_like, optional
        Numbers, or a mask, of the rows that optimisers update; by default all.
    storage : Storage, optional
        The storage of the arrays; by default memory.
    """

    by_rows: ClassVar[bool]  # whether single rows are updated, so that others may have pending updates
    tables: dict[str, Array]
    trainable: bool
    trainable_rows = ReadOnlyCopy()
    storage: Storage
    optimizers: weakref.WeakSet[Any]
    lock: threading.RLock

    def __init__(
        self, tables: dict[str, Array], trainable: bool = True, trainable_rows: Any = None, storage: Storage | None = None
    ) -> None:
        self.tables = dict(tables)
        self.trainable = trainable
        self.trainable_rows = trainable_rows
        self.storage = InMemory() if storage is None else storage
        self._init_unshared()

    def _init_unshared(self) -> None:
        """Set the attributes that a copy does not share: lock, optimisers, pending updates."""
        self.optimizers = weakref.WeakSet()
        with memory_errors():
            self.lock = threading.RLock()
        self._lazy_tables: dict[str, list[LazyTable]] = {}
        self._has_pending = False
        _instances.add(self)

    def __dir__(self) -> list[str]:
        return without_internals(super().__dir__(), _INTERNAL)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("optimizers", "lock", "_lazy_tables")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._init_unshared()

    def moved_tables(self) -> dict[str, Array]:
        """The arrays that an optimiser updates, by name; none if frozen."""
        return self.tables if self.trainable else {}

    # ---- gradients ----

    def zero_grad(self) -> None:
        """Drop the accumulated gradient."""
        raise NotImplementedError

    @property
    def has_grad(self) -> bool:
        """Whether there is an accumulated gradient, of any row."""
        raise NotImplementedError

    def batches(self) -> dict[str, list[Batch]]:
        """The accumulated gradient for the kernels: a batch for each matrix of each array."""
        raise NotImplementedError

    def gradient_arrays(self) -> list[Array]:
        """Arrays that hold all nonzero elements of the accumulated gradient."""
        raise NotImplementedError

    def add_scaled(self, commit: kernels.Commit, factor: float) -> None:
        """Let a commit multiply the accumulated gradient by a number."""
        raise NotImplementedError

    # ---- pending updates ----

    @contextlib.contextmanager
    def updating(self, tables: dict[str, list[LazyTable]]) -> Iterator[None]:
        """A context in which an optimiser updates the tables, and no other thread reads them.

        ``tables`` are that optimiser's; pending updates of another optimiser are applied first.
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
            self.storage.end_write()

    @contextlib.contextmanager
    def up_to_date(self, rows_by_name: dict[str, Array]) -> Iterator[None]:
        """A context in which these rows (checked int64) are up to date and do not change."""
        with self.lock:
            for name, parts in self._lazy_tables.items():
                for table in parts:
                    table.apply_pending(rows_by_name[name])
            yield
            self.storage.end_write()

    def apply_pending(self) -> None:
        """Apply all pending updates, in memory."""
        self.storage.check_open()
        if self._has_pending:
            with self.lock:
                for parts in self._lazy_tables.values():
                    for table in parts:
                        table.apply_all()
                self._set_pending(False)
                self.storage.end_write()

    def _set_pending(self, has_pending: bool) -> None:
        self._has_pending = has_pending


_instances: weakref.WeakSet[Trainable] = weakref.WeakSet()


def _replace_locks() -> None:
    """Replace locks in a forked child: no thread there would release one that was held."""
    for item in list(_instances):
        item.lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_replace_locks)
