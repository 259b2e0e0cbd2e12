"""Files that commands write: none of the user's files is lost.

What may not be replaced is refused before the work begins. A file is written beside its place and
renamed when it is complete, and what it replaces is kept as a backup, ``<name>.bak``.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ..io import atomic, checkpoint
from ..io.status import status_of
from .streams import UsageError

_Identity = tuple[int, int, int, int]


class _NotWrittenError(OSError):
    """An output could not be written; its text names it."""


class OutputFile:
    """A file that a command writes, once or several times.

    Parameters
    ----------
    option : str
        That names it, for errors.
    path : str
    force : bool
        Whether a file that is there may be replaced.
    resumed : str or None
        A checkpoint, which may be replaced in any case.

    Attributes
    ----------
    path : str
    backup : Path
        Where a file that is there is kept.
    kept : list of Path
        The backups that have been made.
    """

    def __init__(self, option: str, path: str, *, force: bool = False, resumed: str | None = None) -> None:
        self.path = path
        self.kept: list[Path] = []
        try:
            self._target = checkpoint.writable_path(path)
            if path.endswith(os.sep):
                raise OSError(f"{path} is a folder")
            self.backup = self._target.with_name(f"{self._target.name}.bak")
            self._found = _identity(self._target)
            self._written: _Identity | None = None
            if self._found is not None:
                self._check_replaceable(force, resumed)
            self.try_out(Path.touch)
        except (OSError, ValueError) as error:  # ValueError: a path that no system call takes
            raise UsageError(f"{option}: {error}") from error

    def _check_replaceable(self, force: bool, resumed: str | None) -> None:
        """OSError unless what is there may be replaced, and kept as the backup."""
        name, old = self.backup.name, None
        with contextlib.suppress(FileNotFoundError):
            old = self.backup.lstat().st_mode
        if old is not None and not stat.S_ISREG(old):
            raise OSError(f"{self.path} would be kept as {name}, which is there and not a regular file")
        for path in (self._target, self.backup):
            if not _may_be_renamed_over(path):
                raise OSError(f"{path} belongs to another user, and only its owner may replace files of this folder")
        if force:
            return
        if resumed is None or not is_same(self._target, resumed):
            raise OSError(f"{self.path} is there already: name another file, or give --force, which keeps it as {name}")
        if not self._target.stat().st_mode & 0o222:
            raise OSError(f"{self.path} is write-protected: name another file, or give --force")
        if old is not None and not _is_checkpoint(self.backup):
            raise OSError(f"{self.path} would be kept as {name}, which is there and no checkpoint: move it, or give --force")

    def keeps_as(self, path: str) -> bool:
        """Whether a file that is there would be kept under this path, and replace what has it."""
        return self._found is not None and is_same(self.backup, path)

    def try_out(self, content: Callable[[Path], object]) -> None:
        """Write and remove the file, so that what prevents it is known before the work begins."""
        try:
            with checkpoint.temporary_folder(self._target) as folder:
                content(folder / "new")
        except OSError as error:
            raise self._error(error) from error

    def write(self, content: Callable[[Path], object]) -> None:
        """Write the file: ``content`` does it, at the path that it is given."""
        with self.writing() as temporary:
            content(temporary)

    @contextlib.contextmanager
    def writing(self) -> Iterator[Path]:
        """A context in which the file is written, at the path that it gives; its end replaces."""
        backup = self._next_backup()
        try:
            with checkpoint.replacing(self._target, backup) as temporary:
                yield temporary
        except OSError as error:
            raise self._error(error) from error
        self._written = _identity(self._target)
        if backup is not None:
            self.kept.append(backup)

    def remove(self) -> None:
        """Keep the file that is there, if there is one, as the backup alone."""
        backup = self._next_backup()
        try:
            if backup is None:
                atomic.remove(self._target)
            else:
                os.replace(self._target, backup)
                self.kept.append(backup)
        except OSError as error:
            raise self._error(error) from error

    def _next_backup(self) -> Path | None:
        """Where to keep what is there now; None if there is nothing, or what was written here."""
        there = _identity(self._target)
        if there in (None, self._written):
            return None
        if there == self._found:
            return self.backup
        # It has come or changed since the work began, and whether it may be replaced is unknown.
        names = (f"{self.backup}{n or ''}" for n in itertools.count())
        return Path(next(name for name in names if not os.path.lexists(name)))

    def _error(self, error: OSError) -> OSError:
        """The error without the path of a temporary file; one of another output stays as it is."""
        if isinstance(error, _NotWrittenError):
            return error
        return _NotWrittenError(f"cannot write {self.path}: {error.strerror or str(error).rpartition(': ')[2]}")


def output_files(
    outputs: Mapping[str, str | None], inputs: Mapping[str, str | None], *, force: bool, resumed: str | None = None
) -> dict[str, OutputFile]:
    """The files that a command is to write, by their options.

    Raises
    ------
    UsageError
        One cannot be written, must not be replaced, or is, by its path or a link, another one or an
        input. The checkpoint that is resumed is no such input for --out.
    """
    read = {name: path for name, path in inputs.items() if path is not None}
    written = {option: path for option, path in outputs.items() if path is not None}
    if resumed is not None:
        read["--resume"] = resumed
    everything = read | written
    for one, other in itertools.combinations(everything, 2):
        path = everything[one]
        if other in written and (one, other) != ("--resume", "--out") and is_same(path, everything[other]):
            raise UsageError(f"{one} and {other} are the same file, {path}")
    files = {}
    for option, path in written.items():
        file = files[option] = OutputFile(option, path, force=force, resumed=resumed if option == "--out" else None)
        for other, other_path in everything.items():
            if other != option and file.keeps_as(other_path):
                raise UsageError(f"{option}: {path} would be kept as {file.backup.name}, which is {other}: name another file")
    return files


def is_same(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Whether two paths lead to one file, through links too, or would if it were there."""
    with contextlib.suppress(OSError):
        return os.path.samefile(one, other)
    return os.path.realpath(one) == os.path.realpath(other)


def _identity(path: Path) -> _Identity | None:
    """What tells a file from others and from itself at other times; None if there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def _may_be_renamed_over(path: Path) -> bool:
    """Whether a folder's sticky bit, as of /tmp, allows to replace the file, if it is there."""
    folder = path.parent.stat()
    if not folder.st_mode & stat.S_ISVTX:
        return True
    found = status_of(path)
    return found is None or os.geteuid() in (0, folder.st_uid, found.st_uid)


def _is_checkpoint(path: Path) -> bool:
    try:
        checkpoint.load(path)
    except (OSError, ValueError, ImportError):
        return False
    return True
