"""DiskTable: rows of a table that stays in its files, read before they are needed.

V: rows of the table; D: columns; S: the shape of the ids; N: ids; B: bags.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn, Self

import numpy as np

from .. import _checks
from .._kernels.backend import kernels
from .._kernels.packing import Packing
from .._memory import memory_errors
from ..functional import bags as bag_ops
from ..functional import lookup
from ..functional.search.index import arithmetic_rows
from ..io import checkpoint
from ..io.disk.rows import CachedRows, CacheStatistics
from ..io.disk.tensors import DiskTensor, names_of, rows_named, tensors_in
from . import packed
from .row_calls import NamedRows

if TYPE_CHECKING:
    from .._typing import Array, ArrayLike, DTypeLike

_PLAIN = ("float32", "float64", "float16", "bfloat16")
_SCALE_FORMATS = {"float32": "float32", "float8_e8m0fnu": "ue8m0", "uint8": "ue8m0"}  # by the dtype of their tensor
_CACHE_BYTES = 256 << 20


class DiskTable(NamedRows):
    """A table in files, for look-ups: rows are read when they are needed, or before.

    Rows come in pages of 4 KiB, many at once, through io_uring where the system has it, and stay in
    a cache of a given size. Results have the bits of the same table in memory. Any thread may call.
    Names of rows that a safetensors or .npy file has are the table's vocabulary.

    Parameters
    ----------
    path : path-like
        A safetensors file, the index of several (``model.safetensors.index.json``), a GGUF file or
        one of its parts, or a .npy file of floats.
    name : str or list of str, optional
        The tensor, or several whose rows follow one another; by default the only one of two axes. A
        file of `PackedTable.save` needs none of these options: it says what its tensors are.
    cache_bytes : int
        The memory for rows that are at hand; beside it there are a few MB of buffers.
    embedding_dim : int, optional
        D; needed only for rows of bytes (uint8).
    format : str, optional
        As in `PackedTable`, of rows that are packed; needed only for uint8.
    scales : str or list of str, optional
        Of FP8: the tensors of the scales; without them scales follow the elements of each row.
    block_size, scale_format
        As in `PackedTable`.
    dtype : dtype, optional
        Of results of packed rows: float32 (the default), float16 or bfloat16. Floats keep theirs.
    direct : bool, optional
        Whether reads go past the system's page cache (O_DIRECT); by default if the file system
        allows it. `statistics` says so.
    engine : {"auto", "io_uring", "pread"}
        "auto" is io_uring if the kernel allows it, else threads that call pread.
    in_flight : int
        The most reads that are under way at once, or threads.

    Raises
    ------
    OSError
        A file cannot be opened, or the system does not allow ``direct`` or ``engine``.
    CheckpointError
        A file is damaged or truncated.
    KeyError
        There is no tensor of that name.
    TypeError, ValueError
        A tensor has another format or shape, or an option is invalid.

    Examples
    --------
    >>> import tempfile, numpy as np, fastembed as fe
    >>> folder = tempfile.TemporaryDirectory()
    >>> np.save(f"{folder.name}/rows.npy", np.arange(12, dtype="f4").reshape(4, 3))
    >>> with fe.DiskTable(f"{folder.name}/rows.npy", cache_bytes=1 << 20) as table:
    ...     table.prefetch([3, 1])      # returns at once
    ...     table([[3, 1]])
    array([[[ 9., 10., 11.],
            [ 3.,  4.,  5.]]], dtype=float32)
    >>> folder.cleanup()
    """

    @memory_errors()
    def __init__(
        self,
        path: str | os.PathLike[str],
        name: str | list[str] | None = None,
        *,
        cache_bytes: int = _CACHE_BYTES,
        embedding_dim: int | None = None,
        format: str | None = None,
        scales: str | list[str] | None = None,
        block_size: int | None = None,
        scale_format: str | None = None,
        dtype: DTypeLike | None = None,
        direct: bool | None = None,
        engine: str = "auto",
        in_flight: int = 64,
    ) -> None:
        tensors = tensors_in(_checks.path("path", path))
        if all(given is None for given in (name, embedding_dim, format, scales, block_size, scale_format)):
            saved = _saved_options(tensors)
            embedding_dim, format, block_size, scale_format = (saved.get(key) for key in packed.SAVED[:4])
            name, scales = ("rows", "scales" if "scales" in tensors else None) if saved else (None, None)
            dtype = saved.get("dtype") if dtype is None else dtype
        parts = [rows_named(tensors, name)] + ([] if scales is None else [rows_named(tensors, scales)])
        rows = parts[0][0]
        self._num_embeddings = sum(tensor.shape[0] for tensor in parts[0])
        self._packing: Packing | None = None
        if format is None and rows.format in _PLAIN:
            options = {"scales": scales, "block_size": block_size, "scale_format": scale_format, "dtype": dtype}
            _refuse_options(rows.format, options)
            self._dtype, self._embedding_dim = _checks.dtype(rows.format), _columns(rows, embedding_dim)
        else:
            own_format = None if rows.format == "uint8" else rows.format
            self._packing = _packing_of_parts(own_format if format is None else format, parts, block_size, scale_format)
            self._dtype = packed.packed_dtype("float32" if dtype is None else dtype)
            self._embedding_dim = _columns(rows, embedding_dim)
        self._check_sizes(parts)
        self.vocabulary = names_of(tensors, parts[0])
        self._rows = CachedRows(parts, cache_bytes=cache_bytes, direct=direct, engine=engine, in_flight=in_flight)

    def _check_sizes(self, parts: list[list[DiskTensor]]) -> None:
        """ValueError unless the parts of a row have the bytes of the format, for as many rows."""
        sizes: Any = (self._embedding_dim * self._dtype.itemsize, 0)
        if self._packing is not None:
            sizes = packed.row_sizes(self._packing, self._embedding_dim)
            if len(parts) == 1:
                packed.check_scales(self._packing, self._embedding_dim, sizes, parts[0][0].row_size)
        needed = sizes if len(parts) > 1 else (sum(sizes),)
        for what, part, size in zip(("rows", "scales"), parts, needed, strict=False):
            if part[0].row_size != size:
                raise ValueError(f"{what} must have {size} bytes each for {self._embedding_dim} columns, got {part[0].row_size}")
            n_rows = sum(tensor.shape[0] for tensor in part)
            if n_rows != self._num_embeddings:
                raise ValueError(f"{what} must be {self._num_embeddings}, got {n_rows}")

    @property
    def num_embeddings(self) -> int:
        """V, the number of rows."""
        return self._num_embeddings

    @property
    def embedding_dim(self) -> int:
        """D, the number of elements of a row."""
        return self._embedding_dim

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of results."""
        return self._dtype

    @property
    def format(self) -> str:
        """The name of the format of packed rows, or of the dtype."""
        return self._dtype.name if self._packing is None else self._packing.format

    @property
    def nbytes(self) -> int:
        """The bytes of all rows in the files."""
        return self._num_embeddings * self._rows.row_size

    def prefetch(self, ids: ArrayLike, *, bounds: str = "raise") -> None:
        """Begin to read the rows of ids, and return at once; a look-up then finds them.

        Rows that are there already are kept. Up to a quarter of the rows that the cache has room
        for are read ahead at a time; what is more is left to the look-up (``skipped`` in
        `statistics`). Errors of reads are those of the look-up that needs the row.

        Parameters
        ----------
        ids, bounds
            As in `fastembed.gather`.

        Raises
        ------
        IndexError, TypeError, ValueError
            An id is out of range, or the table is closed.
        """
        self._rows.prefetch(self._resolved(ids, bounds)[1])

    def __call__(self, ids: ArrayLike, *, out: Array | None = None, bounds: str = "raise") -> Array:
        """The rows of ids, shape S + (D,). See `fastembed.gather`.

        Raises
        ------
        OSError, CheckpointError
            A row cannot be read, or its file has become shorter. Nothing is written.
        IndexError, TypeError, ValueError
            As in `fastembed.gather`, or the table is closed.
        """
        given, rows = self._resolved(ids, bounds)
        result = _checks.output(out, (*rows.shape, self._embedding_dim), self._dtype, ids=given)
        with self._rows.at_hand(rows) as (table, places), lookup.packed_buffer(result, self._packing) as buffer:
            kernels.gather(self._typed(table), places, buffer, "zero", self._packing)
        return result if out is None else out

    def _add_pairs(self, source: Any, pairs: lookup.Pairs) -> None:
        token_rows, position_rows = pairs.rows(self._num_embeddings)
        with self._rows.at_hand(token_rows) as (table, places):
            lookup.add_pairs(self._typed(table), pairs.with_rows(places, position_rows), self._packing)

    def _float_rows(self, first: int, end: int) -> Array:
        """Rows ``first`` to ``end - 1``, read past the cache in the order of the files."""
        table = self._typed(self._rows.in_order(first, end))
        if self._packing is None:
            return arithmetic_rows(table, slice(None))
        rows = np.empty((end - first, self._embedding_dim), np.float32)
        kernels.gather(table, np.arange(end - first), rows, "raise", self._packing)
        return rows

    def _look_up_bags(self, source: Any, bags: bag_ops.Bags, out: Array | None) -> Array:
        shape = len(bags.offsets) - 1, self._embedding_dim
        result = _checks.output(out, shape, self._dtype, ids=bags.ids, per_sample_weights=bags.weights)
        rows = bag_ops.rows_of(bags, self._num_embeddings).reshape(bags.ids.shape)
        with self._rows.at_hand(rows) as (table, places):
            at_hand = bags._replace(ids=places, padding_idx=None, bounds="zero")
            bag_ops.look_up(self._typed(table), at_hand, result, self._packing)
        return result if out is None else out

    def _resolved(self, ids: ArrayLike, bounds: str) -> tuple[Array, Array]:
        """The ids as an array, and the row of each."""
        bounds = _checks.bounds(bounds)
        given = _checks.id_array("id", ids, self._num_embeddings, bounds)
        return given, kernels.resolve_ids(given, self._num_embeddings, bounds, "id")

    def _typed(self, table: Array) -> Array:
        """Rows of bytes as what kernels read."""
        return table if self._packing is not None else table.view(self._dtype)

    def statistics(self) -> CacheStatistics:
        """What has been read so far, and how."""
        return self._rows.statistics()

    def close(self) -> None:
        """End the threads and close the files; reads that are under way are waited for."""
        self._rows.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a DiskTable cannot be copied or pickled: pass the path on")

    def __repr__(self) -> str:
        shape, closed = f"{self._num_embeddings}, {self._embedding_dim}", ", closed" if self._rows.is_closed else ""
        return f"DiskTable({shape}, format={self.format!r}, dtype={self._dtype.name!r}{closed})"


