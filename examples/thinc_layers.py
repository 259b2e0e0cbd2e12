"""Time of thinc's Embed and HashEmbed divided by that of fastembed's layers, forward and backward.

python examples/thinc_layers.py
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import thinc.api

from fastembed.adapters import thinc as adapter

CASES = [
    ("HashEmbed", 5_000, 96, 300),
    ("HashEmbed", 5_000, 96, 5_000),
    ("HashEmbed", 20_000, 300, 5_000),
    ("Embed", 5_000, 96, 300),
    ("Embed", 5_000, 96, 5_000),
    ("Embed", 50_000, 300, 5_000),
    ("Embed", 50_257, 768, 8_192),
]
ROUNDS, SECONDS = 9, 0.02


def medians(calls: list[Callable[[], Any]]) -> list[float]:
    """The median seconds of each call; they take turns."""
    times: list[list[float]] = [[] for _ in calls]
    for turn in range(ROUNDS + 1):
        for call, own in zip(calls, times, strict=True):
            n, start = 0, time.perf_counter()
            while (seconds := time.perf_counter() - start) < SECONDS:
                call()
                n += 1
            if turn:  # the first one warms up, and allocates the gradients
                own.append(seconds / n)
    return [statistics.median(own) for own in times]


def compare(kind: str, n_rows: int, n_cols: int, n_ids: int) -> None:
    rng = np.random.default_rng(0)
    p = 1 / np.arange(3, n_rows + 3)
    ids = rng.choice(n_rows, n_ids, p=p / p.sum()).astype(np.uint64 if kind == "HashEmbed" else np.int32)
    dout = rng.standard_normal((n_ids, n_cols), dtype=np.float32)
    models = [getattr(module, kind)(n_cols, n_rows).initialize() for module in (thinc.api, adapter)]
    models[1].from_bytes(models[0].to_bytes())
    (theirs, their_backprop), (ours, backprop) = (model.begin_update(ids) for model in models)
    np.testing.assert_array_equal(ours, theirs)
    forward = medians([lambda model=model: model.begin_update(ids) for model in models])  # type: ignore[misc]
    backward = medians([lambda: their_backprop(dout), lambda: backprop(dout)])
    print(f"{kind} {n_rows:,} x {n_cols}, {n_ids:,} ids: forward {forward[0] / forward[1]:.1f}, ", end="")
    print(f"backward {backward[0] / backward[1]:.1f}", flush=True)


if __name__ == "__main__":
    for case in CASES:
        compare(*case)
