"""Storage: the protocol for the arrays of layers and optimisers, and the one in memory.

`fastembed.io.mapped` has the storage in mapped files.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from .. import _checks
from ..functional.watched import Watched, Watcher

if TYPE_CHECKING:
    from .._kernels.backend import kernels
    from .._typing import Array
    from ..functional.search.index import SearchIndex

State = dict[str, dict[str, "Array"]]  # the state arrays of an optimiser by kind, then by table name


class StateSpec(NamedTuple):
    """The shape, dtype and initial value of a state array.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    start : float
        The initial value of all elements.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    start: float

    def allocate(self) -> Array:
        """A new array in memory; zeros take no physical memory before they are written."""
        if self.start == 0:
            return np.zeros(self.shape, self.dtype)
        return np.full(self.shape, self.start, self.dtype)

    def resized(self, old: Array) -> Array:
        """A new array in memory with the rows of an old one, as far as it has as many."""
        new = self.allocate()
        new[: len(old)] = old[: len(new)]
        return new


class Storage(Protocol):
    """The operations of layers and optimisers on the storage of their arrays."""

    is_mapped: bool
    is_closed: bool
    is_lost: bool  # whether a close has said that the file is gone, and what is not flushed with it
    loses_names: bool  # whether new names of rows come into no file, though changed rows do
    step: int  # the steps that the optimiser of the stored state has taken
    publisher: Watcher | None  # who shares the table with other processes

    def check_open(self) -> None:
        """ValueError if the storage is closed."""

    def check_can_train(self, what: str) -> None:
        """ValueError if the storage is read-only."""

    def check_can_copy(self) -> None:
        """TypeError if a layer with this storage cannot be copied or pickled."""

    def is_at(self, path: str | os.PathLike[str]) -> bool:
        """Whether that is the file of the table."""

    def check_owner(self, optimizer: Any) -> None:
        """ValueError or RuntimeError if the stored state is not that optimiser's."""

    def view(self, array: Array) -> Array:
        """The array that a user gets for one of this storage."""

    def prefetch(self, ids: Any, bounds: str = "raise") -> None:
        """Prepare a look-up of rows; ids that ``bounds`` refuses are ignored or an IndexError."""

    def begin_write(self, rows: Array | None) -> None:
        """Prepare a change of rows (checked int64; None: all) and of their state."""

    def watch(self, index: SearchIndex) -> None:
        """Tell an index from now on which rows change."""

    def mark_written(self, rows: Array | None) -> None:
        """Tell the indexes, and who shares the table, that rows (int64; None: all) change."""

    def end_write(self) -> None:
        """Let the rows be published that `begin_write` has announced, and that have changed."""

    def zeros(self, n: int, dtype: np.dtype[Any]) -> Array:
        """A new array of n zeros in memory, for one number per row."""

    def states(self, optimizer: Any, options: Mapping[str, Any], specs: Mapping[str, Mapping[str, StateSpec]]) -> State:
        """The state arrays of an optimiser (None: the table is frozen), new unless they exist."""

    def track(self, optimizer: Any, steps: Array, options: Mapping[str, Any]) -> None:
        """Read from now on in ``steps``, an int64, how many steps the optimiser has taken."""

    def resized(self, commit: kernels.Commit, table: Array, n_rows: int, added: Array | None) -> tuple[Array, dict[str, Array]]:
        """The table resized to ``n_rows``, with the rows ``added`` (None: zeros) at its end.

        And the state arrays by kind, resized with it, that are in permanent storage. The storage
        holds them itself once the commit has run, and a `flush` stores them.
        """

    def flush(self) -> None:
        """Write changes to permanent storage."""

    def close(self) -> None:
        """Release the storage; changes since the last flush are lost."""


class InMemory(Watched):
    """Arrays in memory: nothing to prefetch, to record or to write back."""

    is_mapped = False
    is_closed = False
    is_lost = False
    loses_names = False
    step = 0

    def check_open(self) -> None: ...

    def check_can_train(self, what: str) -> None: ...

    def check_can_copy(self) -> None: ...

    def is_at(self, path: str | os.PathLike[str]) -> bool:
        return False

    def check_owner(self, optimizer: Any) -> None: ...

    def view(self, array: Array) -> Array:
        return array

    def prefetch(self, ids: Any, bounds: str = "raise") -> None: ...

    def begin_write(self, rows: Array | None) -> None:
        self.mark_written(rows)

    def zeros(self, n: int, dtype: np.dtype[Any]) -> Array:
        return np.zeros(n, dtype)

    def states(self, optimizer: Any, options: Mapping[str, Any], specs: Mapping[str, Mapping[str, StateSpec]]) -> State:
        return {kind: {name: spec.allocate() for name, spec in by_name.items()} for kind, by_name in specs.items()}

    def track(self, optimizer: Any, steps: Array, options: Mapping[str, Any]) -> None: ...

    def resized(self, commit: kernels.Commit, table: Array, n_rows: int, added: Array | None) -> tuple[Array, dict[str, Array]]:
        new, n_kept = empty_table((n_rows, table.shape[1]), _checks.native(table.dtype)), min(n_rows, len(table))
        new[:n_kept], new[n_kept:] = table[:n_kept], 0 if added is None else added
        return new, {}

    def flush(self) -> None: ...

    def close(self) -> None: ...

    def __reduce__(self) -> tuple[type[InMemory], tuple[()]]:
        return InMemory, ()  # a copy has no indexes and is not shared


_CACHE_LINE = 64  # bytes
_MOST_BYTES = (1 << 63) - 1 - _CACHE_LINE  # that an address space, or a file, can have


def extent(shape: tuple[int, int], dtype: np.dtype[Any]) -> str:
    """What a table of that shape takes, for errors."""
    return f"a table of {shape[0]} rows of {shape[1]} {dtype}s, which take {shape[0] * shape[1] * dtype.itemsize:,} bytes"


def check_memory(shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
    """MemoryError for a table that no machine has memory for: NumPy has other errors for it."""
    if shape[0] * max(shape[1], 1) * dtype.itemsize > _MOST_BYTES:
        raise MemoryError(f"no memory for {extent(shape, dtype)}")


def empty_table(shape: tuple[int, int], dtype: np.dtype[Any]) -> Array:
    """A new table, uninitialised, that starts at a cache line."""
    check_memory(shape, dtype)
    n_bytes = shape[0] * shape[1] * dtype.itemsize
    try:
        memory = np.empty(n_bytes + _CACHE_LINE, np.uint8)
    except MemoryError:
        raise MemoryError(f"no memory for {extent(shape, dtype)}") from None
    start = -memory.ctypes.data % _CACHE_LINE
    return memory[start : start + n_bytes].view(dtype).reshape(shape)
