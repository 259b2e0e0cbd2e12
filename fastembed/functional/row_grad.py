"""RowGrad: the gradient of a table of which a batch touched few rows."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import _checks
from .._kernels.backend import kernels
from . import lookup

if TYPE_CHECKING:
    from .._typing import Array, ArrayLike


class Batch(NamedTuple):
    """Gradients of some rows of a table, as kernels take them.

    Attributes
    ----------
    rows : ndarray of int64
        Sorted.
    order : ndarray of int32, or None
        Where the gradient of each lies; None: in the same order.
    factors : ndarray of float64, or None
        What each gradient is multiplied by.
    by_frequency : bool
        Whether each is then divided by how often its row occurs.
    gradients : ndarray of shape (..., D)
    """

    rows: Array
    order: Array | None
    factors: Array | None
    by_frequency: bool
    gradients: Array


def plain_batch(rows: Array, gradients: Array) -> Batch:
    """One gradient for each of some sorted rows."""
    return Batch(rows, None, None, False, gradients)


def batch_of(
    rows: Array,
    n_rows: int,
    gradients: Array,
    *,
    by_frequency: bool = False,
    places: Array | None = None,
    factors: Array | None = None,
) -> Batch:
    """The batch of one backward pass.

    Parameters
    ----------
    rows : ndarray of int64
        As they were looked up, checked; -1 for no row. Overwritten.
    n_rows : int
    gradients : ndarray of shape (..., D)
    by_frequency : bool
        Whether each gradient is divided by how often its row occurs.
    places : ndarray of int32, optional
        Which gradient is that of each row; by default there is one for each.
    factors : ndarray of float64, optional
        What the gradient of each row is multiplied by.
    """
    rows = rows.reshape(-1)
    rows[rows < 0] = n_rows
    in_order, order = kernels.sort_rows(rows, n_rows + 1)
    n_items = int(np.searchsorted(in_order, n_rows))
    in_order, order = in_order[:n_items], order[:n_items]
    in_place = order if places is None else places[order]
    return Batch(in_order, in_place, None if factors is None else factors[order], by_frequency, gradients)


class RowGrad:
    """A row-sparse gradient: the rows that were touched, each with its sum.

    Parameters
    ----------
    ids : array_like of integers, shape (n_rows,)
        Sorted and distinct.
    rows : array_like of shape (n_rows, D), float32 or float64
    shape : tuple of int
        (V, D), the shape of the table.

    Attributes
    ----------
    ids : ndarray of int64
    rows : ndarray
    shape : tuple of int

    Raises
    ------
    ValueError, TypeError
        The parts are no gradient of such a table; by the methods too, where the attributes have been changed to something else.

    Examples
    --------
    >>> import fastembed as fe
    >>> layer = fe.Embedding(5, 2, dtype="float64", rng=0)
    >>> layer.backward([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]], ids=[4, 1, 4])
    >>> grad = layer.grads()["weight"]
    >>> grad.ids, grad.rows
    (array([1, 4]), array([[2., 2.],
           [4., 4.]]))
    """

    def __init__(self, ids: ArrayLike, rows: ArrayLike, shape: tuple[int, int]) -> None:
        self.shape = _checks.matrix_shape(shape)
        self.ids, self.rows = _checks.row_gradient(ids, rows, self.shape)

    @classmethod
    def _of(cls, ids: Array, rows: Array, shape: tuple[int, int]) -> RowGrad:
        """A gradient of parts that need no check: they would take half as long as a short backward."""
        grad = cls.__new__(cls)
        grad.ids, grad.rows, grad.shape = ids, rows, shape
        return grad

    def parts(self) -> tuple[Array, Array]:
        """Its ids and rows, checked again: they are attributes that anybody can change."""
        self.ids, self.rows = _checks.row_gradient(self.ids, self.rows, self.shape)
        return self.ids, self.rows

    @classmethod
    def zeros(cls, shape: tuple[int, int], dtype: Any) -> RowGrad:
        """The gradient of a table that no batch has touched: no rows."""
        return cls._of(np.empty(0, np.int64), np.empty((0, shape[1]), dtype), shape)

    def accumulate(self, batch: Batch) -> RowGrad:
        """A new gradient with that of a batch added, row by row, going on from the sums that are there."""
        rows = batch.rows
        ids = rows[np.concatenate(([True], rows[1:] != rows[:-1]))] if len(rows) else rows
        own_ids, own_rows = self.parts() if len(self.ids) else (self.ids, self.rows)
        if len(own_ids):
            ids = np.union1d(own_ids, ids)
        sums = np.zeros((len(ids), self.shape[1]), own_rows.dtype)
        sums[np.searchsorted(ids, own_ids)] = own_rows
        compact: Array = np.asarray(np.searchsorted(ids, rows))
        kernels.add_rows(sums, compact, *batch[1:])
        return self._of(ids, sums, self.shape)

    def accumulate_elements(self, rows: Array, cols: Array, values: Array) -> RowGrad:
        """A new gradient with single elements added, in their order, going on from the sums that are there."""
        distinct, n_cols = np.union1d(self.ids, rows), self.shape[1]
        sums = np.zeros((len(distinct), n_cols), self.rows.dtype)
        sums[np.searchsorted(distinct, self.ids)] = self.rows
        lookup.scatter_add(sums.reshape(-1, 1), np.searchsorted(distinct, rows) * n_cols + cols, values.reshape(-1, 1))
        return self._of(distinct, sums, self.shape)

    def checked(self, table: Array) -> Batch:
        """Its rows, as an optimiser takes them for that table.

        Raises
        ------
        ValueError, TypeError
            The attributes have been changed to something that is no gradient of such a table.
        """
        ids, rows = self.parts()
        if self.shape != table.shape:
            raise ValueError(f"a gradient of {self.shape} does not go with a table of {table.shape}")
        return plain_batch(ids, _checks.rows("rows of the gradient", rows, rows.shape, _checks.arithmetic(table.dtype)))

    def resized(self, n_rows: int) -> RowGrad:
        """The gradient of a table of ``n_rows``: without the rows that it does not have."""
        ids, rows = self.parts()
        n_kept = int(np.searchsorted(ids, n_rows))
        return self._of(ids[:n_kept], rows[:n_kept], (n_rows, self.shape[1]))

    def to_dense(self) -> Array:
        """The gradient of the whole table, shape (V, D): zeros where no batch touched it."""
        ids, rows = self.parts()
        dense = np.zeros(self.shape, rows.dtype)
        dense[ids] = rows
        return dense

    @classmethod
    def from_coo(cls, data: ArrayLike, row_col: tuple[ArrayLike, ArrayLike], shape: tuple[int, int]) -> RowGrad:
        """A gradient from single elements, as ``scipy.sparse.coo_matrix`` takes them.

        Parameters
        ----------
        data : array_like of shape (n,), float32 or float64
        row_col : tuple of two array_like of integers, shape (n,)
            Where each element belongs; those of one place are summed in their order.
        shape : tuple of int
            (V, D)

        Raises
        ------
        IndexError, ValueError, TypeError
            A place is outside the shape, or the lengths differ.
        """
        n_rows, n_cols = _checks.matrix_shape(shape)
        values = np.asarray(data)
        if not isinstance(row_col, tuple | list) or len(row_col) != 2:
            raise TypeError(f"row_col must be two arrays, rows and columns, got {row_col!r:.80}")
        if values.dtype not in _checks.DTYPES or values.ndim != 1:
            raise TypeError(f"data must be float32 or float64 of one axis, got {values.dtype} of shape {values.shape}")
        rows = lookup.resolve_ids(row_col[0], n_rows, name="row")
        cols = lookup.resolve_ids(row_col[1], n_cols, name="column")
        if not rows.shape == cols.shape == values.shape:
            raise ValueError(f"data, rows and columns must be of one length, got {values.shape}, {rows.shape} and {cols.shape}")
        return cls.zeros((n_rows, n_cols), values.dtype).accumulate_elements(rows, cols, values)

    def to_coo(self) -> tuple[Array, tuple[Array, Array]]:
        """``(data, (row, col))`` of the elements that are there: what ``scipy.sparse.coo_matrix`` takes, with ``shape``."""
        (ids, rows), n_cols = self.parts(), self.shape[1]
        return rows.ravel(), (np.repeat(ids, n_cols), np.tile(np.arange(n_cols), len(ids)))

    def __add__(self, other: RowGrad) -> RowGrad:
        """The sum of two gradients of one table, row by row: these sums, then the other's."""
        if not isinstance(other, RowGrad):
            return NotImplemented
        (_, mine), (ids, rows) = self.parts(), other.parts()
        if (self.shape, mine.dtype) != (other.shape, rows.dtype):
            raise ValueError(
                f"gradients must be of one table, got {self.shape} of {mine.dtype} and {other.shape} of {rows.dtype}"
            )
        return self.accumulate(plain_batch(ids, _checks.rows("rows of the gradient", rows, rows.shape, rows.dtype)))

    def scale(self, factor: float) -> RowGrad:
        """This gradient times a number, which is rounded to the gradient's dtype first."""
        ids, rows = self.parts()
        return self._of(ids.copy(), rows.copy(), self.shape).scale_(factor)

    def scale_(self, factor: float) -> RowGrad:
        """The same in place; returns itself."""
        return self._times(_checks.number("factor", factor, -math.inf, math.inf))

    def _times(self, factor: float) -> RowGrad:
        _, rows = self.parts()
        rows *= rows.dtype.type(factor)
        rows += rows.dtype.type(0)  # sums are never -0
        return self

    def norm(self) -> float:
        """The root of the sum of the squares of all elements, computed in float64."""
        return norm_of([self.parts()[1]])

    def clip_(self, max_norm: float, *, error_if_nonfinite: bool = True) -> float:
        """Scale in place so that the norm is at most ``max_norm``; returns the norm before. As `optim.clip_grad_norm`."""
        norm = self.norm()
        factor = clip_factor(norm, max_norm, error_if_nonfinite)
        if factor != 1:
            self._times(factor)
        return norm

    def clip_value_(self, limit: float) -> None:
        """Bring every element to within ``-limit .. limit`` in place."""
        _, rows = self.parts()
        bound = rows.dtype.type(_checks.number("limit", limit, 0.0, math.inf))
        np.clip(rows, -bound, bound, out=rows)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"RowGrad({len(self)} of {self.shape[0]} rows, {self.shape[1]} columns, dtype={self.rows.dtype})"


def norm_of(gradients: Iterable[Array]) -> float:
    """The norm of all elements of some arrays: each row's sum of squares in 16 parts, in float64; of these the exact sum."""
    sums: list[float] = []
    for gradient in gradients:
        rows = np.ascontiguousarray(gradient.reshape(-1, gradient.shape[-1]) if gradient.ndim > 1 else gradient.reshape(1, -1))
        sums += kernels.sum_powers(rows, 2.0).tolist()
    try:
        return math.sqrt(math.fsum(sums))
    except OverflowError:
        return math.inf


def clip_factor(norm: float, max_norm: float, error_if_nonfinite: bool) -> float:
    """What gradients of that norm are multiplied by, 1 for not at all."""
    limit = _checks.number("max_norm", max_norm, 0.0, math.inf)
    if _checks.flag("error_if_nonfinite", error_if_nonfinite) and not math.isfinite(norm):
        raise ValueError(f"gradients whose norm is {norm} cannot be scaled to one of {limit}; error_if_nonfinite=False does it")
    factor = limit / (norm + 1e-6)
    return 1.0 if factor > 1 else factor
