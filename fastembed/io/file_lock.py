"""Locks of mapped files: shared by readers, of a writer alone. A process that dies leaves none."""

from __future__ import annotations

import os
from pathlib import Path

from . import journal

try:
    import fcntl
except ImportError:
    raise ImportError("mapped tables need fcntl and private mappings, which are unsupported here") from None


def locked(path: Path, mode: str) -> int:
    """A descriptor with a lock on the file that has that name: shared by readers, of a writer alone."""
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is not a regular file")
    while True:
        lock = os.open(path, (os.O_RDWR if mode == "r+" else os.O_RDONLY) | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, (fcntl.LOCK_EX if mode == "r+" else fcntl.LOCK_SH) | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock), os.stat(path)):
                return lock
        except BlockingIOError:
            os.close(lock)
            others = "it is open elsewhere" if mode == "r+" else 'it is open with mode="r+" elsewhere'
            raise BlockingIOError(f"{path} cannot be opened with mode={mode!r}: {others}") from None
        os.close(lock)


def recovered(path: Path, mode: str) -> int:
    """The same, after what killed writers left to do has been done; a reader leaves that to the next writer."""
    while True:
        lock = locked(path, mode)
        try:
            pending = journal.read(path) if mode == "r+" else None
            if pending is None:
                return lock
            pending.carry_out(path)
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)  # a table that was resized is another file now
