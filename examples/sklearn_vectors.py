"""Time of pooling documents by NumPy divided by that of EmbeddingTransformer.

python examples/sklearn_vectors.py
"""

import statistics
import time

import numpy as np

from fastembed.adapters.sklearn import EmbeddingTransformer

V, D, N, ROUNDS = 30_000, 256, 2_000, 9


def main() -> None:
    rng = np.random.default_rng(0)
    table = rng.standard_normal((V, D), dtype=np.float32)
    for length in (10, 100, 500):
        documents = [rng.integers(0, V, length) for _ in range(N)]
        transformer = EmbeddingTransformer(table).fit()
        calls = (lambda: np.stack([table[ids].mean(0) for ids in documents]), lambda: transformer.transform(documents))  # noqa: B023
        np.testing.assert_allclose(calls[1](), calls[0](), rtol=1e-4, atol=1e-5)
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(ROUNDS):
            for call, own in zip(calls, times, strict=True):
                start = time.perf_counter()
                call()
                own.append((time.perf_counter() - start) * 1e3)
        theirs, ours = map(statistics.median, times)
        print(f"{N:,} documents of {length} ids: NumPy {theirs:.1f} ms, here {ours:.1f} ms, {theirs / ours:.1f} times faster")


if __name__ == "__main__":
    main()
