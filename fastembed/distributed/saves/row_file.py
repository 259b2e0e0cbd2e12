"""Files of rows, of which single blocks can be read and verified.

A file is a safetensors file of tensors with one row for each row of a rank. A block is some rows of
one tensor, about 4 MB; the SHA-256 of each is kept elsewhere, in a manifest.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..._messages import shown
from ...io import checkpoint
from ...io.errors import CheckpointError
from ...io.formats import safetensors_file

if TYPE_CHECKING:
    from ..._typing import Array

_BLOCK = 4 << 20  # bytes

Digests = dict[str, list[str]]  # of the blocks of each tensor


def _rows_of_block(tail: Sequence[int], dtype: np.dtype[Any]) -> int:
    return max(1, _BLOCK // max(1, math.prod(tail) * dtype.itemsize))


def _digest(rows: Array) -> str:
    plain = np.ascontiguousarray(rows, rows.dtype.newbyteorder("<"))
    return hashlib.sha256(plain.reshape(-1).view(np.uint8).data).hexdigest()


def write(path: Path, arrays: Mapping[str, Array]) -> Digests:
    """Write a file, flushed, and return the digests of its blocks."""
    checkpoint.save(path, arrays)
    return {
        name: [_digest(array[first : first + n]) for first in range(0, len(array), n)]
        for name, array in arrays.items()
        for n in [_rows_of_block(array.shape[1:], array.dtype)]
    }


class RowFile:
    """A file of `write`, open for reading; a context manager.

    Parameters
    ----------
    path : Path
    digests : dict of str to list of str
        What `write` returned.
    """

    def __init__(self, path: Path, digests: Digests) -> None:
        self._path, self._digests = path, digests
        self._file = open(path, "rb")  # noqa: SIM115 - closed by the context
        try:
            self._tensors = safetensors_file.read_header(self._file, os.fstat(self._file.fileno()).st_size).tensors
        except (ValueError, TypeError, RecursionError) as error:
            self._file.close()
            raise CheckpointError(f"{path} is damaged: {error!s:.200}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, name: str, numbers: Array | None, n_rows: int | None, tail: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Rows of a tensor; only the blocks that they are in are read.

        Parameters
        ----------
        name : str
        numbers : ndarray of int64, or None
            Which rows, ascending; None for all.
        n_rows : int, or None
            How many the tensor must have; None for any number.
        tail : tuple of int
            The shape of a row that it must have.
        dtype : numpy.dtype

        Raises
        ------
        CheckpointError
            There is no such tensor, or a block is damaged.
        """
        tensor = self._tensors.get(name)
        if tensor is None or tensor.numpy_dtype() != dtype or tensor.shape[1:] != tail or n_rows not in (None, *tensor.shape[:1]):
            found = "none" if tensor is None else f"{tensor.dtype} of shape {tensor.shape}"
            raise CheckpointError(f"{self._path} must have {shown(name)} with rows of {dtype} and shape {tail}, has {found}")
        length, of_block = tensor.shape[0], _rows_of_block(tail, dtype)
        if numbers is None:
            numbers = np.arange(length)
        result = np.empty((len(numbers), *tail), dtype.newbyteorder("="))
        blocks = numbers // of_block
        for block in np.unique(blocks).tolist():
            first, is_here = block * of_block, blocks == block
            rows = safetensors_file.read_rows(self._file, name, tensor, dtype, first, min(first + of_block, length))
            if block >= len(self._digests.get(name, ())) or _digest(rows) != self._digests[name][block]:
                raise CheckpointError(f"{self._path} is damaged: rows from {first} on of {shown(name)} are not those saved")
            result[is_here] = rows[numbers[is_here] - first]
        return result
