"""What a path names. From CPython 3.14 on `Path.exists` calls whatever error an absence."""

from __future__ import annotations

import errno
import os
import stat

_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


def status_of(path: str | os.PathLike[str]) -> os.stat_result | None:
    """The status of what a path names, links followed; None if it names nothing.

    Raises
    ------
    OSError
        The system cannot tell.
    """
    try:
        return os.stat(path)
    except ValueError:  # a NUL, which no path has
        return None
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise


def is_there(path: str | os.PathLike[str]) -> bool:
    """Whether a path names anything; OSError if the system cannot tell."""
    return status_of(path) is not None


def is_other_than_file(path: str | os.PathLike[str]) -> bool:
    """Whether a path names a folder, a pipe or the like, which to open might wait for ever."""
    found = status_of(path)
    return found is not None and not stat.S_ISREG(found.st_mode)
