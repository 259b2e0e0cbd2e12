"""RowGrad, a row-sparse gradient."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _checks
from .._interactive.completion import without_internals
from .._kernels.backend import kernels
from .._kernels.floats import own_floats
from . import lookup
from .batch import Batch, plain_batch

if TYPE_CHECKING:
    from .._typing import Array, ArrayLike

_N_SHOWN = 5  # rows and columns in a notebook


class RowGrad:
    """A row-sparse gradient: the rows that have one, each with its sum.

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
        The ids or rows are not a gradient of a table of that shape. Methods raise it too, if the
        attributes have been set to invalid values.

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
    def _unchecked(cls, ids: Array, rows: Array, shape: tuple[int, int]) -> RowGrad:
        """A gradient of valid parts, not checked: checks take half as long as a short backward."""
        grad = cls.__new__(cls)
        grad.ids, grad.rows, grad.shape = ids, rows, shape
        return grad

    def parts(self) -> tuple[Array, Array]:
        """The ids and rows, checked again, since both attributes can be set."""
        self.ids, self.rows = _checks.row_gradient(self.ids, self.rows, self.shape)
        return self.ids, self.rows

    @classmethod
    def zeros(cls, shape: tuple[int, int], dtype: Any) -> RowGrad:
        """A gradient without rows: zero for the whole table."""
        return cls._unchecked(np.empty(0, np.int64), np.empty((0, shape[1]), dtype), shape)

    def accumulate(self, batch: Batch) -> RowGrad:
        """A new gradient: this one plus those of a batch, added to its sums in their order."""
        rows = batch.rows
        is_first = np.concatenate(([True], rows[1:] != rows[:-1]))[: len(rows)]
        ids, places = rows[is_first], np.cumsum(is_first) - 1
        own_ids, own_rows = self.parts() if len(self.ids) else (self.ids, self.rows)
        if len(own_ids):
            ids = np.union1d(own_ids, ids)
            places = np.searchsorted(ids, rows)
        sums = np.zeros((len(ids), self.shape[1]), own_rows.dtype)
        sums[np.searchsorted(ids, own_ids)] = own_rows
        indices: Array = np.asarray(places, np.int64)
        kernels.add_rows(sums, indices, *batch[1:])
        return self._unchecked(ids, sums, self.shape)

    def accumulate_elements(self, rows: Array, cols: Array, values: Array) -> RowGrad:
        """A new gradient: this one, to which single elements are added in their order."""
        distinct, n_cols = np.union1d(self.ids, rows), self.shape[1]
        sums = np.zeros((len(distinct), n_cols), self.rows.dtype)
        sums[np.searchsorted(distinct, self.ids)] = self.rows
        lookup.scatter_add(sums.reshape(-1, 1), np.searchsorted(distinct, rows) * n_cols + cols, values.reshape(-1, 1))
        return self._unchecked(distinct, sums, self.shape)

    def checked(self, table: Array) -> Batch:
        """The rows as a batch for an optimiser of ``table``.

        Raises
        ------
        ValueError, TypeError
            The shape does not match, or the attributes have been set to invalid values.
        """
        ids, rows = self.parts()
        if self.shape != table.shape:
            raise ValueError(
                f"the shape of a gradient, {_checks.shown(self.shape)}, does not match that of its table, {table.shape}"
            )
        return plain_batch(ids, _checks.rows("rows of the gradient", rows, rows.shape, _checks.arithmetic_dtype(table.dtype)))

    def resized(self, n_rows: int) -> RowGrad:
        """The gradient for the table resized to ``n_rows``, without the rows that are removed."""
        ids, rows = self.parts()
        n_kept = int(np.searchsorted(ids, n_rows))
        return self._unchecked(ids[:n_kept], rows[:n_kept], (n_rows, self.shape[1]))

    def to_dense(self) -> Array:
        """The gradient of the whole table, shape (V, D): zeros in rows without a gradient."""
        ids, rows = self.parts()
        dense = np.zeros(self.shape, rows.dtype)
        dense[ids] = rows
        return dense

    @own_floats
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """`to_dense`, for functions of NumPy; ``copy=False`` is refused."""
        if copy is False:
            raise ValueError("a RowGrad becomes a dense array only by a copy, and copy is False")
        return self.to_dense().astype(self.rows.dtype if dtype is None else dtype, copy=False)

    @classmethod
    def from_coo(cls, data: ArrayLike, row_col: tuple[ArrayLike, ArrayLike], shape: tuple[int, int]) -> RowGrad:
        """A gradient from single elements, as ``scipy.sparse.coo_matrix`` takes them.

        Parameters
        ----------
        data : array_like of shape (n,), float32 or float64
        row_col : tuple of two array_like of integers, shape (n,)
            The position of each element; elements of one position are summed in their order.
        shape : tuple of int
            (V, D)

        Raises
        ------
        IndexError, ValueError, TypeError
            A position is outside the shape, or the lengths differ.
        """
        n_rows, n_cols = _checks.matrix_shape(shape)
        values = _checks.as_array("data", data)
        if not isinstance(row_col, tuple | list) or len(row_col) != 2:
            raise TypeError(f"row_col must be two arrays, rows and columns, got {_checks.shown(row_col)}")
        if values.dtype not in _checks.DTYPES or values.ndim != 1:
            raise TypeError(
                f"data must be float32 or float64 of one axis, got {_checks.shown(values.dtype, str)} of shape {values.shape}"
            )
        rows = lookup.resolve_ids(row_col[0], n_rows, name="row")
        cols = lookup.resolve_ids(row_col[1], n_cols, name="column")
        if not rows.shape == cols.shape == values.shape:
            raise ValueError(f"data, rows and columns must be of one length, got {values.shape}, {rows.shape} and {cols.shape}")
        return cls.zeros((n_rows, n_cols), values.dtype).accumulate_elements(rows, cols, values)

    def to_coo(self) -> tuple[Array, tuple[Array, Array]]:
        """``(data, (row, col))`` of the stored elements, for ``scipy.sparse.coo_matrix``."""
        (ids, rows), n_cols = self.parts(), self.shape[1]
        return rows.ravel(), (np.repeat(ids, n_cols), np.tile(np.arange(n_cols), len(ids)))

    def __add__(self, other: RowGrad) -> RowGrad:
        """The sum of two gradients of one table, row by row."""
        if not isinstance(other, RowGrad):
            return NotImplemented
        (_, own), (ids, rows) = self.parts(), other.parts()
        if (self.shape, own.dtype) != (other.shape, rows.dtype):
            raise ValueError(f"gradients must be of one table, got {self.shape} of {own.dtype} and {other.shape} of {rows.dtype}")
        return self.accumulate(plain_batch(ids, _checks.rows("rows of the gradient", rows, rows.shape, rows.dtype)))

    def scale(self, factor: float) -> RowGrad:
        """This gradient times a number, which is rounded to the gradient's dtype first."""
        ids, rows = self.parts()
        return self._unchecked(ids.copy(), rows.copy(), self.shape).scale_(factor)

    def scale_(self, factor: float) -> RowGrad:
        """Multiply by a number in place; returns this gradient."""
        commit = kernels.Commit()
        add_scaled(commit, self, _checks.number("factor", factor, -math.inf, math.inf))
        commit.run()
        return self

    def norm(self) -> float:
        """The Euclidean norm of all elements, computed in float64."""
        return norm_of([self.parts()[1]])

    def clip_(self, max_norm: float, *, error_if_nonfinite: bool = True) -> float:
        """Scale in place to a norm of at most ``max_norm``, as `optim.clip_grad_norm`.

        Returns the norm before.
        """
        norm = self.norm()
        factor = clip_factor(norm, max_norm, error_if_nonfinite)
        if factor != 1:
            commit = kernels.Commit()
            add_scaled(commit, self, factor)
            commit.run()
        return norm

    @own_floats
    def clip_value_(self, limit: float) -> None:
        """Clip every element in place, to at least ``-limit`` and at most ``limit``."""
        _, rows = self.parts()
        bound = rows.dtype.type(_checks.number("limit", limit, 0.0, math.inf))
        np.copyto(rows, bound, where=rows > bound)  # np.clip at 0 gives zeros of either sign, by its version
        np.copyto(rows, -bound, where=rows < -bound)

    def __dir__(self) -> list[str]:
        internal = ("accumulate", "accumulate_elements", "checked", "parts", "resized")
        return without_internals(super().__dir__(), internal)

    def __len__(self) -> int:
        return len(self.ids)

    def _repr_html_(self) -> str:
        from .._interactive import html  # notebooks alone need it

        ids, rows = self.parts()
        first = zip(ids[:_N_SHOWN].tolist(), rows[:_N_SHOWN], strict=True)
        lines = [(row, f"{norm_of([values]):.4g}", " ".join(f"{x:.3g}" for x in values[:_N_SHOWN])) for row, values in first]
        more = [(f"{len(ids) - _N_SHOWN:,} more", "", "")] if len(ids) > _N_SHOWN else []
        return html.table(repr(self), [*lines, *more], ("row", "norm", "first columns"))

    def __repr__(self) -> str:
        return f"RowGrad({len(self)} of {self.shape[0]} rows, {self.shape[1]} columns, dtype={self.rows.dtype})"


