"""What `on_reference` answers of losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import reference

Array = np.ndarray[Any, Any]


def logistic(logits: Array, targets: Array, divisor: float) -> tuple[Array, Array]:
    round_ = reference.rounding(str(logits.dtype))
    numbers = zip(logits.reshape(-1).tolist(), targets.reshape(-1).tolist(), strict=True)
    pairs = [reference.losses.logistic(x, y, divisor, round_) for x, y in numbers]
    gradients = np.array([gradient for _, gradient in pairs], logits.dtype).reshape(logits.shape)
    return gradients, np.array([loss for loss, _ in pairs], np.float64).reshape(logits.shape)


def cross_entropy(logits: Array, targets: Array, divisor: float) -> tuple[Array, Array]:
    round_ = reference.rounding(str(logits.dtype))
    of_rows = zip(logits.tolist(), targets.tolist(), strict=True)
    pairs = [reference.losses.softmax_row(x, None if y < 0 else y, divisor, round_) for x, y in of_rows]
    gradients = np.array([gradient for _, gradient in pairs], logits.dtype).reshape(logits.shape)
    return gradients, np.array([loss for loss, _ in pairs], np.float64)
