"""Cross-entropies of logits: losses in float64, and gradients rounded to ``dtype`` once."""

from __future__ import annotations

import math
from typing import Any

from .._nested import flat, nest, rounding, shape
from ..ops import Table
from ..rules import Rounding, Row, sum_powers
from .exponentials import exp, log, log1p


def logistic(x: float, y: float, divisor: float, r: Rounding) -> tuple[float, float]:
    """The cross-entropy of a probability y and sigmoid(x), and its gradient by x over a divisor.

    With t = e^-|x| the loss is (1 - y) log(1 + e^x) + y log(1 + e^-x) = |x| (1 - y) + log(1 + t)
    for x >= 0, and |x| y + log(1 + t) else; the gradient sigmoid(x) - y is written so that nothing
    cancels: (1 - y) sigmoid(x) - y sigmoid(-x).
    """
    size = abs(x)
    t = exp(-size)
    above, below = (1.0, t) if x >= 0 else (t, 1.0)
    other = 1.0 - y
    loss = size * (other if x >= 0 else y) + log1p(t)
    return loss, r((above * other - below * y) / (1.0 + t) / divisor)


def mean(losses: list[float], n: int) -> float:
    """The sum of losses, none of them negative, in 16 parts, over n; 0 for none."""
    return sum_powers(losses, 1) / n if n else 0.0


def binary_cross_entropy(logits: Any, targets: Any, dtype: str = "float64") -> tuple[float, Any]:
    """The mean of the losses of `logistic`, and its gradient by the logits."""
    r, n = rounding(dtype), len(list(flat(logits)))
    pairs = [logistic(x, y, float(n), r) for x, y in zip(flat(logits), flat(targets), strict=True)]
    return mean([loss for loss, _ in pairs], n), nest([gradient for _, gradient in pairs], shape(logits))


def softmax_row(x: Row, target: int | None, divisor: float, r: Rounding) -> tuple[float, Row]:
    """The loss of a row of logits, log(sum(e^(x - m))) + (m - x[target]), and its gradient.

    m is the largest logit. Without a target both are 0. The exponentials are rounded once before
    they are divided by their sum, which is one of the numbers before, in 16 parts.
    """
    if target is None:
        return 0.0, [0.0] * len(x)
    m = -math.inf
    for x_d in x:
        m = x_d if x_d > m else m
    shares = [exp(x_d - m) for x_d in x]
    total = sum_powers(shares, 1)
    loss = log(total) + (m - x[target])
    whole, rounded = total * divisor, [r(share) for share in shares]
    gradient = [r(share / whole) for share in rounded]
    gradient[target] = r((rounded[target] / total - 1.0) / divisor)
    return loss, gradient


def cross_entropy(logits: Table, targets: list[int], ignore_index: int = -100, dtype: str = "float64") -> tuple[float, Table]:
    """The mean of the losses of `softmax_row` over the rows that count, and its gradient.

    Rows whose target is ``ignore_index`` do not count.
    """
    r = rounding(dtype)
    kept = [None if target == ignore_index else target for target in targets]
    n = sum(target is not None for target in kept)
    for i, target in enumerate(kept):
        if target is not None and not 0 <= target < len(logits[i]):
            raise IndexError(f"target {target} at position ({i},) is out of range for {len(logits[i])} classes")
    pairs = [softmax_row(x, target, float(n), r) for x, target in zip(logits, kept, strict=True)]
    return mean([loss for loss, _ in pairs], n), [gradient for _, gradient in pairs]
