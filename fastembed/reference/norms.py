"""RMSNorm and LayerNorm of a row, their backward, and dropout.

Every operation is rounded once, in the order written here.
"""

from __future__ import annotations

import math

from ._nested import rounding
from .halves import mix
from .rules import Row, dot, sum_of


def normalise(x: Row, is_layer: bool, eps: float, dtype: str) -> tuple[Row, float]:
    """c / sqrt(mean(c c) + eps), and the factor 1 / sqrt(...).

    c = x - mean(x) for LayerNorm (`is_layer`), c = x for RMSNorm. There is no gain and no bias.
    """
    r = rounding(dtype)
    if not x:
        return [], 1.0
    mean = r(sum_of(x, r) / len(x)) if is_layer else 0.0
    centred = [r(x_d - mean) for x_d in x]
    scale = r(1.0 / r(math.sqrt(r(r(dot(centred, centred, r) / len(x)) + r(eps)))))
    return [r(x_d * scale) for x_d in centred], scale


def backward(dy: Row, y: Row, scale: float, is_layer: bool, dtype: str) -> Row:
    """The gradient of x: scale (dy - mean(dy) - y mean(dy y)), for RMSNorm without mean(dy)."""
    r = rounding(dtype)
    if not y:
        return []
    along = r(dot(dy, y, r) / len(y))
    mean = r(sum_of(dy, r) / len(y)) if is_layer else 0.0
    return [r(scale * r(r(dy_d - mean) - r(y_d * along))) for dy_d, y_d in zip(dy, y, strict=True)]


def drop(rows: list[Row], p: float, seed: int, call: int, dtype: str) -> list[Row]:
    """Dropout: each element becomes 0 with probability p, else 1 / (1 - p) times itself.

    The random bits depend on the seed, the number of the call, the row and the column alone.
    """
    r = rounding(dtype)
    key, scale = mix(mix(seed) + call), r(1 / (1 - p))
    return [
        [r(x * scale) if mix(mix(key + i) + d) >> 32 >= p * 2**32 else 0.0 for d, x in enumerate(row)]
        for i, row in enumerate(rows)
    ]
