"""What the system has in its page cache of a file, and what a process has read from the disk."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

import numpy as np


def drop(path: Path) -> None:
    """Ask the system to drop a file from the page cache, where it can be asked."""
    if hasattr(os, "posix_fadvise"):
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def n_bytes_cached(path: Path) -> int | None:
    """The bytes of a file that are in the page cache, by mincore; None where that is missing."""
    mincore = getattr(ctypes.CDLL(None), "mincore", None) if os.name == "posix" else None
    if mincore is None:
        return None
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapping:
        data, pages = np.frombuffer(mapping, np.uint8), np.empty(-(-len(mapping) // mmap.PAGESIZE), np.uint8)
        failed = mincore(ctypes.c_void_p(data.ctypes.data), ctypes.c_size_t(len(mapping)), ctypes.c_void_p(pages.ctypes.data))
        del data
    return None if failed else int((pages & 1).sum()) * mmap.PAGESIZE


def n_bytes_read() -> int | None:
    """The bytes read from disks for this process so far; None where /proc does not say so."""
    try:
        with open("/proc/self/io", encoding="ascii") as file:
            numbers = dict(line.split(": ") for line in file)
        return int(numbers["read_bytes"])
    except (OSError, KeyError):
        return None
