"""OneTable: what layers with one table share. Ways to make them, files, the options of rows.

V: rows of the table; D: columns; S: the shape of the ids.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .. import _checks
from ..functional import lookup
from ..functional.max_norm import rescaled
from ..tables.init import normal, normal_rows
from ..tables.storage import MEMORY, Storage
from .base import Layer

if TYPE_CHECKING:
    from .._typing import Array, ArrayLike, DTypeLike, Rng


class OneTable(Layer):
    """A layer with one table, ``weight``, and the options of its rows, which are those of PyTorch."""

    def _set_up(
        self,
        weight: Array,
        freeze: bool,
        trainable_rows: Any,
        storage: Storage = MEMORY,
        *,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        max_norm_in_place: bool = True,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
    ) -> None:
        """What every way to make such a layer does, once there is a table."""
        self._padding_idx = _checks.padding_idx(padding_idx, len(weight))
        self._max_norm = None if max_norm is None else _checks.number("max_norm", max_norm, 0.0, math.inf)
        self._max_norm_in_place = _checks.flag("max_norm_in_place", max_norm_in_place)
        self._norm_type = _checks.number("norm_type", norm_type, 5e-324, math.inf)
        self._scale_grad_by_freq = _checks.flag("scale_grad_by_freq", scale_grad_by_freq)
        if self._max_norm is not None and self._max_norm_in_place:
            _checks.writable_table("the table, which max_norm changes,", weight)
        Layer.__init__(self, {"weight": weight}, not _checks.flag("freeze", freeze), trainable_rows, storage)

    def _init_random(
        self, num_embeddings: int, embedding_dim: int, dtype: DTypeLike, std: float, rng: Rng, trainable_rows: Any, **options: Any
    ) -> None:
        """Set up a new table of normal numbers, with zeros in the padding row."""
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
            Whether optimisers leave the table as it is.
        trainable_rows : array_like, optional
            Numbers, or a mask, of the rows that optimisers change.
        **options
            The others of the constructor but ``dtype``, ``std`` and ``rng``; a padding row stays as it is.
        """
        layer = cls.__new__(cls)
        layer._set_up(_checks.table("array", array), freeze, trainable_rows, **options)
        return layer

    @classmethod
    def open(cls, path: str | os.PathLike[str], mode: str = "r", *, name: str | None = None, **options: Any) -> Self:
        """A layer around the table in a file, which is mapped: rows come into memory when they are looked up.

        Parameters
        ----------
        path : path-like
            A safetensors file, or a .npy file in C order.
        mode : {"r", "r+"}
            Whether the table can only be looked up, by any number of processes, or also be trained, by one alone. What is
            trained stays in memory until `flush`.
        name : str, optional
            Of the tensor, if the file has several of two axes.
        **options
            As in `from_pretrained`; the ``mode`` of bags is ``bag_mode`` here.

        Raises
        ------
        CheckpointError
            There is no such table in the file, or the file is damaged.
        OSError
            It cannot be opened, or another process has it open (BlockingIOError).
        ValueError, TypeError
            Mode "r+", and the rows cannot be written in place: they are not aligned, or of another byte order.

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
        from ..io import mapped

        return cls._in_file(mapped.MappedFiles(path, mode, name), **options)

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
        """Write a new table into a file, block by block, and open that with mode "r+".

        Parameters
        ----------
        path : path-like
            A .npy file if it ends so, else a safetensors file. There must be none; it is there when it is whole.
        shape : tuple of int
            (V, D)
        dtype : {"float32", "float64", "float16", "bfloat16"}
        init : float or callable, optional
            What all elements are: zeros take no room on the disk. Or what gives rows first .. end - 1, called with these two
            for one block after another: array_like, broadcast to (end - first, D). By default the constructor's normal numbers.
        std, rng
            Of the normal numbers, as in the constructor.
        name : str
            Of the tensor in a safetensors file.
        **options
            As in `from_pretrained`; the padding row is zeros.

        Raises
        ------
        OSError
            The file is there already (FileExistsError), or cannot be written; nothing new is there.

        Examples
        --------
        >>> import tempfile, fastembed as fe
        >>> folder = tempfile.TemporaryDirectory()
        >>> with fe.Embedding.create(f"{folder.name}/table.safetensors", (1_000_000, 64), init=0) as layer:
        ...     layer.set_rows([7], 0.5)
        >>> with fe.Embedding.open(f"{folder.name}/table.safetensors") as layer:
        ...     print(layer([6, 7])[:, 0])
        [0.  0.5]
        >>> folder.cleanup()
        """
        from ..io import mapped

        n_rows, n_cols = (_checks.size(f"shape[{k}]", n) for k, n in enumerate(_checks.pair("shape", shape)))
        padding = _checks.padding_idx(options.get("padding_idx"), n_rows)
        to = _checks.dtype(dtype)
        number = None if init is None or callable(init) else _checks.number("init", init, -math.inf, math.inf)
        draw = init if callable(init) else normal_rows(n_cols, std, rng) if init is None else None

        def fill(first: int, end: int) -> Array | None:
            if draw is None:
                rows = None if str(number) == "0.0" else np.full((end - first, n_cols), number)
            else:
                rows = _checks.rows("init(first, end)", draw(first, end), (end - first, n_cols), to, broadcast=True)
            if rows is not None and padding is not None and first <= padding < end:
                rows = np.array(rows)
                rows[padding - first] = 0
            return rows

        return cls._in_file(mapped.create(path, name, (n_rows, n_cols), to, fill), **options)

    @classmethod
    def _in_file(cls, files: Any, freeze: bool = False, *, trainable_rows: Any = None, **options: Any) -> Self:
        """A layer around the table of open mapped files, which are closed again if there can be none."""
        layer = cls.__new__(cls)
        try:
            layer._set_up(files.table, freeze or files.mode == "r", trainable_rows, files, **options)
        except BaseException:
            files.close()
            raise
        return layer

    def close(self) -> None:
        """Flush a mapped table and unlock its file: it cannot be used any more. Nothing happens to other layers."""
        if not self.storage.is_closed:
            self.flush()
            self.storage.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: Any) -> None:
        """Close; after an exception without a flush: the file holds the last one."""
        if error is None:
            self.close()
        else:
            self.storage.close()

    def set_rows(self, ids: ArrayLike, rows: ArrayLike) -> None:
        """Write rows of the table: ``weight[ids] = rows``. Of a mapped table this is the only way, since ``weight`` is read-only.

        Parameters
        ----------
        ids : array_like of integers, shape S
            Of an id that occurs several times the last row counts.
        rows : array_like, broadcast to S + (D,)

        Raises
        ------
        IndexError, TypeError, ValueError
            An id is out of range, rows do not fit, or the table cannot be written. Nothing is changed.

        Examples
        --------
        >>> import fastembed as fe
        >>> layer = fe.Embedding.from_pretrained([[1.0, 2.0], [3.0, 4.0]])
        >>> layer.set_rows([1], [5.0, 6.0])
        >>> layer([1])
        array([[5., 6.]])
        """
        places = lookup.resolve_ids(ids, self.num_embeddings)
        weight = _checks.writable_table("weight", self.tables["weight"])
        values = _checks.rows("rows", rows, (*places.shape, self.embedding_dim), weight.dtype, broadcast=True)
        with self.up_to_date({"weight": places}):
            self._put(places, values)

    def _put(self, rows: Array, values: Array) -> None:
        """Rows (checked int64) of the table become others; within the lock."""
        self.storage.begin_write(rows)
        self.tables["weight"][rows] = values

    def _changes_result(self) -> bool:
        return self._max_norm is not None

    @property
    def weight(self) -> Array:
        """The table itself, shape (V, D), all rows up to date: write into it to change it. Of a mapped table: read-only."""
        self.apply_pending()
        return self.storage.view(self.tables["weight"])

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
        """The row that takes no gradient, counted from 0; or None."""
        return self._padding_idx

    @property
    def max_norm(self) -> float | None:
        """The norm that rows which are looked up have at most, or None."""
        return self._max_norm

    @property
    def norm_type(self) -> float:
        """The p of the p-norm that ``max_norm`` is about."""
        return self._norm_type

    @property
    def scale_grad_by_freq(self) -> bool:
        """Whether the gradient of a row is divided by how often the row occurs in the batch."""
        return self._scale_grad_by_freq

    def _without_padding(self, rows: Array) -> Array:
        """The same rows (int64, overwritten), -1 where it is the padding row."""
        if self._padding_idx is not None:
            rows[rows == self._padding_idx] = -1
        return rows

    def _rescaled(self, rows: Array) -> tuple[Array, Array]:
        """Which of these rows have a norm above ``max_norm``, and what they become; none without ``max_norm``."""
        weight = self.tables["weight"]
        if self._max_norm is None:
            return np.empty(0, np.int64), weight[:0]
        return rescaled(weight, rows, self._max_norm, self._norm_type)

    def _rescale(self, rows: Array) -> tuple[Array, Array]:
        """The same, and they become that in the table too, if ``max_norm`` works in place; within the lock."""
        rows_above, values = self._rescaled(rows)
        if self._max_norm_in_place and len(rows_above):
            self._put(rows_above, values)
        return rows_above, values

    def resize(self, n: int, *, table: str | None = None, new_rows: ArrayLike | None = None) -> None:
        if self._padding_idx is not None and _checks.size("n", n) <= self._padding_idx:
            raise ValueError(f"n must be above padding_idx, which is {self._padding_idx}; got {n}")
        super().resize(n, table=table, new_rows=new_rows)

    resize.__doc__ = Layer.resize.__doc__

    def _options_shown(self) -> str:
        """Those that are not as they are by default, as in a call."""
        shown = {
            "padding_idx": (self._padding_idx, None),
            "max_norm": (self._max_norm, None),
            "max_norm_in_place": (self._max_norm_in_place, True),
            "norm_type": (self._norm_type, 2.0),
            "scale_grad_by_freq": (self._scale_grad_by_freq, False),
        }
        return "".join(f", {name}={value}" for name, (value, default) in shown.items() if value != default)
