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

# Temporary files: .fastembed.<machine>.<process>.<random>.tmp
_PREFIX = f".fastembed.{zlib.crc32(platform.node().encode()):08x}."
_TEMPORARY = re.compile(re.escape(_PREFIX) + r"(?P<pid>[0-9]{1,9})\.[0-9a-f]{8}\.tmp")


def writable_path(path: str | os.PathLike[str]) -> Path:
    """The file that a save to ``path`` writes, links resolved; OSError if it cannot be written."""
    if not os.fspath(path):
        raise FileNotFoundError("the path of a checkpoint must not be empty")
    target = Path(os.path.realpath(os.fsdecode(path)))
    if target.exists() and not target.is_file():
        raise OSError(f"{path} is not a regular file, and is not replaced")
    if not os.access(target.parent, os.W_OK):
        raise OSError(f"cannot write {path}: no folder {target.parent} that can be written")
    return target


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[BinaryIO]:
    """A new file that replaces ``target`` when the block ends without an exception.

    It has the permissions of ``target``. Temporary files of dead processes are removed.
    """
    _remove_stale(target.parent)
    temporary = target.with_name(f"{_PREFIX}{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            if target.exists():
                os.chmod(temporary, target.stat().st_mode & 0o666)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):  # those of a write name no file
            raise OSError(error.errno, f"cannot write {target}: {error.strerror}") from error
        raise
    flush_folder(target.parent)


def beside(path: Path, suffix: str) -> Path:
    """The file ``<name>.<suffix>`` that belongs to ``path``, in the same folder."""
    return path.with_name(f"{path.name}.{suffix}")


def open_new(path: Path, mode_from: Path) -> BinaryIO:
    """Open ``<path>.new``, later renamed to ``path``; permissions are those of ``mode_from``."""
    mode = mode_from.stat().st_mode & 0o666 if mode_from.exists() else None
    file = open(beside(path, "new"), "wb")  # noqa: SIM115 - the caller closes it
    try:
        if mode is not None:
            os.fchmod(file.fileno(), mode)
    except BaseException:
        file.close()
        raise
    return file


def flush_folder(folder: Path) -> None:
    """Flush a folder to the disk, so that renames in it outlast a power failure."""
    if os.name == "posix":  # elsewhere a folder cannot be opened, and a rename needs no flush
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove_stale(folder: Path) -> None:
    """Remove temporary files of killed processes of this machine, as far as that is possible."""
    with contextlib.suppress(OSError):  # if the folder cannot be listed, or another save removes them
        for entry in folder.iterdir():
            found = _TEMPORARY.fullmatch(entry.name)
            if found and not _is_alive(int(found["pid"])):
                if entry.is_dir():  # of an earlier version, which wrote into a folder
                    shutil.rmtree(entry, ignore_errors=True)
                else:
                    entry.unlink(missing_ok=True)


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
