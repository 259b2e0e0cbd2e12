"""Batch: the gradients of one backward pass, as kernels take them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .._kernels.backend import kernels

if TYPE_CHECKING:
    from .._typing import Array


class Batch(NamedTuple):
    """Gradients of rows of a table, as kernels take them.

    Attributes
    ----------
    rows : ndarray of int64
        Sorted.
    order : ndarray of int32, or None
        The index in ``gradients`` of each row's gradient; None: 0, 1, 2, ...
    factors : ndarray of float64, or None
        A factor for each gradient.
    by_frequency : bool
        Whether each gradient is also divided by how often its row occurs.
    gradients : ndarray of shape (..., D)
    """

    rows: Array
    order: Array | None
    factors: Array | None
    by_frequency: bool
    gradients: Array

    def negated(self) -> Batch:
        """The batch of the negative gradients, which are not copied."""
        return self._replace(factors=np.full(len(self.rows), -1.0) if self.factors is None else -self.factors)


def plain_batch(rows: Array, gradients: Array) -> Batch:
    """A batch of sorted rows with one gradient each."""
    return Batch(rows, None, None, False, gradients)


def batch_of(
    rows: Array,
    n_rows: int,
    gradients: Array,
    *,
    by_frequency: bool = False,
    sources: Array | None = None,
    factors: Array | None = None,
) -> Batch:
    """The batch of one backward pass.

    Parameters
    ----------
    rows : ndarray of int64
        The rows in the order of the look-up, checked; -1 for none. Overwritten.
    n_rows : int
    gradients : ndarray of shape (..., D)
    by_frequency : bool
        Whether each gradient is divided by how often its row occurs.
    sources : ndarray of int32, optional
        The index in ``gradients`` of each row's gradient; by default 0, 1, 2, ...
    factors : ndarray of float64, optional
        A factor for the gradient of each row.
    """
    rows = rows.reshape(-1)
    rows[rows < 0] = n_rows
    in_order, order = kernels.sort_rows(rows, n_rows + 1)
    n_items = int(np.searchsorted(in_order, n_rows))
    in_order, order = in_order[:n_items], order[:n_items]
    # take, because NumPy crashes without memory for the conversion of int32 numbers in [order]
    indices = order if sources is None else sources.take(order)
    return Batch(in_order, indices, None if factors is None else factors.take(order), by_frequency, gradients)
