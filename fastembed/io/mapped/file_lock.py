"""Locks of mapped files, which end with their process.

Readers share a lock on the table, a writer has one of its own. A snapshot is taken while a writer
has the table open: both lock ``<path>.lock``, the writer only while it writes into the files.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

from ..atomic import beside
from ..errors import need_regular_file
from ..status import is_there
from . import journal

try:
    import fcntl
except ImportError:
    raise ImportError("mapped tables need fcntl and private mappings, which are unsupported here") from None

_N_TRIES, _WAIT = 200, 0.01  # of a snapshot, while the writer opens or closes the table; seconds


def lock_file(path: Path, mode: str) -> FileIO:
    """An open file that locks it: shared with other readers, or exclusive with mode "r+".

    It unlocks when it is closed or dropped. (A descriptor by number would stay locked if a signal
    came before it is stored.)
    """
    need_regular_file(path)
    while True:
        lock = open(str(path), "r+b" if mode == "r+" else "rb", buffering=0)  # noqa: SIM115 - it is returned
        try:
            fcntl.flock(lock, (fcntl.LOCK_EX if mode == "r+" else fcntl.LOCK_SH) | fcntl.LOCK_NB)
            if _is_at(lock, path):  # else it was replaced meanwhile
                return lock
        except BlockingIOError:
            lock.close()
            others = "it is open elsewhere" if mode == "r+" else 'it is open with mode="r+" elsewhere'
            raise BlockingIOError(f"{path} cannot be opened with mode={mode!r}: {others}") from None
        except BaseException:
            lock.close()
            raise
        lock.close()


def _is_at(file: FileIO, path: Path) -> bool:
    """Whether an open file is the one that the path names."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(str(path)))
    except FileNotFoundError:
        return False


class Locks:
    """The locks of an open table.

    Attributes
    ----------
    table : FileIO or None
        What locks the table; None for a snapshot.
    next_table : FileIO or None
        What locks the new file of a resize, which a flush puts in the place of the table.
    flushes : FileIO or None
        With mode "r+", ``<path>.lock``.
    """

    table: FileIO | None = None
    next_table: FileIO | None = None
    flushes: FileIO | None = None

    def __init__(self, path: Path, mode: str) -> None:
        self.path = path
        self.table = lock_file(path, mode)
        if mode == "r+":
            try:
                self.flushes = open(str(beside(path, "lock")), "ab", buffering=0)  # noqa: SIM115 - `close` does
                with contextlib.suppress(PermissionError):  # one that another user's killed process left
                    os.fchmod(self.flushes.fileno(), os.fstat(self.table.fileno()).st_mode & 0o666)
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

    def lock_next(self) -> None:
        """Lock the new file of a resize, before it can be in the place of the table."""
        if self.next_table is None:
            self.next_table = lock_file(beside(self.path, "new"), "r+")

    def take_next(self) -> None:
        """Unlock the file that the one of `lock_next` has replaced."""
        if self.next_table is not None:
            old, self.table, self.next_table = self.table, self.next_table, None
            if old is not None:
                old.close()

    def release(self) -> None:
        """Close the files without a change to any, as a forked child does; all, also if one raises.

        That takes no memory, of which there may be none.
        """
        try:
            _close(self.flushes)
        finally:
            try:
                _close(self.next_table)
            finally:
                _close(self.table)
        self.flushes = self.next_table = self.table = None

    def close(self) -> None:
        """Unlock; the writer also removes ``<path>.lock``, while nobody else holds it."""
        try:
            if self.flushes is not None:
                with self.writing():
                    beside(self.path, "lock").unlink(missing_ok=True)
        finally:
            self.release()


def _close(file: FileIO | None) -> None:
    if file is not None:
        file.close()


class NoLocks(Locks):
    """Those of a snapshot, which is in memory: none."""

    def __init__(self) -> None:
        """Nothing is locked."""


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
                lock.close()
            return
        time.sleep(_WAIT)
    raise BlockingIOError(f'{path} is open with mode="r+" elsewhere, and that process does not share snapshots of it')


def _lock_for_snapshot(path: Path) -> FileIO | None:
    """The lock; None while the writer opens or closes the table."""
    if not is_there(path):
        raise FileNotFoundError(f"no such file: {path}")
    try:
        lock = open(str(beside(path, "lock")), "rb", buffering=0)  # noqa: SIM115 - it is returned
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
        lock.close()
        raise
    lock.close()
    return None
