"""RowGrad: the gradient of a table of which a batch touched few rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from . import ops

if TYPE_CHECKING:
    from ._typing import Array


class RowGrad:
    """A row-sparse gradient: the rows that were touched, each with its sum.

    Attributes
    ----------
    ids : ndarray of int64, shape (n_rows,)
        Sorted and distinct.
    rows : ndarray of shape (n_rows, D), float32 or float64
    shape : tuple of int
        (V, D), the shape of the table.

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

    def __init__(self, ids: Array, rows: Array, shape: tuple[int, int]) -> None:
        self.ids = ids
        self.rows = rows
        self.shape = shape

    @classmethod
    def zeros(cls, shape: tuple[int, int], dtype: Any) -> RowGrad:
        """The gradient of a table that no batch has touched: no rows."""
        return cls(np.empty(0, np.int64), np.empty((0, shape[1]), dtype), shape)

    def accumulate(self, rows: Array, values: Array) -> RowGrad:
        """A new gradient with ``values[i]`` added to row ``rows[i]``, in C order, going on from the sums that are there.

        ``rows`` (int64, shape S) are row numbers, already checked; ``values`` have the shape S + (D,).
        """
        ids = np.union1d(self.ids, rows)
        sums = np.zeros((len(ids), self.shape[1]), self.rows.dtype)
        sums[np.searchsorted(ids, self.ids)] = self.rows
        ops.scatter_add(sums, np.searchsorted(ids, rows), values)
        return RowGrad(ids, sums, self.shape)

    def to_dense(self) -> Array:
        """The gradient of the whole table, shape (V, D): zeros where no batch touched it."""
        dense = np.zeros(self.shape, self.rows.dtype)
        dense[self.ids] = self.rows
        return dense

    def __add__(self, other: RowGrad) -> RowGrad:
        """The sum of two gradients of one table, row by row: these sums, then the other's."""
        if not isinstance(other, RowGrad):
            return NotImplemented
        if (self.shape, self.rows.dtype) != (other.shape, other.rows.dtype):
            raise ValueError(
                f"gradients must be of one table, got {self.shape} of {self.rows.dtype} and {other.shape} of {other.rows.dtype}"
            )
        return self.accumulate(other.ids, other.rows)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"RowGrad({len(self)} of {self.shape[0]} rows, {self.shape[1]} columns, dtype={self.rows.dtype})"
