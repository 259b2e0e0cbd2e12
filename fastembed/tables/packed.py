"""PackedTable: rows of FP8, of halves or of GGUF's blocks, decoded as they are looked up.

V, P: rows of the tables; D: columns; S: the shape of the ids; N: ids; B: bags.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .. import _checks
from .._kernels.backend import kernels
from .._kernels.packing import Packing
from .._messages import limit
from ..functional import bags as bag_ops
from ..functional import lookup
from .row_calls import NamedRows
from .vocabulary import Vocabulary

if TYPE_CHECKING:
    from .._typing import Array, ArrayLike, DTypeLike
    from ..io.formats.gguf_file import GGUFFile

_MOST_COLS = 1 << 48  # of a row: its bytes are a number of 64 bits
_BLOCK_SIZE = 32  # elements that share a scale, unless it is given
_FP8, _HALVES = ("float8_e4m3fn", "float8_e5m2"), ("float16", "bfloat16")
FORMATS = (*_FP8, *_HALVES, "q8_0", "q4_0", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k")
_SCALES = {"ue8m0": "float8_e8m0fnu", "float32": "float32"}  # the dtype of each, beside uint8
_FLOAT32 = np.dtype(np.float32)
KIND = "PackedTable"  # in the description of a checkpoint, with these options:
SAVED = ("embedding_dim", "format", "block_size", "scale_format", "dtype")


class PackedRows(NamedRows):
    """Look-ups in packed rows, which stay as they are: what `PackedTable` and others inherit."""

    _packed: Array
    _embedding_dim: int
    _packing: Packing
    _dtype: np.dtype[Any] = np.dtype(np.float32)
    _all_rows = "dequantize()"

    @property
    def num_embeddings(self) -> int:
        """V, the number of rows."""
        return len(self._packed)

    @property
    def embedding_dim(self) -> int:
        """D, the number of elements of a row."""
        return self._embedding_dim

    @property
    def nbytes(self) -> int:
        """The bytes of all rows, and of their scales."""
        return self._packed.nbytes + (0 if self._packing.scales is None else self._packing.scales.nbytes)

    def __call__(self, ids: ArrayLike, *, out: Array | None = None, bounds: str = "raise") -> Array:
        """The rows of ``ids``, shape S + (D,), of float32 unless `dtype` says otherwise.

        See `fastembed.gather`; ``out`` may be of float32, float16 or bfloat16.
        """
        at_once = kernels.fast_gather_packed(self._packed, self._packing, self._embedding_dim, self._dtype, ids, out, bounds)
        if at_once is not None:
            return at_once
        bounds = _checks.bounds(bounds)
        ids = _checks.id_array("id", ids, self.num_embeddings, bounds)
        result = self.output(out, (*ids.shape, self._embedding_dim), ids=ids)
        kernels.gather(self._packed, ids, result, bounds, self._packing)
        return result if out is None else out

    def _add_pairs(self, source: Any, pairs: lookup.Pairs) -> None:
        lookup.add_pairs(self._packed, pairs, self._packing)

    def _arrays_read(self) -> dict[str, Any]:
        return {"packed": self._packed, "scales": self._packing.scales}

    def _bags_at_once(self, *arguments: Any) -> Array | None:
        return kernels.fast_bag(self._packed, self._packing, self._embedding_dim, self._dtype, *arguments)

    def _look_up_bags(self, source: Any, bags: bag_ops.Bags, out: Array | None) -> Array:
        result = self.output(out, (len(bags.offsets) - 1, self._embedding_dim), ids=bags.ids, per_sample_weights=bags.weights)
        bag_ops.look_up(self._packed, bags, result, self._packing, is_new=out is None)
        return result if out is None else out

    def _saved_names(self, table: str) -> dict[str, Array]:
        """The names of the rows as tensors beside a table of that name."""
        from ..io.vectors import names

        return {} if self._vocabulary is None else names.packed(table, self._vocabulary)

    def _described_names(self) -> dict[str, Any]:
        """What a file holds of the names beside tensors: the one that stands for others."""
        return {} if self._vocabulary is None else {"unk": self._vocabulary.unk}

    @staticmethod
    def _without_names(tensors: dict[str, Array], table: str) -> dict[str, Array]:
        """The tensors of a file that are not the names of its rows."""
        from ..io.vectors import names

        return {key: array for key, array in tensors.items() if key not in names.keys_of(table)}

    def _set_saved_names(self, tensors: dict[str, Array], table: str, description: dict[str, Any]) -> None:
        """Set the names that a file has; ValueError if they are none."""
        from ..io.vectors import names

        found = names.unpacked(table, tensors)
        self.vocabulary = None if found is None else Vocabulary(found, unk=description.get("unk"))

    @property
    def rows_in_place(self) -> tuple[Array, Packing]:
        """For kernels: the bytes of the rows, and what they mean."""
        return self._packed, self._packing

    def output(self, out: Array | None, shape: tuple[int, ...], **read: Any) -> Array:
        """The array for a result: ``out``, checked, of float32 or halves; or a new one."""
        to = self._dtype
        if isinstance(out, np.ndarray) and (out.dtype == _FLOAT32 or _checks.is_half(out.dtype)):
            to = _checks.native(out.dtype)
        return _checks.output(out, shape, to, packed=self._packed, scales=self._packing.scales, **read)

    def _float_rows(self, first: int, end: int) -> Array:
        """Rows ``first`` to ``end - 1`` as float32, contiguous."""
        rows = np.empty((end - first, self._embedding_dim), np.float32)
        kernels.gather(self._packed, np.arange(first, end), rows, "raise", self._packing)
        return rows

    def dequantize(self) -> Array:
        """The whole table as float32, shape (V, D)."""
        return self._float_rows(0, self.num_embeddings)


class PackedTable(PackedRows):
    """A table in one of the formats of models' files, read where it lies and decoded row by row.

    It cannot be trained. Rows are decoded into float32; with ``dtype`` float16 or bfloat16 they are
    rounded once more.

    Parameters
    ----------
    rows : array_like of uint8, shape (V, bytes of a row)
        No copy: the bytes of a row must be contiguous, rows may have any stride and alignment. An
        array of the format's own dtype (``float8_e4m3fn`` of ml_dtypes, float16) serves too.
    embedding_dim : int
        D, the number of elements of a row: a multiple of the format's block.
    format : str
        ``"float8_e4m3fn"`` or ``"float8_e5m2"``, with scales; ``"float16"``, ``"bfloat16"``; or a
        format of GGUF: ``"q8_0"``, ``"q4_0"``, ``"q2_k"``, ``"q3_k"``, ``"q4_k"``, ``"q5_k"``,
        ``"q6_k"``.
    scales : array_like of shape (V, ceil(D / block_size)), optional
        Of FP8: uint8 (or float8_e8m0fnu) or float32. Without them they follow the elements of each
        row.
    block_size : int, optional
        Of FP8: how many elements share a scale, 32 if it is not given; the last block of a row may
        be shorter.
    scale_format : {"ue8m0", "float32"}, optional
        Of FP8: a byte x that stands for ``2**(x - 127)``, NaN for 255; or a float32. By default
        what the dtype of ``scales`` says, else "ue8m0".
    dtype : dtype
        Of results: float32, float16 or bfloat16.

    Raises
    ------
    TypeError, ValueError
        An argument has an invalid dtype, shape or layout, or does not belong to the format.

    Notes
    -----
    `fastembed.reference.formats` has the formulas. An FP8 element stands for its value times the
    scale of its block, rounded to float32; one of GGUF for ``q * scale - minimum``, as in ggml.

    Examples
    --------
    >>> import numpy as np, fastembed as fe
    >>> rows = np.array([[0x38, 0x40, 0x7E, 0x01, 128], [0xB8, 0, 0, 0, 127]], np.uint8)
    >>> table = fe.PackedTable(rows, 4, format="float8_e4m3fn")  # 4 elements, and a scale of 2 ** 1
    >>> table([0, 1])
    array([[ 2.00000e+00,  4.00000e+00,  8.96000e+02,  3.90625e-03],
           [-1.00000e+00,  0.00000e+00,  0.00000e+00,  0.00000e+00]],
          dtype=float32)
    """

    def __init__(
        self,
        rows: ArrayLike,
        embedding_dim: int,
        *,
        format: str,
        scales: ArrayLike | None = None,
        block_size: int | None = None,
        scale_format: str | None = None,
        dtype: DTypeLike = "float32",
    ) -> None:
        self._embedding_dim = columns("embedding_dim", embedding_dim)
        self._dtype = packed_dtype(dtype)
        self._packing = packing_of(_checks.one_of("format", format, FORMATS), scales, block_size, scale_format)
        sizes = row_sizes(self._packing, self._embedding_dim)
        array = _bytes_of("rows", rows, format)
        check_scales(self._packing, self._embedding_dim, sizes, array.shape[-1] if array.ndim == 2 else None)
        self._packed = _checks.packed_table("rows", array, sizes[0] + (sizes[1] if self._packing.scales is None else 0))
        if self._packing.scales is not None:
            _checks.packed_table("scales", self._packing.scales, sizes[1])
        if self._packing.scales is not None and len(self._packing.scales) != len(self._packed):
            raise ValueError(f"scales must be of {len(self._packed)} rows, got {len(self._packing.scales)}")

    @classmethod
    def from_gguf(cls, file: GGUFFile | str | os.PathLike[str], name: str, *, dtype: DTypeLike = "float32") -> Self:
        """A table of a GGUF file, in its mapping: no copy.

        Parameters
        ----------
        file : path-like, or what `open_gguf` returned
        name : str
            A tensor of two axes, of a format of this class.
        dtype : dtype
            Of results.

        Raises
        ------
        OSError, CheckpointError
            As in `open_gguf`.
        KeyError
            There is no tensor of that name.
        TypeError, ValueError
            It has another format, or not two axes.
        """
        from ..io.formats.gguf_file import GGUFFile, open_gguf

        opened = file if isinstance(file, GGUFFile) else open_gguf(file)
        array, tensor = opened.array(name), opened.tensors[name]
        if tensor.format not in FORMATS:
            known = ", ".join(FORMATS)
            raise TypeError(f"tensor {_checks.shown(name)} is of {tensor.format}, and a table must be one of {known}")
        if len(tensor.shape) != 2:
            raise ValueError(f"tensor {_checks.shown(name)} must have 2 axes (rows, columns), got shape {tensor.shape}")
        return cls(array, tensor.shape[1], format=tensor.format, dtype=dtype)

    @property
    def packed(self) -> Array:
        """The bytes of the rows, uint8."""
        return self._packed

    @packed.setter
    def packed(self, value: Array) -> None:
        _checks.in_place("packed", value, self._packed)

    @property
    def scales(self) -> Array | None:
        """The bytes of the scales, uint8 of shape (V, bytes); None if they are in the rows."""
        return self._packing.scales

    @scales.setter
    def scales(self, value: Array | None) -> None:
        _checks.in_place("scales", value, self._packing.scales)

    @property
    def format(self) -> str:
        """The name of the format."""
        return self._packing.format

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of results."""
        return self._dtype

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the table to a safetensors file, atomically. See `fastembed.checkpoint.save`."""
        from ..io import checkpoint

        tensors = {"rows": self._packed} | ({} if self.scales is None else {"scales": self.scales})
        described = {"kind": KIND, **self._options()} | self._described_names()
        checkpoint.save(path, tensors | self._saved_names("rows"), described)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a file of `save`; `fastembed.checkpoint.CheckpointError` for any other."""
        from ..io import checkpoint

        tensors, description = checkpoint.load(path)
        if not isinstance(description, dict) or description.get("kind") != KIND:
            raise checkpoint.CheckpointError(f"{os.fspath(path)} does not hold a {KIND}")
        try:
            return cls._from_saved(tensors, description, None)
        except (TypeError, ValueError) as error:
            raise checkpoint.CheckpointError(f"{os.fspath(path)} does not hold a {KIND}: {error}") from error

    @classmethod
    def _from_saved(cls, tensors: dict[str, Array], description: dict[str, Any], hash: None) -> Self:
        """The table of a file; TypeError or ValueError if that has no such table."""
        rows = cls._without_names(tensors, "rows")
        if not {"rows"} <= rows.keys() <= {"rows", "scales"}:
            raise ValueError(f"the tensors must be rows, and scales or not, got {_checks.first_few(sorted(rows))}")
        options = {name: value for name, value in description.items() if name not in ("kind", "unk")}
        _checks.known_options(KIND, options, SAVED)
        arguments: dict[str, Any] = {**rows, **options}
        made = cls(**arguments)
        made._set_saved_names(tensors, "rows", description)
        return made

    def _options(self) -> dict[str, Any]:
        """The arguments beside the arrays, as JSON values."""
        options: dict[str, Any] = {"embedding_dim": self._embedding_dim, "format": self.format, "dtype": self._dtype.name}
        if self.format in _FP8:
            options["block_size"] = self._packing.block_size
            options["scale_format"] = "float32" if self._packing.has_float_scales else "ue8m0"
        return options

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self._options().items() if name != "embedding_dim")
        return f"{type(self).__name__}({self.num_embeddings}, {self.embedding_dim}, {options})"