def _saved_options(tensors: Mapping[str, DiskTensor]) -> dict[str, Any]:
    """What a file of `PackedTable.save` says of its rows; {} for any other."""
    rows = tensors.get("rows")
    if rows is None or rows.format != "uint8":
        return {}
    description = checkpoint.contents(rows.path)[1]
    is_saved = isinstance(description, dict) and description.get("kind") == packed.KIND
    return description if is_saved else {}


def _refuse_options(format: str, options: dict[str, Any]) -> None:
    for option, value in options.items():
        if value is not None:
            raise ValueError(f"{option} belongs to packed rows, and those of {format} are not packed without a format")


def _packing_of_parts(format: Any, parts: list[list[DiskTensor]], block_size: Any, scale_format: Any) -> Packing:
    """The packing of rows in the cache, where scales follow the elements of their row."""
    format = _checks.one_of("format", format, packed.FORMATS)
    if len(parts) > 1:
        found = parts[1][0].format
        if found not in _SCALE_FORMATS:
            raise TypeError(f"scales must be one of {', '.join(_SCALE_FORMATS)}, got {found}")
        if scale_format is None and found != "uint8":
            scale_format = _SCALE_FORMATS[found]
    packing = packed.packing_of(format, None, block_size, scale_format)
    if len(parts) > 1 and not packing.block_size:
        raise ValueError(f"scales belong to FP8, and rows of {format} have none")
    return packing


def _columns(rows: DiskTensor, embedding_dim: int | None) -> int:
    """D of the rows: the tensor knows it, unless it is of bytes."""
    if rows.format != "uint8":
        if embedding_dim not in (None, rows.shape[1]):
            raise ValueError(f"embedding_dim must be {rows.shape[1]}, as the tensor says, got {_checks.shown(embedding_dim)}")
        return rows.shape[1]
    if embedding_dim is None:
        raise ValueError("embedding_dim is needed for rows of bytes")
    return packed.columns("embedding_dim", embedding_dim)
