"""OneTable: the base of layers with one table: constructors, mapped files, options of rows.

V: rows of the table; D: columns; S: the shape of the ids.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from .. import _checks
from .._kernels.floats import own_floats
from ..functional import lookup
from ..functional.max_norm import rescaled_rows
from ..io.errors import ReplacedError
from ..tables.attribute import TableAttribute
from ..tables.init import normal, normal_rows
from ..tables.storage import Storage
from .base import Layer
from .shareable import Shareable

if TYPE_CHECKING:
    from .._typing import Array, ArrayLike, DTypeLike, Rng


class OneTable(Shareable):
    """A layer with one table, ``weight``, and PyTorch's options for its rows."""

    _options: ClassVar[tuple[str, ...]] = (
        "padding_idx", "max_norm", "max_norm_in_place", "norm_type", "scale_grad_by_freq", "bounds",
    )  # fmt: skip

    def _set_up(
        self,
        weight: Array,
        freeze: bool,
        trainable_rows: Any,
        storage: Storage | None = None,
        *,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        max_norm_in_place: bool = True,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        bounds: str = "raise",
    ) -> None:
        """Initialise the layer around a table; every constructor ends here."""
        self._padding_idx = _checks.padding_idx(padding_idx, len(weight))
        self._max_norm = None if max_norm is None else _checks.number("max_norm", max_norm, 0.0, math.inf)
        self._max_norm_in_place = _checks.flag("max_norm_in_place", max_norm_in_place)
        self._norm_type = _checks.number("norm_type", norm_type, 5e-324, math.inf)
        self._scale_grad_by_freq = _checks.flag("scale_grad_by_freq", scale_grad_by_freq)
        self._bounds = _checks.bounds(bounds)
        if self._max_norm is not None and self._max_norm_in_place:
            _checks.writable_table("the table, which max_norm changes,", weight)
        Layer.__init__(self, {"weight": weight}, not _checks.flag("freeze", freeze), trainable_rows, storage)

    def _init_random(
        self, num_embeddings: int, embedding_dim: int, dtype: DTypeLike, std: float, rng: Rng, trainable_rows: Any, **options: Any
    ) -> None:
        """Initialise the layer with normal random numbers, and zeros in the padding row."""
        shape = (_checks.size("num_embeddings", num_embeddings), _checks.size("embedding_dim", embedding_dim))
        weight = normal(shape, std, rng, _checks.dtype(dtype))
        self._set_up(weight, False, trainable_rows, **options)
        if self._padding_idx is not None:
            weight[self._padding_idx] = 0

    @classmethod
    def from_pretrained(cls, array: ArrayLike, freeze: bool = False, *, trainable_rows: Any = None, **options: Any) -> Self:
        """A layer around an existing table: no copy, no random draw.

        Parameters
        ----------
        array : array_like of shape (V, D), of any float dtype
        freeze : bool
            Whether optimisers leave the table unchanged.
        trainable_rows : array_like, optional
            Numbers, or a mask, of the rows that optimisers update.
        **options
            Other options of the constructor, except ``dtype``, ``std`` and ``rng``; the padding row
            keeps its values.
        """
        return cls._around(_checks.table("array", array), None, freeze, trainable_rows=trainable_rows, **options)

    _of_tables = from_pretrained

    @classmethod
    def _check_options(cls, options: dict[str, Any]) -> None:
        _checks.known_options(cls.__name__, options, ("freeze", "trainable_rows", *cls._options))

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], mode: str = "r", *, name: str | None = None, snapshot: bool = False, **options: Any
    ) -> Self:
        """A layer around a table in a mapped file: rows are read when they are looked up.

        Parameters
        ----------
        path : path-like
            A safetensors file, or a .npy file in C order.
        mode : {"r", "r+"}
            "r" for look-ups, by any number of processes; "r+" for training as well, by one process
            alone. Changes stay in memory until `flush`.
        name : str, optional
            The name of the tensor, if the file has several with two axes.
        snapshot : bool
            With mode "r": whether the table is copied into memory as of the last flush, also while
            another process trains it, which is not held up afterwards.
        **options
            As in `from_pretrained`; the ``mode`` of bags is ``bag_mode`` here.

        Returns
        -------
        layer
            With the names of its rows as its ``vocabulary``, if the file has them or, of a .npy
            file, ``<path>.names.txt`` beside it.

        Raises
        ------
        CheckpointError
            There is no such table in the file, or the file or its names are damaged.
        OSError
            The file cannot be opened, or another process has it open (BlockingIOError).
        ValueError, TypeError
            Mode "r+", and the rows cannot be written in place: they are unaligned or not in native
            byte order.

        Examples
        --------
        >>> import tempfile, numpy as np, fastembed as fe
        >>> folder = tempfile.TemporaryDirectory()
        >>> np.save(f"{folder.name}/table.npy", np.array([[1.0, 2.0], [3.0, 4.0]]))
        >>> with fe.Embedding.open(f"{folder.name}/table.npy") as layer:
        ...     print(layer([1, 0]))
        [[3. 4.]
         [1. 2.]]
        >>> folder.cleanup()
        """
        from ..io.mapped import table as mapped

        return cls._from_mapped(mapped.MappedFiles(path, mode, name, snapshot), **options)

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        shape: tuple[int, int],
        dtype: DTypeLike = "float32",
        init: float | Callable[[int, int], ArrayLike] | None = None,
        *,
        std: float = 1.0,
        rng: Rng = None,
        name: str = "weight",
        **options: Any,
    ) -> Self:
        """Write a new table to a file, block by block, and open it with mode "r+".

        Parameters
        ----------
        path : path-like
            A new file: of the .npy format if the name ends so, else of the safetensors format. It
            appears once it is complete.
        shape : tuple of int, (V, D)
        dtype : {"float32", "float64", "float16", "bfloat16"}
        init : float or callable, optional
            The value of all elements; zeros take no space on the disk. Or a function that is called
            as ``init(first, end)`` for one block after another, and returns rows first .. end - 1:
            array_like, broadcast to (end - first, D). By default normal random numbers, as in the
            constructor.
        std, rng
            For the normal random numbers, as in the constructor.
        name : str
            The name of the tensor in a safetensors file.
        **options
            As in `from_pretrained`; the padding row is set to zeros.

        Raises
        ------
        OSError
            The file, or that of its names, exists (FileExistsError), or it cannot be written; no
            file is left.

        Examples
        --------
        >>> import tempfile, fastembed as fe
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = f"{folder.name}/table.safetensors"
        >>> with fe.Embedding.create(path, (1_000_000, 64), init=0) as layer:
        ...     layer.set_rows([7], 0.5)
        >>> with fe.Embedding.open(path) as layer:
        ...     print(layer([6, 7])[:, 0])
        [0.  0.5]
        >>> folder.cleanup()
        """
        from ..io.mapped import table as mapped

        n_rows, n_cols = (_checks.size(f"shape[{k}]", n) for k, n in enumerate(_checks.pair("shape", shape)))
        padding = _checks.padding_idx(options.get("padding_idx"), n_rows)
        to = _checks.dtype(dtype)
        number = None if init is None or callable(init) else _checks.number("init", init, -math.inf, math.inf)
        draw = init if callable(init) else normal_rows(n_cols, std, rng) if init is None else None
        cls._around(np.zeros((min(n_rows, 1 << 56), 0), to), None, **options)  # refuses before a file is there

        @own_floats
        def fill(first: int, end: int) -> Array | None:
            if draw is None:
                rows = None if str(number) == "0.0" else _checks.rounded(np.full((end - first, n_cols), number), to)
            else:
                rows = _checks.rows("init(first, end)", draw(first, end), (end - first, n_cols), to, broadcast=True)
            if rows is not None and padding is not None and first <= padding < end:
                rows = np.array(rows)
                rows[padding - first] = 0
            return rows

        return cls._from_mapped(mapped.create(path, name, (n_rows, n_cols), to, fill), **options)

    @classmethod
    def _around(cls, table: Array, storage: Any, freeze: bool = False, *, trainable_rows: Any = None, **options: Any) -> Self:
        """A layer with that table, which lies in that storage, or in memory."""
        cls._check_options(options)
        layer = cls.__new__(cls)
        layer._set_up(table, freeze, trainable_rows, storage, **options)
        return layer

    @classmethod
    def _from_mapped(cls, files: Any, freeze: bool = False, **options: Any) -> Self:
        """A layer around the table of open mapped files, which are closed if that fails."""
        from ..io.vectors import arrays

        try:
            layer = cls._around(files.table, files, freeze or files.mode == "r", **options)
            layer._set_vocabulary(arrays.names_of_file(files.path, files.name, len(files.table)))
        except BaseException:
            files.close()
            raise
        return layer

    def close(self) -> None:
        """Flush a mapped table and unlock its file; the layer is then unusable. No-op in memory.

        If the file is gone that is an OSError, and the layer still has its rows; a second call
        closes it all the same.
        """
        if self.storage.is_closed:
            return
        try:
            self.flush()
        except ReplacedError:
            if not self.storage.is_lost:
                self.storage.is_lost = True
                raise
        self.storage.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: Any) -> None:
        """Close; after an exception without a flush, so that the file keeps its last state."""
        if error is None:
            self.close()
        else:
            self.storage.close()

    @own_floats
    def set_rows(self, ids: ArrayLike, rows: ArrayLike) -> None:
        """Write rows: ``weight[ids] = rows``; for mapped tables too, whose ``weight`` is read-only.

        Parameters
        ----------
        ids : array_like of integers, shape S
            If an id occurs several times, its last row is written.
        rows : array_like, broadcast to S + (D,)

        Raises
        ------
        IndexError, TypeError, ValueError
            An id is out of range, ``rows`` has an invalid shape or dtype, or the table is
            read-only. Nothing is changed.

        Examples
        --------
        >>> import fastembed as fe
        >>> layer = fe.Embedding.from_pretrained([[1.0, 2.0], [3.0, 4.0]])
        >>> layer.set_rows([1], [5.0, 6.0])
        >>> layer([1])
        array([[5., 6.]])
        """
        resolved = lookup.resolve_ids(ids, self.num_embeddings)
        weight = _checks.writable_table("weight", self.tables["weight"])
        values = _checks.rows("rows", rows, (*resolved.shape, self.embedding_dim), weight.dtype, broadcast=True)
        with self.up_to_date({"weight": resolved}):
            self._write_rows(resolved, values)

    def _write_rows(self, rows: Array, values: Array) -> None:
        """Write rows (checked int64) of the table; the caller holds the lock."""
        weight = self.tables["weight"]
        values = _checks.rounded(values, weight.dtype)
        self.storage.begin_write(rows)
        weight[rows] = values

    def _changes_result(self) -> bool:
        return self._max_norm is not None

    weight = TableAttribute("The table itself, shape (V, D), up to date; writable, unless it is mapped.")

    @own_floats
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """`weight`, for functions of NumPy and other libraries, without a copy where possible."""
        return np.array(self.weight, dtype, copy=copy)

    def __dlpack__(self, **options: Any) -> Any:
        """`weight`, for ``from_dlpack`` of other libraries, without a copy."""
        return self.weight.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        """The processor, where all tables are."""
        return self.weight.__dlpack_device__()

    @property
    def num_embeddings(self) -> int:
        """V, the number of rows."""
        return len(self.tables["weight"])

    @property
    def embedding_dim(self) -> int:
        """D, the length of a row."""
        return self.tables["weight"].shape[1]

    @property
    def padding_idx(self) -> int | None:
        """The row that gets no gradient, counted from 0; or None."""
        return self._padding_idx

    @property
    def max_norm(self) -> float | None:
        """The largest norm of a row that is looked up, or None."""
        return self._max_norm

    @property
    def norm_type(self) -> float:
        """The p of the p-norm for ``max_norm``."""
        return self._norm_type

    @property
    def scale_grad_by_freq(self) -> bool:
        """Whether the gradient of a row is divided by how often the row occurs in the batch."""
        return self._scale_grad_by_freq

    @property
    def bounds(self) -> str:
        """The meaning of an id outside the table."""
        return self._bounds

    def _without_padding(self, rows: Array) -> Array:
        """The rows (int64, overwritten) with -1 for the padding row."""
        if self._padding_idx is not None:
            rows[rows == self._padding_idx] = -1
        return rows

    def _rows_above_max_norm(self, rows: Array) -> tuple[Array, Array]:
        """Those of the rows with a norm above ``max_norm``, and their new values."""
        weight = self.tables["weight"]
        if self._max_norm is None:
            return np.empty(0, np.int64), weight[:0]
        return rescaled_rows(weight, rows, self._max_norm, self._norm_type)

    def _apply_max_norm(self, rows: Array) -> tuple[Array, Array]:
        """`_rows_above_max_norm`, written if ``max_norm_in_place``; the caller holds the lock."""
        rows_above, values = self._rows_above_max_norm(rows)
        if self._max_norm_in_place and len(rows_above):
            self._write_rows(rows_above, values)
            values = self.tables["weight"][rows_above]  # as they were rounded
        return rows_above, values

    def resize(self, n: int, *, table: str | None = None, new_rows: ArrayLike | None = None) -> None:
        if self._padding_idx is not None and _checks.size("n", n) <= self._padding_idx:
            raise ValueError(f"n must be above padding_idx, which is {self._padding_idx}; got {n}")
        super().resize(n, table=table, new_rows=new_rows)

    resize.__doc__ = Layer.resize.__doc__

    def _options_repr(self) -> str:
        """The options that differ from their defaults, as text for `repr`."""
        shown = {
            "padding_idx": (self._padding_idx, None),
            "max_norm": (self._max_norm, None),
            "max_norm_in_place": (self._max_norm_in_place, True),
            "norm_type": (self._norm_type, 2.0),
            "scale_grad_by_freq": (self._scale_grad_by_freq, False),
            "bounds": (self._bounds, "raise"),
        }
        options = "".join(f", {name}={value}" for name, (value, default) in shown.items() if value != default)
        if not self.storage.is_mapped:
            return options
        files: Any = self.storage  # those of io.mapped
        return f"{options}, path={str(files.path)!r}, mode={files.mode!r}{', closed' if files.is_closed else ''}"
