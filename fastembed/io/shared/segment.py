"""Segment: the memory of a shared table, which is a file that processes map.

A name stands for a file in /dev/shm, and a path for itself. The file has a header, versions, the
rows, and a journal with space for all rows, which takes memory only while it is used
(docs/shared.md).
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import struct
import time
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ... import _checks
from ..._kernels.backend import kernels
from ..atomic import beside, inode_at
from ..errors import CheckpointError, need_regular_file
from ..mapped.file_lock import lock_file
from ..status import is_there

try:
    import fcntl
except ImportError:
    raise ImportError("shared tables need fcntl and shared mappings, which are unsupported here") from None

if TYPE_CHECKING:
    from ..._typing import Array

MEMORY = Path("/dev/shm")  # where Linux keeps POSIX shared memory
PREFIX = "fastembed."  # of the files in it
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
_MAGIC = b"fastembed.shared"
_HEADER = struct.Struct("=16s16sqqqq")  # magic, dtype, version of the layout, rows, columns, generation
_LAYOUT = 2
_SEQUENCE_AT, _REPLACED_AT, _JOURNAL_SIZE_AT, _POSITION_AT = 128, 192, 256, 320  # bytes: each alone in a cache line
_PAGE, _LARGE_PAGE = 4096, 1 << 21
_MOST_VERSIONS = 1 << 14
_DTYPES = ("float32", "float64", "float16", "bfloat16")
_MOST = 1 << 48  # rows or columns
_LARGE_JOURNAL = 1 << 24  # bytes
_LEAST_RESERVED = 1024  # rows of the journal
_ATTEMPTS = 8  # at a snapshot, before the writer is asked to wait
_TIMEOUT = 60  # seconds of attempts with a writer that does not wait


def path_of(name: str | os.PathLike[str]) -> Path:
    """The file of a shared table: in memory for a name, or the given path."""
    if isinstance(name, os.PathLike) or (isinstance(name, str) and os.sep in name):
        return Path(os.path.realpath(_checks.path("name", name)))
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name.endswith(".new"):
        rule = "a path, or a name of at most 200 letters, digits and . _ - that does not begin with . or - or end with .new"
        raise ValueError(f"name must be {rule}, got {_checks.shown(name)}")
    if not MEMORY.is_dir():
        raise OSError(f"there is no {MEMORY} here for the name {name}: give the path of a file")
    return MEMORY / (PREFIX + name)


def _up(n: int, unit: int) -> int:
    return -(-n // unit) * unit


class Layout(NamedTuple):
    """What a segment holds, and with that where."""

    dtype: np.dtype[Any]
    n_rows: int
    n_cols: int
    generation: int

    @property
    def n_bytes(self) -> int:
        """The bytes of all rows."""
        return self.n_rows * self.n_cols * self.dtype.itemsize

    @property
    def n_versions(self) -> int:
        """A power of two: one for each row, or as many as stay in the L2 cache."""
        return 1 << min(max(self.n_rows - 1, 0).bit_length(), _MOST_VERSIONS.bit_length() - 1)

    @property
    def rows_at(self) -> int:
        return _PAGE + _up(4 * self.n_versions, _PAGE)

    @property
    def rows_end(self) -> int:
        """Up to here the file takes memory, beside the journal."""
        return self.rows_at + self.n_bytes

    @property
    def journal_rows_at(self) -> int:
        return _up(self.rows_end, _LARGE_PAGE if self.rows_end >= _LARGE_PAGE else _PAGE)

    @property
    def journal_at(self) -> int:
        return _up(self.journal_rows_at + 8 * self.n_rows, _PAGE)

    @property
    def size(self) -> int:
        return _up(self.journal_at + self.n_bytes, _PAGE)

    def header(self) -> bytes:
        return _HEADER.pack(_MAGIC, self.dtype.name.encode(), _LAYOUT, self.n_rows, self.n_cols, self.generation)

    @classmethod
    def read(cls, path: Path, header: bytes, size: int) -> Layout:
        """Of the header of a file of that size; CheckpointError if it is no such file."""
        if len(header) < _HEADER.size or not header.startswith(_MAGIC):
            raise CheckpointError(f"{path} is not a shared table")
        _, name, version, n_rows, n_cols, generation = _HEADER.unpack_from(header)
        dtype = name.rstrip(b"\0").decode("ascii", "replace")
        if version != _LAYOUT:
            raise CheckpointError(f"{path} is a shared table of layout {version}, which this version does not read")
        if dtype not in _DTYPES or not 0 <= n_rows <= _MOST or not 0 <= n_cols <= _MOST or generation < 1:
            raise CheckpointError(f"{path} is a damaged shared table: {n_rows} x {n_cols} of {_checks.shown(dtype)}")
        layout = cls(_checks.dtype(dtype), n_rows, n_cols, generation)
        if layout.size != size:
            raise CheckpointError(f"{path} is a damaged shared table: {size} bytes, and not {layout.size}")
        return layout


class Segment:
    """A shared table, mapped.

    Attributes
    ----------
    path : Path
    layout : Layout
    rows : kernels.SharedRows
    file : FileIO
        What it was opened by; it locks a table that this process writes.
    """

    def __init__(self, path: Path, file: FileIO, layout: Layout, memory: kernels.SharedMemory) -> None:
        self.path, self.file, self.layout, self._memory = path, file, layout, memory
        self.inode = os.fstat(file.fileno()).st_ino
        self._n_reserved = 0
        self.rows = self.looked_at()

    def close(self) -> None:
        """Close the file, and with that unlock it; the memory stays as long as arrays of it."""
        self.file.close()

    def __del__(self) -> None:
        if hasattr(self, "file"):  # it has none where a signal was taken before the constructor set it
            self.file.close()

    def looked_at(self) -> kernels.SharedRows:
        """The rows, for a process that has just looked at the name."""
        n_rows, shape, memory = self.layout.n_rows, (self.layout.n_rows, self.layout.n_cols), memoryview(self._memory)

        def array(shape: int | tuple[int, int], dtype: Any, at: int) -> Array:
            return np.ndarray(shape, dtype, memory, at)

        return kernels.SharedRows(
            array(shape, self.layout.dtype, self.layout.rows_at),
            array(1, np.uint64, _SEQUENCE_AT),
            array(1, np.uint64, _REPLACED_AT),
            array(self.layout.n_versions, np.uint32, _PAGE),
            array(1, np.int64, _JOURNAL_SIZE_AT),
            array(n_rows, np.int64, self.layout.journal_rows_at),
            array(shape, self.layout.dtype, self.layout.journal_at),
            array(1, np.int64, _POSITION_AT),
        )

    # ---- for who writes ----

    def reserve(self, n_rows: int) -> None:
        """Take memory for so many rows in the journal; OSError if there is none."""
        n_rows = min(max(n_rows, _LEAST_RESERVED), self.layout.n_rows)
        if n_rows > self._n_reserved:
            row_size = self.layout.n_cols * self.layout.dtype.itemsize
            for at, size in ((self.layout.journal_rows_at, 8 * n_rows), (self.layout.journal_at, n_rows * row_size)):
                _allocate(self.file, self.path, at, size)
            self._n_reserved = n_rows

    def release(self) -> None:
        """Give the memory of a large journal back."""
        if self._n_reserved * self.layout.n_cols * self.layout.dtype.itemsize > _LARGE_JOURNAL:
            self._memory.discard(self.layout.journal_rows_at)
            self._n_reserved = 0

    def remove(self) -> None:
        """Remove the name, unless it stands for another table by now, and close.

        Readers look at the name from before that on, so that they find the next table.
        """
        self.rows.set_replaced(False)
        if inode_at(self.path) == self.inode:
            self.path.unlink()
        self.close()

    @property
    def patience(self) -> float:
        """The seconds that who writes waits for a snapshot: about ten times what a copy takes."""
        return 2.0 + 2e-9 * self.layout.n_bytes

    # ---- for who reads ----

    def read_at_once(self, rows: Array | None, out: Array) -> None:
        """Rows (checked int64; None: all), copied as of one moment between two publications."""
        if any(self.rows.read_at_once(rows, out) for _ in range(_ATTEMPTS)):
            return
        end = time.monotonic() + self.patience + _TIMEOUT
        fcntl.lockf(self.file, fcntl.LOCK_SH)  # who writes waits now
        try:
            while not self.rows.read_at_once(rows, out):
                if time.monotonic() > end:
                    raise TimeoutError(f"{self.path} is written so often that no snapshot of {len(out)} rows succeeded")
        finally:
            fcntl.lockf(self.file, fcntl.LOCK_UN)


def _allocate(file: FileIO, path: Path, at: int, size: int) -> None:
    """Take memory for a part of a file: a write into a hole without any would end the process."""
    if size == 0:
        return
    try:
        os.posix_fallocate(file.fileno(), at, size)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            raise
        raise OSError(error.errno, f"no space for {size} bytes of a shared table", str(path)) from None


def create(path: Path, table: Array, generation: int, mode: int) -> Segment:
    """A new segment with the rows of a table, locked, as ``<path>.new``; rename it to ``path``."""
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no folder for a shared table; a name without / is one in memory", str(path))
    new = beside(path, "new")
    remove_unfinished(new)
    layout = Layout(table.dtype.newbyteorder("="), table.shape[0], table.shape[1], generation)
    file = open(str(new), "x+b", buffering=0)  # noqa: SIM115 - the segment keeps it
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.fchmod(file.fileno(), mode)
        os.ftruncate(file.fileno(), layout.size)
        _allocate(file, path, 0, layout.rows_end)
        file.write(layout.header())
        memory = _mapped_to_write(new, layout)
        memory.use_large_pages(layout.rows_end)
        segment = Segment(path, file, layout, memory)
        segment.rows.rows[...] = table
    except BaseException:
        new.unlink(missing_ok=True)
        file.close()
        raise
    return segment


def remove_unfinished(new: Path) -> bool:
    """Remove what a killed process left, if anything; BlockingIOError if a living one writes it."""
    with contextlib.suppress(FileNotFoundError), open(str(new), "rb", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(f"{new} is being written by another process") from None
        new.unlink()
        return True
    return False


def drop_unfinished(path: Path, made: Segment | None) -> None:
    """Remove the file ``<path>.new`` that was made, or that was left as it was being made."""
    new = beside(path, "new")
    if made is None:
        with contextlib.suppress(BlockingIOError):  # another process makes one
            remove_unfinished(new)
    elif inode_at(new) == made.inode:
        new.unlink()


def _mapped_to_write(path: Path, layout: Layout) -> kernels.SharedMemory:
    """A mapping of a file that is locked by another descriptor.

    A mapping keeps the lock of its own, also in a forked child.
    """
    with open(str(path), "r+b", buffering=0) as file:
        return kernels.SharedMemory(file.fileno(), layout.size, True)


def open_segment(path: Path, *, to_write: bool = False) -> Segment:
    """The shared table that a file is now, checked; locked, if it is opened to be written."""
    if not is_there(path):
        raise FileNotFoundError(errno.ENOENT, "no shared table", str(path))
    need_regular_file(path)
    file = _locked(path) if to_write else open(str(path), "rb", buffering=0)  # noqa: SIM115 - the segment keeps it
    try:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_mode & stat.S_IWOTH:
            raise PermissionError(errno.EPERM, "a shared table that everybody may write is not trusted", str(path))
        layout = Layout.read(path, file.read(_HEADER.size), found.st_size)
        memory = _mapped_to_write(path, layout) if to_write else kernels.SharedMemory(file.fileno(), layout.size, False)
        return Segment(path, file, layout, memory)
    except BaseException:
        file.close()
        raise


def _locked(path: Path) -> FileIO:
    try:
        return lock_file(path, "r+")
    except BlockingIOError:
        raise BlockingIOError(f"{path} belongs to a process that is running, which alone writes it") from None


def paths() -> Iterator[Path]:
    """The files of the shared tables in memory; those that end with .new are unfinished."""
    if MEMORY.is_dir():
        yield from sorted(path for path in MEMORY.iterdir() if path.name.startswith(PREFIX))
