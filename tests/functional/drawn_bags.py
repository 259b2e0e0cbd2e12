"""Draws of bags: ids and offsets, or ids in two axes, and weights."""

import numpy as np
from common import ID_DTYPES

MODES = ("sum", "mean", "sqrtn", "max")

V, D = 9, 37


def draw_bags(rng, n_ids=None):
    """Ids and offsets of bags of many sizes, or ids in two axes; and include_last_offset."""
    if n_ids is None and rng.random() < 0.3:
        return rng.integers(0, V, (int(rng.integers(1, 6)), int(rng.integers(0, 6)))), None, bool(rng.random() < 0.5)
    n_ids = int(rng.integers(0, 30)) if n_ids is None else n_ids
    ends = np.sort(rng.integers(0, n_ids + 1, int(rng.integers(0, 8))))
    return rng.integers(0, V, n_ids), np.concatenate(([0], ends)).astype(rng.choice(ID_DTYPES)), bool(rng.random() < 0.5)


def draw_weights(rng, ids, mode, dtype):
    return None if mode == "max" or rng.random() < 0.5 else rng.standard_normal(ids.shape).astype(dtype)
