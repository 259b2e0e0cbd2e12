"""Locks of mapped files, which end with their process.

Readers share a lock on the table, a writer has one of its own. A snapshot is taken while a writer
has the table open: both lock ``<path>.lock``, the writer only while it writes into the files.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from . import journal
from .atomic import beside

try:
    import fcntl
except ImportError:
    raise ImportError("mapped tables need fcntl and private mappings, which are unsupported here") from None

_N_TRIES, _WAIT = 200, 0.01  # of a snapshot, while the writer opens or closes the table; seconds


def lock_file(path: Path, mode: str) -> int:
    """A descriptor that locks the file: shared with other readers, or exclusive with mode "r+"."""
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is not a regular file")
    while True:
        lock = os.open(path, (os.O_RDWR if mode == "r+" else os.O_RDONLY) | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, (fcntl.LOCK_EX if mode == "r+" else fcntl.LOCK_SH) | fcntl.LOCK_NB)
            if _is_at(lock, path):  # else it was replaced meanwhile
                return lock
        except BlockingIOError:
            os.close(lock)
            others = "it is open elsewhere" if mode == "r+" else 'it is open with mode="r+" elsewhere'
            raise BlockingIOError(f"{path} cannot be opened with mode={mode!r}: {others}") from None
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is the one that the path names."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


class Locks:
    """The locks of an open table.

    Attributes
    ----------
    table : int or None
        The descriptor that locks the table; None for a snapshot.
    flushes : int or None
        With mode "r+", the descriptor of ``<path>.lock``.
    """

    def __init__(self, path: Path, mode: str) -> None:
        self.path = path
        self.table: int | None = lock_file(path, mode)
        self.flushes: int | None = None
        if mode == "r+":
            try:
                self.flushes = os.open(beside(path, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
                with contextlib.suppress(PermissionError):  # one that another user's killed process left
                    os.fchmod(self.flushes, os.fstat(self.table).st_mode & 0o666)
            except BaseException:
                self.close()
                raise

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """A context in which no snapshot is taken, and the writer writes into the files."""
        assert self.flushes is not None
        fcntl.flock(self.flushes, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self.flushes, fcntl.LOCK_UN)

    def replace_table(self, lock: int) -> None:
        """Take over the lock of the file that has replaced the table."""
        old, self.table = self.table, lock
        if old is not None:
            os.close(old)

    def release(self) -> None:
        """Close the descriptors without a change to any file, as a forked child does."""
        flushes, table, self.flushes, self.table = self.flushes, self.table, None, None
        try:
            if flushes is not None:
                os.close(flushes)
        finally:
            if table is not None:
                os.close(table)

    def close(self) -> None:
        """Unlock; the writer also removes ``<path>.lock``, while nobody else holds it."""
        try:
            if self.flushes is not None:
                with self.writing():
                    beside(self.path, "lock").unlink(missing_ok=True)
        finally:
            self.release()


class NoLocks(Locks):
    """Those of a snapshot, which is in memory: none."""

    def __init__(self) -> None:
        self.table = self.flushes = None


def lock_and_recover(path: Path, mode: str) -> Locks:
    """The locks of a table; with mode "r+" the journal that a killed writer left is replayed."""
    while True:
        locks = Locks(path, mode)
        try:
            pending = journal.read(path) if mode == "r+" else None
            if pending is None:
                return locks
            with locks.writing():
                pending.replay(path)
        except BaseException:
            locks.close()
            raise
        locks.close()  # the journal of a resize replaces the file, so lock again


@contextlib.contextmanager
def no_flush(path: Path) -> Iterator[None]:
    """A context in which nobody writes into the files of a table, which a writer may have open.

    Waits for a flush that is under way. Without a writer, the table itself is locked.
    """
    for _ in range(_N_TRIES):
        lock = _lock_for_snapshot(path)
        if lock is not None:
            try:
                yield
            finally:
                os.close(lock)
            return
        time.sleep(_WAIT)
    raise BlockingIOError(f'{path} is open with mode="r+" elsewhere, and that process does not share snapshots of it')


def _lock_for_snapshot(path: Path) -> int | None:
    """A descriptor of the lock; None while the writer opens or closes the table."""
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        lock = os.open(beside(path, "lock"), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        try:
            return lock_file(path, "r")
        except BlockingIOError:
            return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        if _is_at(lock, beside(path, "lock")):
            return lock
    except BaseException:
        os.close(lock)
        raise
    os.close(lock)
    return None
