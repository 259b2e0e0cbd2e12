"""What `on_reference` answers of shared tables: the protocol of docs/shared.md, step by step.

Python has no fences, so across processes this is right only where the machine keeps the order of
stores and of loads, as x86-64 does.
"""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np

from .. import reference

Array = np.ndarray[Any, Any]
_FILLING, _WRITING, _NEXT = 1, 2, 4
_MAX_ATTEMPTS = 1 << 20


class SharedMemory(mmap.mmap):
    """A file, mapped from its beginning."""

    def __new__(cls, file: int, size: int, is_writable: bool) -> SharedMemory:
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if is_writable else 0)
        return super().__new__(cls, file, size, mmap.MAP_SHARED, protection)

    def use_large_pages(self, size: int) -> None:
        """The reference is not made for speed."""

    def discard(self, first: int) -> None:
        """Memory of a journal is given back with the table."""


class SharedRows:
    """A shared table in a mapping of its memory."""

    def __init__(
        self,
        rows: Array,
        sequence: Array,
        replaced: Array,
        versions: Array,
        journal_size: Array,
        journal_rows: Array,
        journal: Array,
    ) -> None:
        self.rows, self._sequence, self._replaced, self._versions = rows, sequence, replaced, versions
        self._journal_size, self._journal_rows, self._journal = journal_size, journal_rows, journal
        self._seen = int(replaced[0])

    @property
    def is_replaced(self) -> bool:
        return self._seen % 2 == 1 or int(self._replaced[0]) != self._seen

    def set_replaced(self, is_done: bool) -> None:
        self._replaced[0] = int(self._replaced[0]) // 2 * 2 + (2 if is_done else 1)

    def gather(self, ids: Array, out: Array, bounds: str) -> bool:
        if int(self._replaced[0]) != self._seen:
            return False
        rows = reference.resolve_ids(ids.tolist(), len(self.rows), bounds, "id")
        found = np.zeros((len(rows), self.rows.shape[1]), self.rows.dtype)
        for i, row in enumerate(rows):
            if row is not None:
                found[i] = self._row(row)
        out[...] = found.reshape(out.shape)
        return True

    def _row(self, row: int) -> Array:
        for _ in range(_MAX_ATTEMPTS):
            version = row % len(self._versions)
            before = int(self._versions[version])
            found = self._during_write(row) if before % 2 else self.rows[row].copy()
            if found is not None and (before % 2 or int(self._versions[version]) == before):
                return found
        raise RuntimeError(f"row {row} of the shared table stays half written: its memory has been damaged")

    def _journal_length(self) -> int:
        return min(max(int(self._journal_size[0]), 0), len(self.rows))

    def _during_write(self, row: int) -> Array | None:
        """A row while some are being written."""
        before = int(self._sequence[0])
        if before % _NEXT != _WRITING:
            return None
        places = np.flatnonzero(self._journal_rows[: self._journal_length()] == row)
        found = (self._journal[places[0]] if len(places) else self.rows[row]).copy()
        return found if int(self._sequence[0]) == before else None

    def read_at_once(self, rows: Array | None, out: Array) -> bool:
        before = int(self._sequence[0])
        numbers = np.arange(len(self.rows)) if rows is None else rows
        out[...] = self.rows[numbers]
        if before % _NEXT == _WRITING:
            for k in range(self._journal_length()):
                out[numbers == self._journal_rows[k]] = self._journal[k]
        return int(self._sequence[0]) // 2 == before // 2

    def publish(self, source: Array, rows: Array) -> None:
        distinct = np.unique(rows[rows >= 0])
        before = int(self._sequence[0])
        self._sequence[0] = before + _FILLING
        self._journal_rows[: len(distinct)], self._journal[: len(distinct)] = distinct, source[distinct]
        self._journal_size[0] = len(distinct)
        self._sequence[0] = before + _WRITING
        for k, row in enumerate(distinct.tolist()):
            version = row % len(self._versions)
            self._versions[version] += 1
            self.rows[row] = self._journal[k]
            self._versions[version] += 1
        self._sequence[0] = before + _NEXT
