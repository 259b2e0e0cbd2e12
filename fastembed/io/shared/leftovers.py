"""The shared tables that there are in memory, and removing those that nobody writes any more."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..atomic import beside
from ..errors import CheckpointError
from .segment import PREFIX, Layout, open_segment, path_of, paths, remove_unfinished


class SharedTable(NamedTuple):
    """A file of a shared table.

    Attributes
    ----------
    path : Path
    layout : Layout or None
        None for a file that is not complete, or not readable.
    n_bytes : int
        The memory that it takes.
    is_written : bool
        Whether a living process holds it.
    """

    path: Path
    layout: Layout | None
    n_bytes: int
    is_written: bool

    @property
    def name(self) -> str:
        """What it is removed by: an unfinished file by the name of the table."""
        return self.path.name.removeprefix(PREFIX).removesuffix(".new")


def tables() -> Iterator[SharedTable]:
    """The files of the shared tables in memory."""
    for path in paths():
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            yield _described(path)


def _described(path: Path) -> SharedTable:
    n_bytes, layout, is_written = os.stat(path).st_blocks * 512, None, False
    with contextlib.suppress(PermissionError), open(str(path), "rb", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            is_written = True
        with contextlib.suppress(CheckpointError):
            layout = Layout.read(path, file.read(128), os.fstat(file.fileno()).st_size)
    return SharedTable(path, None if path.name.endswith(".new") else layout, n_bytes, is_written)


def remove(name: str | os.PathLike[str]) -> None:
    """Remove a shared table, and what a killed process left unfinished beside it.

    Processes that read it keep its last rows, and change over to a new table of the name.

    Raises
    ------
    FileNotFoundError, PermissionError
        There is none, or this user may not write it.
    CheckpointError
        The file is not a shared table.
    BlockingIOError
        A process that is running writes it.
    """
    path = path_of(name)
    has_removed = remove_unfinished(beside(path, "new"))
    try:
        segment = open_segment(path, to_write=True)
    except FileNotFoundError:
        if not has_removed:
            raise
        return
    segment.remove()
