"""Initial values of tables: normal random numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _checks
from .._kernels.floats import own_floats
from .storage import empty_table

if TYPE_CHECKING:
    from .._typing import Array, Rng

_BLOCK = 4096  # rows that are drawn, as float64, at one time


def normal_rows(n_cols: int, std: float, rng: Rng) -> Callable[[int, int], Array]:
    """A function that draws rows first .. end - 1 in float64, for one block after another."""
    std, generator = _checks.number("std", std, 0.0, 3.4e38), _checks.generator(rng)
    return lambda first, end: generator.normal(0.0, std, (end - first, n_cols))


@own_floats
def normal(shape: tuple[int, int], std: float, rng: Rng, dtype: np.dtype[Any]) -> Array:
    """Normal numbers, drawn in float64 and rounded: a seed gives the same table in every dtype."""
    draw, table = normal_rows(shape[1], std, rng), empty_table(shape, dtype)
    for first in range(0, shape[0], _BLOCK):
        block = table[first : first + _BLOCK]
        block[...] = draw(first, first + len(block))
    return table
