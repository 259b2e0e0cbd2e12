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
        position: Array,
    ) -> None:
        self.rows, self._sequence, self._replaced, self._versions = rows, sequence, replaced, versions
        self._journal_size, self._journal_rows, self._journal = journal_size, journal_rows, journal
        self._position = position
        self._seen = int(replaced[0])
        self._shown = 0  # the last sequence number at which rows were read from the journal at once

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
        found = None
        while found is None:
            found = self._unwritten(row)
            found = self._beside_writer(row) if found is None else found
        return found

    def _is_shown(self, sequence: int) -> bool:
        """Whether all rows of the publication that is under way have been read at once here."""
        return sequence % _NEXT == _WRITING and sequence == self._shown

    def _unwritten(self, row: int) -> Array | None:
        """A row whose version stays as it is, and is even."""
        version = row % len(self._versions)
        before, is_shown, found = int(self._versions[version]), self._is_shown(int(self._sequence[0])), self.rows[row].copy()
        return found if before % 2 == 0 and not is_shown and int(self._versions[version]) == before else None

    def _journal_length(self) -> int:
        return min(max(int(self._journal_size[0]), 0), len(self.rows))

    def _beside_writer(self, row: int) -> Array | None:
        """A row that may be being written: from the journal if it is, else from its place."""
        before, position = int(self._sequence[0]), int(self._position[0])
        listed = self._journal_rows[: self._journal_length()] if before % _NEXT == _WRITING else self._journal_rows[:0]
        places = np.flatnonzero(listed == row)
        place = int(places[0]) if len(places) else -1
        is_shown = self._is_shown(before)
        found = (self._journal[place] if place >= 0 and (place == position or is_shown) else self.rows[row]).copy()
        is_whole = place <= position or place > int(self._position[0]) or is_shown
        return found if is_whole and int(self._sequence[0]) // 2 == before // 2 else None

    def read_at_once(self, rows: Array | None, out: Array) -> bool:
        before = int(self._sequence[0])
        numbers = np.arange(len(self.rows)) if rows is None else rows
        out[...] = self.rows[numbers]
        if before % _NEXT == _WRITING:
            for k in range(self._journal_length()):
                out[numbers == self._journal_rows[k]] = self._journal[k]
        is_of_one_moment = int(self._sequence[0]) // 2 == before // 2
        if is_of_one_moment and before % _NEXT == _WRITING:
            self._shown = max(self._shown, before)
        return is_of_one_moment

    def publish(self, source: Array, rows: Array) -> None:
        distinct = np.unique(rows[rows >= 0])
        before = int(self._sequence[0])
        self._sequence[0] = before + _FILLING
        self._journal_rows[: len(distinct)], self._journal[: len(distinct)] = distinct, source[distinct]
        self._journal_size[0], self._position[0] = len(distinct), -1
        self._sequence[0] = before + _WRITING
        for k, row in enumerate(distinct.tolist()):
            version = row % len(self._versions)
            self._versions[version] += 1
            self._position[0] = k
            self.rows[row] = self._journal[k]
            self._versions[version] += 1
        self._sequence[0] = before + _NEXT
