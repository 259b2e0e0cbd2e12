"""What `on_reference` answers of rows in files: one read for each row that is not there."""

from __future__ import annotations

import mmap
import os
from typing import Any

import numpy as np

_PAGE = 4096

_Part = tuple[int, list[tuple[int, int, int]]]
Array = np.ndarray[Any, Any]


def disk_slot_size(n_parts: int) -> int:
    return 64


class DiskRows:
    """The rows read last, as many as the cache has slots."""

    def __init__(self, cache: Array, parts: list[_Part], depth: int, may_use_uring: bool) -> None:
        self._cache, self._parts = cache, parts
        self._slots: dict[int, int] = {}  # by row, the one that was used last at the end
        self._holders = [0] * len(cache)
        self._counts = dict.fromkeys(("hits", "misses", "prefetched", "skipped", "evicted", "reads", "bytes_read", "failed"), 0)
        self._is_closed = False

    def prefetch(self, rows: Array) -> None:
        n_ahead = 0 if self._is_closed else min(len(self._cache) // 4, rows.size)
        missing = [row for row in dict.fromkeys(rows.reshape(-1)[:n_ahead].tolist()) if row >= 0 and row not in self._slots]
        for row in missing:
            self._load(row)
        self._counts["prefetched"] += len(missing)
        self._counts["skipped"] += rows.size - n_ahead

    def hold(self, rows: Array, slots: Array) -> tuple[int, int] | None:
        if self._is_closed:
            raise ValueError("the table is closed")
        slots[...] = -1
        places = slots.reshape(-1)
        for i, row in enumerate(rows.reshape(-1).tolist()):
            if row < 0:
                continue
            is_there = row in self._slots
            self._counts["hits" if is_there else "misses"] += 1
            error = None if is_there else self._load(row)
            if error is not None:
                self.release(slots)
                return error, i
            places[i] = self._slots[row] = self._slots.pop(row)
            self._holders[places[i]] += 1
        return None

    def _load(self, row: int) -> int | None:
        """Read a row into a slot; returns the errno of a failed read, 0 for too short a file."""
        read = b""
        for size, segments in self._parts:
            first = 0
            for file, start, n_rows in segments:
                if first <= row < first + n_rows:
                    try:
                        found = self._read(file, start + (row - first) * size, size)
                    except OSError as error:
                        self._counts["failed"] += 1
                        return error.errno
                    if len(found) < size:
                        self._counts["failed"] += 1
                        return 0
                    read += found
                first += n_rows
        slot = self._free_slot()
        self._cache[slot] = np.frombuffer(read, np.uint8)
        self._slots[row] = slot
        return None

    def _read(self, file: int, at: int, size: int) -> bytes:
        """Whole pages into memory of whole pages, as direct I/O needs it."""
        begin = at // _PAGE * _PAGE
        end = -(-(at + size) // _PAGE) * _PAGE
        with mmap.mmap(-1, end - begin) as pages:
            n_read = os.preadv(file, [pages], begin)
            self._counts["reads"] += 1
            self._counts["bytes_read"] += end - begin
            return pages[at - begin : min(at - begin + size, n_read)]

    def _free_slot(self) -> int:
        if len(self._slots) < len(self._cache):
            return len(self._slots)
        row = next(row for row, slot in self._slots.items() if self._holders[slot] == 0)
        self._counts["evicted"] += 1
        return self._slots.pop(row)

    def release(self, slots: Array) -> None:
        for slot in slots.reshape(-1).tolist():
            if slot >= 0:
                self._holders[slot] -= 1

    def statistics(self) -> dict[str, Any]:
        return {**self._counts, "engine": "pread"}

    def close(self) -> None:
        self._is_closed = True


class HeldRows:
    """A `hold` that ends with `release`, or with this object."""

    def __init__(self, disk: DiskRows, rows: Array, slots: Array) -> None:
        self._disk, self._slots = disk, slots
        self.failed = disk.hold(rows, slots)
        self._is_held = self.failed is None

    def __del__(self) -> None:
        self.release()

    def release(self) -> None:
        if getattr(self, "_is_held", False):
            self._is_held = False
            self._disk.release(self._slots)
