"""Files that are written whole or not at all: under another name, flushed, then renamed."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import secrets
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from .. import _checks
from .status import is_other_than_file, is_there, status_of

# Temporary folders: .fastembed.<machine>.<process>.<random>.tmp
_PREFIX = f".fastembed.{zlib.crc32(platform.node().encode()):08x}."
_TEMPORARY = re.compile(re.escape(_PREFIX) + r"(?P<pid>[0-9]{1,9})\.[0-9a-f]{8}\.tmp")


def writable_path(path: str | os.PathLike[str]) -> Path:
    """The file that a save to ``path`` writes, links resolved; OSError if it cannot be written."""
    target = Path(os.path.realpath(_checks.path("path", path)))
    if is_other_than_file(target):
        raise OSError(f"{path} is not a regular file, and is not replaced")
    if target.is_symlink():  # although links are resolved
        raise OSError(f"cannot write {path}: it is a link that leads to itself")
    if not os.access(target.parent, os.W_OK):
        raise OSError(f"cannot write {path}: no folder {target.parent} that can be written")
    return target


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], backup: Path | None = None) -> Iterator[Path]:
    """A path to write a new file to: at the end it is flushed and renamed over ``path``.

    After an error ``path`` is unchanged. A file that is replaced is kept as ``backup``, if given.
    """
    target = writable_path(path)
    with temporary_folder(target) as folder:
        temporary = folder / "new"
        yield temporary
        # Temporary files are private: take the permissions of the replaced file or, without one, of
        # the new folder.
        temporary.chmod((status_of(target) or folder.stat()).st_mode & 0o666)
        _flush(temporary, os.O_RDWR)
        if backup is not None and is_there(target):
            _link_or_copy(target, folder / "old")
            os.replace(folder / "old", backup)
        os.replace(temporary, target)
    flush_folder(target.parent)


def remove(path: Path) -> None:
    """Remove a file, if it is there, so that this outlasts a power failure."""
    path.unlink(missing_ok=True)
    flush_folder(path.parent)


@contextlib.contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """A new folder beside a file, removed at the end, with those that dead processes left."""
    _remove_stale(target.parent)
    folder = target.with_name(f"{_PREFIX}{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _link_or_copy(path: Path, copy: Path) -> None:
    try:
        os.link(path, copy)
    except OSError:  # a file system without hard links
        shutil.copy2(path, copy)
        _flush(copy, os.O_RDWR)


def beside(path: Path, suffix: str) -> Path:
    """The file ``<name>.<suffix>`` that belongs to ``path``, in the same folder."""
    return path.with_name(f"{path.name}.{suffix}")


def inode_at(path: Path) -> int | None:
    """The inode of the file that a path names now; None without one."""
    found = status_of(path)
    return None if found is None else found.st_ino


def open_new(path: Path, mode_from: Path) -> BinaryIO:
    """Open ``<path>.new``, later renamed to ``path``; permissions are those of ``mode_from``."""
    like = status_of(mode_from)
    file = open(beside(path, "new"), "wb")  # noqa: SIM115 - the caller closes it
    try:
        if like is not None:
            os.fchmod(file.fileno(), like.st_mode & 0o666)
    except BaseException:
        file.close()
        raise
    return file


def flush_folder(folder: Path) -> None:
    """Flush a folder to the disk, so that renames in it outlast a power failure."""
    if os.name == "posix":  # elsewhere a folder cannot be opened, and a rename needs no flush
        _flush(folder, os.O_RDONLY)


def _flush(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_stale(folder: Path) -> None:
    """Remove temporary folders of killed processes of this machine, as far as that is possible."""
    with contextlib.suppress(OSError):  # if the folder cannot be listed
        for entry in folder.iterdir():
            found = _TEMPORARY.fullmatch(entry.name)
            if found and not _is_alive(int(found["pid"])):
                shutil.rmtree(entry, ignore_errors=True)  # another save may be removing it too


def _is_alive(pid: int) -> bool:
    if os.name != "posix":
        return False  # elsewhere open files cannot be removed, so that trying is safe
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
