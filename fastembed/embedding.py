"""Embedding, and what it shares with EmbeddingBag: one table and the options of its rows.

All work is done by `ops`, but that a call with plain arguments goes from the inherited `__call__` to C at once.

V: rows of the table; D: columns; S: the shape of the ids.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from . import _checks, ops, renorm
from ._backend import kernels
from .layer import Layer, normal

if TYPE_CHECKING:
    from ._typing import Array, ArrayLike, DTypeLike, Rng


class OneTable(Layer):
    """A layer with one table, ``weight``, and the options of its rows, which are those of PyTorch."""

    def _set_up(
        self,
        weight: Array,
        freeze: bool,
        trainable_rows: Any,
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
        Layer.__init__(self, {"weight": weight}, not freeze, trainable_rows)

    def _draw(self, num_embeddings: int, embedding_dim: int, dtype: DTypeLike, std: float, rng: Rng) -> Array:
        """A new table of normal numbers."""
        shape = (_checks.size("num_embeddings", num_embeddings), _checks.size("embedding_dim", embedding_dim))
        return normal(shape, std, np.random.default_rng(rng), _checks.dtype(dtype))

    def _is_special(self) -> bool:
        return self._max_norm is not None

    @property
    def weight(self) -> Array:
        """The table itself, shape (V, D), all rows up to date: write into it to change it."""
        self.flush()
        return self.tables["weight"]

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

    def _shortened(self, rows: Array) -> tuple[Array, Array]:
        """Which of these rows are longer than ``max_norm``, and what they become; none without ``max_norm``."""
        weight = self.tables["weight"]
        if self._max_norm is None:
            return np.empty(0, np.int64), weight[:0]
        return renorm.shortened(weight, rows, self._max_norm, self._norm_type)

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


class Embedding(OneTable, kernels.SingleLookup):
    """A table whose rows are looked up by id.

    Parameters
    ----------
    num_embeddings : int
        V, the number of rows.
    embedding_dim : int
        D, the length of a row.
    padding_idx : int, optional
        A row that takes no gradient; below 0 it counts from the end. A new table has zeros there.
    max_norm : float, optional
        Rows that are looked up and longer than this are scaled down to it, in the table itself, before they are returned. No
        gradient flows through that.
    max_norm_in_place : bool
        Whether ``max_norm`` changes the table; if not, only what is returned is scaled.
    norm_type : float
        The p of the p-norm that ``max_norm`` is about.
    scale_grad_by_freq : bool
        Whether the gradient of a row is divided by how often the row occurs in the batch.
    dtype : {"float32", "float64", "float16", "bfloat16"}
        Tables of half precision compute in float32, and so do their gradients and optimisers.
    std : float
        Standard deviation of the normal distribution that the table is drawn from (mean 0).
    rng : numpy.random.Generator, int or None
        Where the numbers come from: a generator, a seed, or fresh entropy.
    trainable_rows : array_like, optional
        Numbers, or a mask, of the rows that optimisers change: all of them by default. Settable at any time.

    Attributes
    ----------
    weight : ndarray of shape (V, D)

    Notes
    -----
    The options are those of torch.nn.Embedding. A row longer than ``max_norm``, of norm n, is multiplied by
    ``max_norm / (n + 1e-7)``.

    Examples
    --------
    >>> import fastembed as fe
    >>> layer = fe.Embedding(10, 3, rng=0)
    >>> layer([[1, 2, 4], [4, 3, 2]]).shape
    (2, 3, 3)
    >>> fe.Embedding(3, 2, padding_idx=-1, rng=0)([2])
    array([[0., 0.]], dtype=float32)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        max_norm_in_place: bool = True,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        dtype: DTypeLike = "float32",
        std: float = 1.0,
        rng: Rng = None,
        trainable_rows: Any = None,
    ) -> None:
        weight = self._draw(num_embeddings, embedding_dim, dtype, std, rng)
        self._set_up(
            weight,
            False,
            trainable_rows,
            padding_idx=padding_idx,
            max_norm=max_norm,
            max_norm_in_place=max_norm_in_place,
            norm_type=norm_type,
            scale_grad_by_freq=scale_grad_by_freq,
        )
        if self.padding_idx is not None:
            weight[self.padding_idx] = 0

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
            ``padding_idx`` (whose row stays as it is), ``max_norm``, ``max_norm_in_place``, ``norm_type`` and
            ``scale_grad_by_freq``, as in the constructor.
        """
        layer = cls.__new__(cls)
        layer._set_up(_checks.table("array", array), freeze, trainable_rows, **options)
        return layer

    def _look_up(self, ids: ArrayLike, out: Array | None) -> Array:
        weight = self.tables["weight"]
        if not (self._is_behind or self._counts or self._is_special()):
            return ops.gather(weight, ids, out=out)
        rows = ops.resolve_ids(ids, len(weight))
        with self.caught_up({"weight": rows}):
            result = ops.gather(weight, ids, out=out)
            long_rows, values = self._shortened(rows)
            if self._max_norm_in_place and len(long_rows):
                weight[long_rows] = values
            renorm.put(result, rows, long_rows, values)
            self._count({"weight": rows})
        return result

    def backward(self, dout: ArrayLike, ids: ArrayLike | None = None, *, optimizer: Any = None) -> None:
        """Accumulate the gradient of a call into `grads`, or let an optimiser take a step with it.

        Parameters
        ----------
        dout : array_like of shape S + (D,)
            The gradient of what the call returned.
        ids : array_like of integers, shape S, optional
            The ids of that call; by default those of the last call in train mode.
        optimizer : one of fastembed.optim, optional
            That holds this layer: it reduces the gradient of each row and updates the row in one pass; none is stored.

        Raises
        ------
        RuntimeError
            There are no ids; or there is an accumulated gradient, and an optimiser that would not see it.
        IndexError, TypeError, ValueError
            As in `fastembed.scatter_add`. Nothing is changed.
        """
        (of_call,) = self._ids_of_last_call() if ids is None else (ids,)
        rows = self._without_padding(ops.resolve_ids(of_call, self.num_embeddings))
        self._backward({"weight": rows}, dout, optimizer, by_frequency=self._scale_grad_by_freq)

    def __repr__(self) -> str:
        return f"Embedding({self.num_embeddings}, {self.embedding_dim}, dtype={self.dtype}{self._options_shown()})"