def columns(name: str, value: Any) -> int:
    n = _checks.size(name, value)
    if n > _MOST_COLS:
        raise ValueError(f"{name} must be at most {limit(_MOST_COLS)}, got {n}")
    return n


def packed_dtype(value: Any) -> np.dtype[Any]:
    dtype = _checks.dtype(value)
    if dtype.itemsize > _FLOAT32.itemsize:
        raise TypeError(f"dtype must be float32, float16 or bfloat16, got {dtype}")
    return dtype


def packing_of(format: str, scales: Any, block_size: Any, scale_format: Any) -> Packing:
    """The packing that the arguments of a table say, its scales as bytes."""
    if format not in _FP8:
        for name, value in (("scales", scales), ("block_size", block_size), ("scale_format", scale_format)):
            if value is not None:
                raise ValueError(f"{name} belong to FP8, and rows of {format} have none")
        return Packing(format)
    n_block = columns("block_size", _BLOCK_SIZE if block_size is None else block_size)
    if n_block == 0:
        raise ValueError("block_size must be at least 1, got 0")
    array = None if scales is None else _checks.as_array("scales", scales)
    if array is not None and array.ndim != 2:
        raise ValueError(f"scales must have 2 axes (rows, scales of a row), got shape {array.shape}")
    if array is not None and array.dtype.name not in ("uint8", *_SCALES.values()):
        raise TypeError(f"scales must be uint8, float8_e8m0fnu or float32, got {_checks.shown(array.dtype, str)}")
    if scale_format is None:
        scale_format = "float32" if array is not None and array.dtype == _FLOAT32 else "ue8m0"
    scale_format = _checks.one_of("scale_format", scale_format, tuple(_SCALES))
    of_scales = None if array is None else _bytes_of("scales", array, _SCALES[scale_format])
    return Packing(format, n_block, scale_format == "float32", of_scales)


