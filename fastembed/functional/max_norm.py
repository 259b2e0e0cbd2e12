"""max_norm: rows whose norm is above it are scaled down, where they lie or in the result alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from .. import _checks
from .._kernels.backend import kernels

if TYPE_CHECKING:
    from .._typing import Array


def norms(rows: Array, p: float) -> Array:
    """The p-norm of each row of a matrix, computed in float64."""
    sums = kernels.sum_powers(rows, p)
    if p == 2:
        return np.sqrt(sums)
    return sums if p in (1, math.inf) else np.array([_power(x, 1.0 / p) for x in sums.tolist()])


def _power(x: float, p: float) -> float:
    try:
        return float(x**p)
    except OverflowError:
        return math.inf


def rescaled(table: Array, rows: Array, max_norm: float, norm_type: float) -> tuple[Array, Array]:
    """Which of some rows (int64; -1 for none) have a norm above ``max_norm``, sorted and distinct, and what they become.

    Notes
    -----
    PyTorch's embedding_renorm_: a row of norm n becomes ``max_norm / (n + 1e-7)`` times itself; the factor is rounded once to the
    table's dtype.
    """
    distinct = np.unique(rows)
    distinct = distinct[distinct >= 0]
    values = np.ascontiguousarray(table[distinct], _checks.arithmetic(table.dtype))
    lengths = norms(values, norm_type)
    is_above = lengths > max_norm
    factors = (max_norm / (lengths[is_above] + 1e-7)).astype(values.dtype)
    with np.errstate(invalid="ignore"):  # an infinite element times 0
        return distinct[is_above], values[is_above] * factors[:, None]


def put_rescaled(result: Array, rows: Array, rows_above: Array, values: Array) -> None:
    """Replace what was looked up of rescaled rows, wherever they occur in ``rows`` (shape S; ``result``: S + (D,))."""
    if len(rows_above):
        places = np.minimum(np.searchsorted(rows_above, rows), len(rows_above) - 1)
        is_above = rows_above[places] == rows
        result[is_above] = values[places[is_above]]
