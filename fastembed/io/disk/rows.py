"""CachedRows: rows of tensors in files, at hand in a cache of a given size.

V: rows of the table; S: the shape of some rows' numbers.
"""

from __future__ import annotations

import contextlib
import errno
import math
import mmap
import os
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ... import _checks
from ..._kernels.backend import kernels
from ..._memory import memory_errors
from ..errors import CheckpointError
from .tensors import DiskTensor

if TYPE_CHECKING:
    from ..._typing import Array

ENGINES = ("auto", "io_uring", "pread")
_PAGE = 4096
_LEAST_SLOTS = 64
_MOST_IN_FLIGHT = 1024


class CacheStatistics(NamedTuple):
    """What a table in files has read so far, and how.

    Attributes
    ----------
    hits, misses : int
        Ids whose row was in the cache or on its way; and ids for which a look-up had to ask. Of an
        id that occurs several times in a call only the first can be a miss.
    prefetched, skipped : int
        Rows that `prefetch` asked for; ids for which it had no room.
    evicted : int
        Rows that have left the cache.
    reads, bytes_read, failed : int
        Reads from the files, their bytes (whole pages of 4 KiB), and reads of a row that failed.
    engine : str
        "io_uring" or "pread".
    direct : bool
        Whether reads go past the system's page cache.
    cache_rows : int
        How many rows the cache has room for.
    """

    hits: int
    misses: int
    prefetched: int
    skipped: int
    evicted: int
    reads: int
    bytes_read: int
    failed: int
    engine: str
    direct: bool
    cache_rows: int


