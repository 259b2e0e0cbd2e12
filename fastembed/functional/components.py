"""Principal components of a table's rows, for pictures of them.

V: rows; D: columns; K: components.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .. import _checks
from .._kernels.floats import own_floats

if TYPE_CHECKING:
    from .._typing import Array


class Components(NamedTuple):
    """The result of `principal_components`.

    Attributes
    ----------
    mean : ndarray of shape (D,)
        That of the finite rows.
    axes : ndarray of shape (K, D)
        Orthonormal; the first is the direction in which the rows differ most. In each, the element
        that is largest in size is positive.
    shares : ndarray of shape (K,)
        The part of the rows' variance that lies along each axis.
    """

    mean: Array
    axes: Array
    shares: Array

    @own_floats
    def coordinates(self, rows: Array) -> Array:
        """The rows along the axes, shape (V, K); NaN for rows that are not finite."""
        found = (rows - self.mean) @ self.axes.T
        found[~np.isfinite(found).all(axis=1)] = np.nan
        return found


@own_floats
def principal_components(rows: Array, k: int = 2) -> Components:
    """The k directions in which the finite rows differ most, by their covariance matrix.

    Parameters
    ----------
    rows : ndarray of shape (V, D), float64
    k : int
        Where D is smaller, the components that are missing are zero.

    Examples
    --------
    >>> import numpy as np
    >>> found = principal_components(np.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]]), 1)
    >>> found.axes.round(3), found.shares.round(3)
    (array([[0.6, 0.8]]), array([1.]))
    >>> found.coordinates(np.array([[9.0, 12.0]])).round(3)
    array([[10.]])
    """
    k, n_cols = _checks.size("k", k), rows.shape[1]
    finite = rows[np.isfinite(rows).all(axis=1)]
    scale = float(np.abs(finite).max(initial=0.0)) or 1.0  # so that no square overflows or vanishes
    scaled = finite / scale
    mean = scaled.mean(axis=0) if len(scaled) else np.zeros(n_cols)
    centred = scaled - mean
    axes, shares, n = np.zeros((k, n_cols)), np.zeros(k), min(k, n_cols)
    if not n:
        return Components(mean, axes, shares)
    variances, vectors = np.linalg.eigh(centred.T @ centred)  # ascending
    axes[:n] = vectors.T[::-1][:n]
    largest = np.abs(axes[:n]).argmax(axis=1)
    axes[:n] *= np.where(axes[np.arange(n), largest] < 0, -1.0, 1.0)[:, None]
    shares[:n] = np.maximum(variances[::-1][:n], 0.0) / (variances.sum() or 1.0)
    return Components(mean * scale, axes, shares)