def _bytes_of(name: str, value: Any, own: str) -> Array:
    """An array of bytes, or of the dtype that is called ``own``, as bytes."""
    array = _checks.as_array(name, value)
    if array.dtype.name != own or not array.dtype.isnative:
        if array.dtype != np.uint8:
            raise TypeError(f"{name} must be uint8 or {own}, got {_checks.shown(array.dtype, str)}")
        return array
    if not _checks.is_readable_in_place(array, array.dtype):
        raise ValueError(f"{name} must have contiguous rows, got strides {_checks.shown(array.strides)}")
    return array.view(np.uint8) if array.ndim else array.reshape(1).view(np.uint8)


def row_sizes(packing: Packing, n_cols: int) -> tuple[int, int]:
    """The bytes of the elements and of the scales of a row; ValueError if none has ``n_cols``."""
    sizes = kernels.packed_size(packing, n_cols)
    if sizes is None:
        raise ValueError(f"embedding_dim must be a multiple of the block of {packing.format}, got {n_cols}")
    return sizes


def check_scales(packing: Packing, n_cols: int, sizes: tuple[int, int], row_size: int | None) -> None:
    """ValueError if a row of FP8 has other scales than one for each block, or lacks them."""
    of_elements, of_scales = sizes
    if packing.scales is None and of_scales and row_size == of_elements:
        raise ValueError(
            f"rows must have {of_elements + of_scales} bytes each for {n_cols} columns, of which {of_scales} are scales, got "
            f"{row_size}: scales= takes scales that lie apart"
        )
    item = 4 if packing.has_float_scales else 1
    if packing.scales is not None and packing.scales.shape[-1] != of_scales:
        raise ValueError(
            f"scales must be {of_scales // item} for each row, one for each {packing.block_size} (block_size) of its {n_cols} "
            f"elements, got {packing.scales.shape[-1] // item}"
        )
