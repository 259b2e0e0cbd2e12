"""FastEmbedOps: thinc's NumpyOps with look-ups and updates by fastembed.

V: rows of a table; D: columns; N: ids.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from thinc.api import NumpyOps, Ops

from ... import embedding_bag, scatter_add

if TYPE_CHECKING:
    from ..._typing import Array


def with_ids_from_the_end(call: Callable[[Array], Any], ids: Array, n_rows: int) -> Any:
    """``call(ids)``, in which -1 is the last row, as in NumPy.

    The call checks all ids before it writes. So negative ones, which are rare, are looked for only
    after it has refused them.
    """
    try:
        return call(ids)
    except IndexError:
        if ids.dtype.kind != "i":
            raise
        rows = ids.astype(np.int64)
        rows[(rows < 0) & (rows >= -n_rows)] += n_rows
        return call(rows)


class FastEmbedOps(NumpyOps):  # type: ignore[misc]  # thinc is not there to be checked
    """thinc's NumpyOps with look-ups and updates by fastembed.

    Ids are integers of any type, and negative ones count from the end, whatever dtypes and layouts
    are. An id out of range is an IndexError that names it, and nothing has been written.

    Examples
    --------
    >>> import numpy as np
    >>> from thinc.api import get_ops
    >>> ops, table = get_ops("fastembed"), np.zeros((3, 2), np.float32)
    >>> ops.scatter_add(table, np.array([0, -1, 0]), np.ones((3, 2), np.float32))
    >>> ops.gather_add(table, np.array([[0, 0], [1, 2]], np.uint8))
    array([[4., 4.],
           [1., 1.]], dtype=float32)
    """

    name = "fastembed"

    def gather_add(self, table: Array, indices: Array) -> Array:
        """The sum of the rows of each list of ids: ``table[indices].sum(axis=1)``.

        Parameters
        ----------
        table : ndarray of shape (V, D), of any float dtype
        indices : ndarray of integers, shape (N, K)

        Returns
        -------
        ndarray of shape (N, D), of the table's dtype
            Rows are added to 0 in the order of the ids.

        Raises
        ------
        IndexError
            An id is not in -V .. V - 1.
        TypeError, ValueError
            An argument has an invalid dtype or shape.
        """
        return with_ids_from_the_end(lambda rows: embedding_bag(table, rows, mode="sum"), indices, len(table))

    def scatter_add(self, table: Array, indices: Any, values: Any) -> None:
        """Add to a table in place: ``np.add.at(table, indices, values)``.

        Parameters
        ----------
        table : ndarray of shape (V, ...)
        indices : ndarray of integers, or anything else that NumPy takes as an index
        values : array_like, broadcast to ``table[indices]``
            Those of another float dtype are first rounded to the table's.

        Raises
        ------
        IndexError
            An id is not in -V .. V - 1. The table is unchanged.
        TypeError, ValueError
            Dtypes or shapes do not fit. The table is unchanged.
        """
        dtype = indices.dtype if isinstance(indices, np.ndarray) else None
        if is_matrix_of_floats(table) and dtype is not None and dtype.kind in "iu":
            with_ids_from_the_end(lambda rows: scatter_add(table, rows, values), indices, len(table))
            return
        if dtype == np.uint64 and indices.max(initial=0) >= len(table):  # NumPy takes 2**64 - 1 for -1
            raise IndexError(f"id {indices.max()} is out of range for a table of {len(table)} rows")
        np.add.at(table, indices, values)

    def adam(
        self,
        weights: Array,
        gradient: Array,
        mom1: Array,
        mom2: Array,
        beta1: float,
        beta2: float,
        eps: float,
        learn_rate: float,
        mod_rate: float = 1.0,
    ) -> tuple[Array, Array, Array, Array]:
        """A step of Adam in place, after which the gradient is zeros.

        NumpyOps computes it where its compiled loop is safe: on contiguous arrays of float32.

        Parameters
        ----------
        weights, gradient, mom1, mom2 : ndarray of floats, all of one shape
            mom1 and mom2 are the moving averages of the gradient and of its square.
        beta1, beta2, eps : float
        learn_rate : float
            With the bias correction in it, ``lr * sqrt(1 - beta2**t) / (1 - beta1**t)``.
        mod_rate : float
            Of no effect, as in NumpyOps.

        Returns
        -------
        tuple
            The four arrays.

        Raises
        ------
        ValueError
            Shapes differ, or an array is read-only. All arrays are unchanged.
        """
        arrays = {"weights": weights, "gradient": gradient, "mom1": mom1, "mom2": mom2}
        for name, array in arrays.items():
            if not array.flags.writeable or array.shape != weights.shape:
                raise ValueError(f"{name} must be writable and have the shape of weights, {weights.shape}, got {array.shape}")
        if all(array.ndim == 1 and array.flags.c_contiguous and array.dtype == np.float32 for array in arrays.values()):
            return super().adam(*arrays.values(), beta1, beta2, eps, learn_rate)
        Ops.adam(self, *arrays.values(), beta1, beta2, eps, learn_rate)
        gradient.fill(0)
        return weights, gradient, mom1, mom2


def is_matrix_of_floats(table: Array) -> bool:
    """Whether `fastembed.scatter_add` can write it in place."""
    is_native = table.dtype.isnative and table.flags.aligned
    return table.ndim == 2 and table.dtype.kind == "f" and is_native and table.strides[1] == table.itemsize
