"""Locks of mapped files: readers share one, a writer has its own; a dead process holds none."""

from __future__ import annotations

import os
from pathlib import Path

from . import journal

try:
    import fcntl
except ImportError:
    raise ImportError("mapped tables need fcntl and private mappings, which are unsupported here") from None


def lock_file(path: Path, mode: str) -> int:
    """A descriptor that locks the file: shared with other readers, or exclusive with mode "r+"."""
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is not a regular file")
    while True:
        lock = os.open(path, (os.O_RDWR if mode == "r+" else os.O_RDONLY) | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, (fcntl.LOCK_EX if mode == "r+" else fcntl.LOCK_SH) | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock), os.stat(path)):  # else it was replaced meanwhile
                return lock
        except BlockingIOError:
            os.close(lock)
            others = "it is open elsewhere" if mode == "r+" else 'it is open with mode="r+" elsewhere'
            raise BlockingIOError(f"{path} cannot be opened with mode={mode!r}: {others}") from None
        os.close(lock)


def lock_and_recover(path: Path, mode: str) -> int:
    """`lock_file`, and with mode "r+" replay the journal that a killed writer left."""
    while True:
        lock = lock_file(path, mode)
        try:
            pending = journal.read(path) if mode == "r+" else None
            if pending is None:
                return lock
            pending.replay(path)
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)  # the journal of a resize replaces the file, so lock again