class CachedRows:
    """Rows of one part or more, each of which lies in some tensors, one after the other.

    Parameters
    ----------
    parts : sequence of sequences of DiskTensor
        Of the same number of rows, V. A row in the cache has the bytes of its parts side by side.
    cache_bytes : int
        The memory for rows and for what says where they are.
    direct : bool or None
        Whether to read past the page cache; None: if the file system allows it.
    engine : {"auto", "io_uring", "pread"}
    in_flight : int
        The most reads that are under way at once.

    Raises
    ------
    OSError
        A file cannot be opened, or not read in the way that is asked for.
    CheckpointError
        A file is shorter than its header says.
    TypeError, ValueError
        An option has an invalid value.
    """

    def __init__(
        self, parts: Sequence[Sequence[DiskTensor]], *, cache_bytes: int, direct: bool | None, engine: str, in_flight: int
    ) -> None:
        _checks.one_of("engine", engine, ENGINES)
        if direct is not None:
            _checks.flag("direct", direct)
        depth = _checks.size("in_flight", in_flight)
        if not 1 <= depth <= _MOST_IN_FLIGHT:
            raise ValueError(f"in_flight must be from 1 to {_MOST_IN_FLIGHT}, got {depth}")
        self._parts = [list(part) for part in parts]
        self.row_size = sum(part[0].row_size for part in self._parts)
        self._cache = np.empty((self._n_slots(_checks.size("cache_bytes", cache_bytes)), self.row_size), np.uint8)
        self._most = len(self._cache) // 4
        self._files, self._direct = _open_files([tensor for part in self._parts for tensor in part], direct)
        described = [
            (part[0].row_size, [(self._files[t.path].descriptor, t.start, t.shape[0]) for t in part]) for part in self._parts
        ]
        self._rows = kernels.DiskRows(self._cache, described, depth, engine != "pread")
        if engine not in ("auto", found := self._rows.statistics()["engine"]):
            raise OSError(errno.ENOSYS, f"engine must be one that this system allows, {found}; got {engine}")
        self._end = weakref.finalize(self, _close, self._rows, self._files)

    def _n_slots(self, cache_bytes: int) -> int:
        of_slot = self.row_size + kernels.disk_slot_size(len(self._parts))
        if cache_bytes < of_slot * _LEAST_SLOTS:
            least = of_slot * _LEAST_SLOTS
            raise ValueError(f"cache_bytes must be at least {least}, for {_LEAST_SLOTS} rows; got {cache_bytes}")
        return min(cache_bytes // of_slot, (1 << 29) // len(self._parts))

    def prefetch(self, rows: Array) -> None:
        """Begin to read rows (int64, contiguous; -1 for none) that are not at hand."""
        self._check_open()
        self._rows.prefetch(rows)

    @contextlib.contextmanager
    def at_hand(self, rows: Array) -> Iterator[tuple[Array, Array]]:
        """A table in memory that has these rows (int64, contiguous), and their places in it.

        The table is uint8 of shape (n, bytes of a row), and the places are integers of shape S, -1
        for row -1. Inside, the rows stay where they are.

        Raises
        ------
        OSError, CheckpointError
            A row cannot be read, or its file has become shorter.
        ValueError
            The files are closed.
        """
        self._check_open()
        if rows.size > self._most:
            yield self._copied(rows)
            return
        with self._held(rows) as places:
            yield self._cache, places

    @contextlib.contextmanager
    def _held(self, rows: Array) -> Iterator[Array]:
        places = np.empty(rows.shape, np.int32)
        held = kernels.HeldRows(self._rows, rows, places)
        if held.failed is not None:
            raise self._error(int(rows.reshape(-1)[held.failed[1]]), held.failed[0])
        try:
            yield places
        finally:
            held.release()

    @memory_errors()
    def _copied(self, rows: Array) -> tuple[Array, Array]:
        """A copy of more rows than the cache can hold for one call, read block by block."""
        distinct, places = np.unique(rows, return_inverse=True)
        n_missing = int(distinct[0] < 0)
        distinct, n = distinct[n_missing:], self._most
        table = np.empty((len(distinct), self.row_size), np.uint8)
        for first in range(0, len(distinct), n):
            self._rows.prefetch(distinct[first + n : first + 2 * n])
            with self._held(distinct[first : first + n]) as held:
                np.take(self._cache, held, axis=0, out=table[first : first + n], mode="clip")
        return table, places.reshape(rows.shape) - n_missing

    def in_order(self, first: int, end: int) -> Array:
        """Rows ``first`` to ``end - 1``, read in their order, as uint8 of shape (n, row_size).

        The cache is neither used nor changed.

        Raises
        ------
        OSError, CheckpointError, ValueError
            As `at_hand`.
        """
        files = self._files  # open as long as this names them, if they are now
        self._check_open()
        rows, column = np.empty((end - first, self.row_size), np.uint8), 0
        for part in self._parts:
            size, n_before = part[0].row_size, 0
            for tensor in part:
                row, stop = max(first, n_before), min(end, n_before + tensor.shape[0])
                if row < stop:
                    at = tensor.start + (row - n_before) * size
                    found = self._read(files[tensor.path], at, row, (stop - row, size))
                    rows[row - first : stop - first, column : column + size] = found
                n_before += tensor.shape[0]
            column += size
        return rows

    def _read(self, file: _File, at: int, row: int, shape: tuple[int, int]) -> Array:
        """The bytes of a file from ``at`` on, which are rows of the table, ``row`` the first."""
        n_bytes = math.prod(shape)
        try:
            found = file.read(at, n_bytes)
        except OSError as error:
            raise self._error(row, error.errno or errno.EIO) from error
        if len(found) < n_bytes:
            raise self._error(row + len(found) // shape[1], 0)
        return found.reshape(shape)

    def _error(self, row: int, code: int) -> Exception:
        paths = sorted({str(self._tensor_of(row, part).path) for part in self._parts})
        where = " or ".join(paths)
        if code == 0:
            return CheckpointError(f"{where} has become shorter, and row {row} is not whole")
        return OSError(code, f"row {row} cannot be read: {os.strerror(code)}", where)

    @staticmethod
    def _tensor_of(row: int, part: Sequence[DiskTensor]) -> DiskTensor:
        for tensor in part:
            if row < tensor.shape[0]:
                return tensor
            row -= tensor.shape[0]
        raise IndexError(row)

    def statistics(self) -> CacheStatistics:
        """What has been read so far."""
        return CacheStatistics(**self._rows.statistics(), direct=self._direct, cache_rows=len(self._cache))

    @property
    def is_closed(self) -> bool:
        return not self._end.alive

    def _check_open(self) -> None:
        if self.is_closed:
            raise ValueError("the table is closed")

    def close(self) -> None:
        """Cancel what waits to be read, wait for what is under way, close the files."""
        self._end()
        self._files = {}


def _close(rows: kernels.DiskRows, files: dict[Path, _File]) -> None:
    """End the reads; the files stay open until that is done."""
    rows.close()


class _File:
    """An open file, until nobody reads it any more."""

    def __init__(self, path: Path, flags: int) -> None:
        self.descriptor = os.open(path, flags)
        weakref.finalize(self, os.close, self.descriptor).atexit = False
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self.descriptor, 0, 0, os.POSIX_FADV_RANDOM)

    def read(self, at: int, size: int) -> Array:
        """Bytes from ``at`` on, fewer where the file ends; read in pages for direct I/O."""
        if not hasattr(os, "preadv"):
            raise OSError(errno.ENOSYS, "rows are read in their order by preadv, which this system lacks")
        begin, end = at // _PAGE * _PAGE, -(-(at + size) // _PAGE) * _PAGE
        pages, n_read = mmap.mmap(-1, end - begin), 0
        while n_read % _PAGE == 0 and begin + n_read < end:
            found = os.preadv(self.descriptor, [memoryview(pages)[n_read:]], begin + n_read)
            if found == 0:
                break
            n_read += found
        return np.frombuffer(pages, np.uint8, min(max(n_read - (at - begin), 0), size), at - begin)


def _open_files(tensors: Sequence[DiskTensor], direct: bool | None) -> tuple[dict[Path, _File], bool]:
    """The files of the tensors, open for reads at random places; and whether these are direct."""
    paths = dict.fromkeys(tensor.path for tensor in tensors)
    is_direct = direct is not False and all(_allows_direct(path) for path in paths)
    if direct and not is_direct:
        raise OSError(errno.EINVAL, f"direct must be False, as the file system does not allow it, of {next(iter(paths))}")
    files = {path: _File(path, _flags(is_direct)) for path in paths}
    for tensor in tensors:
        size = os.fstat(files[tensor.path].descriptor).st_size
        if size < tensor.start + tensor.size:
            raise CheckpointError(f"{tensor.path} has become shorter: it ends at byte {size}")
    return files, is_direct


def _flags(is_direct: bool) -> int:
    flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    return flags | os.O_DIRECT if is_direct else flags


def _allows_direct(path: Path) -> bool:
    """Whether a page can be read directly: some file systems refuse to open, others to read."""
    if not hasattr(os, "O_DIRECT"):
        return False
    with mmap.mmap(-1, _PAGE) as page:
        try:
            file = os.open(path, _flags(True))
        except OSError as error:
            if error.errno == errno.EINVAL:
                return False
            raise
        try:
            os.preadv(file, [page], 0)
        except OSError as error:
            if error.errno == errno.EINVAL:
                return False
            raise
        finally:
            os.close(file)
    return True
