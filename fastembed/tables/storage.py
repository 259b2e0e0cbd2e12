"""Storage: where tables and the state of their optimisers lie. In memory here; in mapped files, `fastembed.io.mapped`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from .._typing import Array

State = dict[str, dict[str, "Array"]]  # the arrays of an optimiser's state by kind, and by the name of their table


class Spec(NamedTuple):
    """A state array that an optimiser asks for.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    start : float
        What all elements are at first.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    start: float

    def new(self) -> Array:
        """Such an array in memory. Zeros take no memory before they are used."""
        if self.start == 0:
            return np.zeros(self.shape, self.dtype)
        return np.full(self.shape, self.start, self.dtype)


class Storage(Protocol):
    """What layers and optimisers ask of the place that their arrays lie in."""

    is_mapped: bool
    is_closed: bool
    step: int  # how many steps an optimiser had taken when its state was opened

    def check_open(self) -> None:
        """ValueError if the storage is closed."""

    def check_can_train(self, what: str) -> None:
        """ValueError if nothing can be written here."""

    def check_can_copy(self) -> None:
        """TypeError if what lies here is no part of a copied or pickled layer."""

    def check_owner(self, optimizer: Any) -> None:
        """ValueError or RuntimeError if the state that lies here is not that optimiser's."""

    def view(self, array: Array) -> Array:
        """An array as it is handed out."""

    def prefetch(self, ids: Any) -> None:
        """Rows are about to be looked up; some of the ids may be out of range."""

    def begin_write(self, rows: Array | None) -> None:
        """Rows (checked int64; None for all) are about to change, and their state."""

    def zeros(self, n: int, dtype: np.dtype[Any]) -> Array:
        """A new array with a number for each row of a table, in memory."""

    def states(self, optimizer: Any, options: Mapping[str, Any], specs: Mapping[str, Mapping[str, Spec]]) -> State:
        """The state arrays of an optimiser, new where there are none; optimizer None: of a table that is not trained."""

    def record_step(self, optimizer: Any, step: int, options: Mapping[str, Any]) -> None:
        """The optimiser has taken that many steps."""

    def resized(self, table: Array, n_rows: int, added: Array | None) -> Array:
        """A table with as many rows in the place of one that lies here; None: rows that are added hold zeros."""

    def resized_state(self, kind: str, old: Array, spec: Spec) -> Array:
        """The same of a state array, once its table has been resized."""

    def flush(self) -> None:
        """Write what has been trained to where it lasts."""

    def close(self) -> None:
        """Let go of it; what has not been flushed is gone."""


class InMemory:
    """Arrays in memory: nothing to fetch, to note or to write back."""

    is_mapped = False
    is_closed = False
    step = 0

    def check_open(self) -> None: ...

    def check_can_train(self, what: str) -> None: ...

    def check_can_copy(self) -> None: ...

    def check_owner(self, optimizer: Any) -> None: ...

    def view(self, array: Array) -> Array:
        return array

    def prefetch(self, ids: Any) -> None: ...

    def begin_write(self, rows: Array | None) -> None: ...

    def zeros(self, n: int, dtype: np.dtype[Any]) -> Array:
        return np.zeros(n, dtype)

    def states(self, optimizer: Any, options: Mapping[str, Any], specs: Mapping[str, Mapping[str, Spec]]) -> State:
        return {kind: {name: spec.new() for name, spec in by_name.items()} for kind, by_name in specs.items()}

    def record_step(self, optimizer: Any, step: int, options: Mapping[str, Any]) -> None: ...

    def resized(self, table: Array, n_rows: int, added: Array | None) -> Array:
        new, n_kept = empty_table((n_rows, table.shape[1]), table.dtype.newbyteorder("=")), min(n_rows, len(table))
        new[:n_kept], new[n_kept:] = table[:n_kept], 0 if added is None else added
        return new

    def resized_state(self, kind: str, old: Array, spec: Spec) -> Array:
        new = spec.new()
        new[: len(old)] = old[: len(new)]
        return new

    def flush(self) -> None: ...

    def close(self) -> None: ...


MEMORY = InMemory()

_CACHE_LINE = 64  # bytes


def empty_table(shape: tuple[int, int], dtype: np.dtype[Any]) -> Array:
    """A new table that begins at a cache line: a row of whole lines then lies in no line more than it has to."""
    n_bytes = shape[0] * shape[1] * dtype.itemsize
    memory = np.empty(n_bytes + _CACHE_LINE, np.uint8)
    start = -memory.ctypes.data % _CACHE_LINE
    return memory[start : start + n_bytes].view(dtype).reshape(shape)