@own_floats
def add_scaled(commit: kernels.Commit, grad: RowGrad, factor: float) -> None:
    """Let a commit multiply the rows by a factor, which may be NaN, rounded to their dtype."""
    _, rows = grad.parts()
    commit.add_copy(rows, rows * rows.dtype.type(factor) + rows.dtype.type(0))  # sums are never -0


def norm_of(gradients: Iterable[Array]) -> float:
    """The Euclidean norm of all elements of all arrays.

    Each row's squares are summed in float64, in 16 partial sums; the sums of rows are added
    exactly.
    """
    return norm_of_sums(sums_of_squares(gradients))


@own_floats
def sums_of_squares(gradients: Iterable[Array]) -> list[float]:
    """The sum of the squares of each row of each array."""
    sums: list[float] = []
    for gradient in gradients:
        rows = np.ascontiguousarray(gradient.reshape(-1, gradient.shape[-1]) if gradient.ndim > 1 else gradient.reshape(1, -1))
        sums += kernels.sum_powers(rows, 2.0).tolist()
    return sums


@own_floats
def norm_of_sums(sums: list[float]) -> float:
    """The norm whose square is the exact sum of these."""
    try:
        return math.sqrt(math.fsum(sums))
    except OverflowError:
        return math.inf


@own_floats
def clip_factor(norm: float, max_norm: float, error_if_nonfinite: bool) -> float:
    """The factor that scales gradients of that norm to at most ``max_norm``: at most 1."""
    limit = _checks.number("max_norm", max_norm, 0.0, math.inf)
    if _checks.flag("error_if_nonfinite", error_if_nonfinite) and not math.isfinite(norm):
        raise ValueError(f"gradients whose norm is {norm} cannot be scaled to one of {limit}; error_if_nonfinite=False does it")
    factor = limit / (norm + 1e-6)
    return 1.0 if factor > 1 else factor
