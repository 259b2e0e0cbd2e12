"""QuantizedEmbedding: a table of 8 or 4 bits an element, for inference.

V, P: rows of the tables; D: columns; S: the shape of the ids; N: ids; B: bags.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .. import _checks
from .._kernels.floats import own_floats
from .._kernels.packing import Packing
from ..tables.packed import PackedRows
from .one_table import OneTable

if TYPE_CHECKING:
    from .._typing import Array, ArrayLike

_FLOAT32 = np.dtype(np.float32)
# By bits: the dtype of the scale and the bias at the end of a row.
_TRAILER: dict[int, np.dtype[Any]] = {8: np.dtype(np.float32), 4: np.dtype(np.float16)}
_LARGEST = {8: 3.4028234663852886e38, 4: 65504.0}  # of the extent of a row; of its scale and bias
_BLOCK = 1 << 20  # elements that are quantized at one time
_KIND = "QuantizedEmbedding"  # in the description of a checkpoint


class QuantizedEmbedding(PackedRows):
    """A table of 8 or 4 bits an element: a quarter or an eighth of the memory of float32.

    It is made by `from_float`, `from_packed` or `load`, and cannot be trained. Each row has a scale
    and a bias; an element stands for ``element * scale + bias``, rounded once, to float32. The
    format is that of FBGEMM (src/QuantUtils.cc).

    Examples
    --------
    >>> import fastembed as fe
    >>> layer = fe.QuantizedEmbedding.from_float([[0.0, 1.0, 2.55], [-1.0, 0.54, 1.55]])
    >>> layer([1, 0]).round(3)
    array([[-1.  ,  0.54,  1.55],
           [ 0.  ,  1.  ,  2.55]], dtype=float32)
    >>> layer.bag([[0, 1]], mode="sum").round(2)
    array([[-1.  ,  1.54,  4.1 ]], dtype=float32)
    """

    def __init__(self, packed: ArrayLike, embedding_dim: int, *, bits: int = 8) -> None:
        self._bits = _checks.bits(bits)
        self._embedding_dim = _checks.size("embedding_dim", embedding_dim)
        self._packed = _checks.packed_table("packed", packed, _width(self._embedding_dim, self._bits))
        self._packing = Packing(f"fbgemm{self._bits}")

    @classmethod
    def from_packed(cls, packed: ArrayLike, embedding_dim: int, *, bits: int = 8) -> Self:
        """A layer around rows that are packed already: no copy.

        Parameters
        ----------
        packed : array_like of uint8, shape (V, D + 8), or (V, (D + 1) // 2 + 4) with 4 bits
            The bytes of a row must be contiguous; rows may have any stride and alignment.
        embedding_dim : int
            D, the number of elements of a row.
        bits : {8, 4}
        """
        return cls(packed, embedding_dim, bits=bits)

    @classmethod
    @own_floats
    def from_float(cls, table: Any, *, bits: int = 8, errors: str = "raise") -> Self:
        """A layer with the elements of a table, rounded to the nearest.

        Parameters
        ----------
        table : Embedding, EmbeddingBag or array_like of shape (V, D)
            Of any float dtype; it is rounded to float32 first. Names of a layer's rows stay.
        bits : {8, 4}
        errors : {"raise", "clip"}
            Whether a row whose range is too large for the format is a ValueError; or its scale and
            bias, where they are too large, become the largest that there are, and its elements
            outside of the range that these give become the nearest end of it.

        Raises
        ------
        ValueError
            A row has a number that is not finite; or, unless they are clipped, its range is too
            large for the format: with 8 bits larger than the largest float32, with 4 bits below
            -65,504 or larger than 15 times that.
        """
        bits, is_clipped = _checks.bits(bits), _checks.one_of("errors", errors, ("raise", "clip")) == "clip"
        array = _checks.table("table", table.weight if isinstance(table, OneTable) else table)
        n_rows, n_cols = array.shape
        packed = np.empty((n_rows, _width(n_cols, bits)), np.uint8)
        n_block = max(_BLOCK // max(n_cols, 1), 1)
        for first in range(0, n_rows, n_block):
            rows = _checks.rounded(array[first : first + n_block], _FLOAT32)
            _pack(packed[first : first + n_block], rows, first, bits, is_clipped)
        made = cls(packed, n_cols, bits=bits)
        made.vocabulary = table.vocabulary if isinstance(table, OneTable) else None
        return made

    @property
    def packed(self) -> Array:
        """The stored rows, uint8."""
        return self._packed

    @packed.setter
    def packed(self, value: Array) -> None:
        _checks.in_place("packed", value, self._packed)

    @property
    def bits(self) -> int:
        """The bits of an element: 8 or 4."""
        return self._bits

    @own_floats  # rows that others packed may overflow
    def error_bound(self) -> Array:
        """The largest error of an element of each row, against the float32 number it was made from.

        float64, shape (V,): half a step of the row plus rounding errors, see
        `fastembed.reference.quantized.error_bound`.
        """
        n_bytes = _elements_size(self._embedding_dim, self._bits)
        trailers = np.ascontiguousarray(self._packed[:, n_bytes:]).view(_TRAILER[self._bits]).astype(np.float64)
        scale, bias = np.abs(trailers.T)
        extent = (2**self._bits - 1) * scale
        if self._bits == 8:
            step = scale / 2 + extent * 1e-8 / (extent + 1e-8)
        else:
            step = np.maximum(np.maximum(scale / 2, _float16_unit(bias) / 2), 7.5 * _float16_unit(scale))
        return step + (bias + 16 * extent) * 2.0**-24 + 2.0**-140

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the table to a safetensors file, atomically. See `fastembed.checkpoint.save`."""
        from ..io import checkpoint

        checkpoint.save(path, self._saved_tensors(), self._description())

    def _saved_tensors(self) -> dict[str, Array]:
        return {"packed": self._packed} | self._saved_names("packed")

    def _description(self) -> dict[str, Any]:
        """What a file holds of the layer beside tensors, for JSON."""
        return {"kind": _KIND, "embedding_dim": self._embedding_dim, "bits": self._bits} | self._described_names()

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a file of `save`; `fastembed.checkpoint.CheckpointError` for any other."""
        from .files.saved import load_kind

        return load_kind(path, cls)

    @classmethod
    def _from_saved(cls, tensors: dict[str, Array], description: dict[str, Any], hash: None) -> Self:
        """The layer of a file; KeyError, TypeError or ValueError if that has no such layer."""
        rows = cls._without_names(tensors, "packed")
        if rows.keys() != {"packed"}:
            raise ValueError(f"the one tensor must be packed, got {_checks.first_few(sorted(rows))}")
        made = cls(rows["packed"], description["embedding_dim"], bits=description["bits"])
        made._set_saved_names(tensors, "packed", description)
        return made

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.num_embeddings}, {self.embedding_dim}, bits={self.bits})"


def _elements_size(n_cols: int, bits: int) -> int:
    """The bytes of the elements of a row."""
    return (n_cols * bits + 7) // 8


def _width(n_cols: int, bits: int) -> int:
    """The bytes of a row: elements, scale and bias."""
    return _elements_size(n_cols, bits) + 2 * _TRAILER[bits].itemsize


def _float16_unit(x: Array) -> Array:
    """The distance between adjacent float16 numbers at each x."""
    return np.ldexp(1.0, np.frexp(np.maximum(x, 2.0**-14))[1] - 11)


@own_floats
def _pack(packed: Array, rows: Array, first: int, bits: int, is_clipped: bool) -> None:
    """Quantize float32 rows into ``packed``; ``first`` is the number of the first, for errors."""
    low, high = (np.zeros(len(rows), np.float32) if rows.shape[1] == 0 else end(axis=1) for end in (rows.min, rows.max))
    low, high = low + np.float32(0), high + np.float32(0)  # never -0.0
    scale, bias, inverse = _steps(low, high, bits, is_clipped)
    ends = (low, high) if is_clipped else (scale, bias)
    outside = np.flatnonzero(~(np.isfinite(ends[0]) & np.isfinite(ends[1])))
    if outside.size:
        i = int(outside[0])
        for j in np.flatnonzero(~np.isfinite(rows[i])).tolist():
            raise ValueError(
                f"row {first + i} of the table has {rows[i, j]} at column {j}, and only finite numbers can be quantized"
            )
        raise ValueError(f"row {first + i} of the table goes from {low[i]} to {high[i]}, which is too far for {bits} bits")
    q = np.clip(np.rint((rows - bias[:, None].astype(np.float32)) * inverse[:, None]), 0, 2**bits - 1).astype(np.uint8)
    n_bytes = _elements_size(rows.shape[1], bits)
    if bits == 8:
        packed[:, :n_bytes] = q
    else:
        packed[:, :n_bytes] = q[:, ::2]
        packed[:, : rows.shape[1] // 2] |= q[:, 1::2] << 4
    packed[:, n_bytes:] = np.stack([scale, bias], axis=1).view(np.uint8)


def _steps(low: Array, high: Array, bits: int, is_clipped: bool) -> tuple[Array, Array, Array]:
    """The scale and bias of each row, and the factor for (number - bias) that gives an element."""
    limit = _TRAILER[bits].type(_LARGEST[bits] if is_clipped else math.inf)
    if bits == 8:
        extent = np.minimum(high - low, limit)
        return extent / np.float32(255), low, np.float32(255) / (extent + np.float32(1e-8))
    bias = np.clip(low.astype(np.float16), -limit, limit)
    scale = np.clip(((high - bias.astype(np.float32)) / np.float32(15)).astype(np.float16), -limit, limit)
    scale[scale == 0] = 1
    return scale, bias, np.float32(1) / scale.astype(np.float32)
