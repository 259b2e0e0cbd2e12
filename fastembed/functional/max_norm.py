"""max_norm: rows with a larger norm are scaled down, in the table or in the result alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from .. import _checks
from .._kernels.backend import kernels
from .._kernels.floats import own_floats

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


@own_floats
def rescaled_rows(table: Array, rows: Array, max_norm: float, norm_type: float) -> tuple[Array, Array]:
    """The rows with a norm above ``max_norm``, sorted and distinct, and their new values.

    ``rows`` are int64, -1 for none.

    Notes
    -----
    As PyTorch's embedding_renorm_: a row of norm n is multiplied by ``max_norm / (n + 1e-7)``,
    rounded once to the table's dtype.
    """
    distinct = np.unique(rows)
    distinct = distinct[distinct >= 0]
    values = np.ascontiguousarray(table[distinct], _checks.arithmetic_dtype(table.dtype))
    lengths = norms(values, norm_type)
    is_above = lengths > max_norm
    factors = (max_norm / (lengths[is_above] + 1e-7)).astype(values.dtype)
    return distinct[is_above], values[is_above] * factors[:, None]


@own_floats
def put_rescaled(result: Array, rows: Array, rows_above: Array, values: Array) -> None:
    """Replace rescaled rows in ``result``, shape S + (D,), a look-up of ``rows``, shape S."""
    if len(rows_above):
        index = np.minimum(np.searchsorted(rows_above, rows), len(rows_above) - 1)
        is_above = rows_above[index] == rows
        result[is_above] = values[index[is_above]]
