"""Private mappings of files and of memory: pages that are read and written as they are needed."""

from __future__ import annotations

import itertools
import mmap
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._kernels.backend import kernels
from ..atomic import beside, open_new
from ..errors import CheckpointError
from ..formats import tensor_file
from ..formats.tensor_file import Fill, Place
from . import journal

if TYPE_CHECKING:
    from ..._typing import Array

File = tuple[Path, Place, "Array"]  # an array in an open file, with the path of that

_NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)  # without it large mappings are refused
_PRIVATE: dict[str, Any] = {"flags": mmap.MAP_PRIVATE | _NO_RESERVE, "prot": mmap.PROT_READ | mmap.PROT_WRITE}


def mapped(path: Path, place: Place) -> Array:
    """An array in a private mapping of a file."""
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_ino != place.inode:
            raise CheckpointError(f"{path} has been replaced while it was opened")
        memory = mmap.mmap(file.fileno(), 0, **_PRIVATE)
    memory.madvise(mmap.MADV_RANDOM)
    return np.ndarray(place.shape, place.dtype, memory, place.start)


def resized(file: File, n_rows: int, fill: Fill, changed: Array) -> File:
    """A file with ``n_rows``, written as ``<path>.new`` and mapped.

    Its rows are those of the old file, the ``changed`` ones (sorted, distinct) those in memory, and
    added ones come from ``fill``.
    """
    path, place, array = file
    n_kept, size = min(n_rows, len(array)), place.row_size
    flushed = tensor_file.data_blocks(path, place, n_kept * size)
    runs = journal.runs_of(changed).tolist()
    newer = ((first * size, array[first : first + n].reshape(-1).view(np.uint8).data) for first, n in runs)
    with open_new(path, path) as opened:
        new = place._replace(shape=(n_rows, *place.shape[1:]))
        made = tensor_file.write(opened, new, fill, n_kept, itertools.chain(flushed, newer))
    return path, made, mapped(beside(path, "new"), made)


def in_memory(path: Path, place: Place) -> Array:
    """A copy of an array in a file; holes of the file take no memory."""
    flat = zeros(place.shape[0] * place.row_size, np.dtype(np.uint8))
    for offset, block in tensor_file.data_blocks(path, place, len(flat)):
        flat[offset : offset + len(block)] = np.frombuffer(block, np.uint8)
    return flat.view(place.dtype).reshape(place.shape)


def zeros(n: int, dtype: np.dtype[Any]) -> Array:
    """Zeros that use memory page by page as they are written; NumPy's come in pages of 2 MB."""
    if n * dtype.itemsize < 1 << 20:
        return np.zeros(n, dtype)
    memory = mmap.mmap(-1, n * dtype.itemsize, **{**_PRIVATE, "flags": _PRIVATE["flags"] | mmap.MAP_ANONYMOUS})
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, dtype)


def prefetch(arrays: list[Array], rows: Array) -> None:
    """Read nonresident rows from the disk in parallel, not one by one as they are accessed."""
    in_order = None
    for array in arrays:
        if kernels.any_nonresident(array, rows):
            in_order = np.sort(rows) if in_order is None else in_order
            kernels.prefetch_pages(array, in_order)
