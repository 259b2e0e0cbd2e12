"""A new safetensors file of a table and the names of its rows, whose number is known at the end."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ..formats import safetensors_file
from . import names as names_of

if TYPE_CHECKING:
    from ..._typing import Array

_HEADER = 1024  # bytes that the header takes, whatever the number of rows
_NAME = "weight"


class TableFile:
    """Rows are appended block by block; the header is written when all are there.

    Such a file can be mapped (`fastembed.Embedding.open`), and its layer has the names.

    Attributes
    ----------
    n_rows : int
    """

    def __init__(self, file: BinaryIO, n_cols: int, dtype: np.dtype[Any]) -> None:
        self._file, self._n_cols, self._dtype = file, n_cols, dtype
        self.n_rows = 0
        file.write(bytes(_HEADER))

    def append(self, rows: Array) -> None:
        plain = np.ascontiguousarray(rows, self._dtype.newbyteorder("<"))
        self._file.write(plain.reshape(-1).view(np.uint8).data)
        self.n_rows += len(rows)

    def finish(self, names: Iterable[str] | None) -> None:
        """Write the names, and then the header."""
        tensors = {} if names is None else names_of.packed(_NAME, names)
        shape = self.n_rows, self._n_cols
        dtype = str(safetensors_file.dtype_name(self._dtype))
        entries = {_NAME: (dtype, shape, self.n_rows * self._n_cols * self._dtype.itemsize)}
        for name, array in tensors.items():
            plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
            entries[name] = str(safetensors_file.dtype_name(array.dtype)), array.shape, array.nbytes
            self._file.write(plain.view(np.uint8).data)
        self._file.seek(0)
        self._file.write(safetensors_file.header_bytes(entries, {safetensors_file.ID: secrets.token_hex(16)}, _HEADER))
