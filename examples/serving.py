"""Serving from several processes: each maps the same file, whose pages they share.

The number is the memory that each process has for itself beyond one that has no table, as a part of
the table; with a copy in each it would be 1.
"""

import argparse
import multiprocessing
import tempfile
from pathlib import Path

import numpy as np

import fastembed as fe

WIDTH = 128


def private_bytes() -> int:
    """Memory that this process has written: a page of a file that it only reads is everybody's."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_Dirty:"))


def serve(path, seed, n_requests):
    """Answer requests for rows; their sum, and the private memory that this took."""
    before = private_bytes()
    total, rng = 0.0, np.random.default_rng(seed)
    with fe.Embedding.open(path) as layer:
        layer.eval()
        for _ in range(n_requests):
            total += float(layer(rng.integers(0, layer.num_embeddings, 256))[:, 0].sum())
        return total, private_bytes() - before


def main(n_rows: int = 500_000, n_processes: int = 4, n_requests: int = 2000) -> float:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.safetensors"
        with fe.Embedding.create(path, (n_rows, WIDTH), init=lambda first, end: np.arange(first, end)[:, None] % 7):
            pass
        with multiprocessing.get_context("spawn").Pool(n_processes) as pool:
            answers = pool.starmap(serve, [(path, seed, n_requests) for seed in range(n_processes)])
    for seed, (total, _) in enumerate(answers):
        rng = np.random.default_rng(seed)
        assert total == sum(float((rng.integers(0, n_rows, 256) % 7).sum()) for _ in range(n_requests))
    n_bytes = n_rows * WIDTH * 4
    private = max(own for _, own in answers) / n_bytes
    print(f"{n_processes} processes served {n_processes * n_requests:,} requests of 256 rows from {n_bytes / 1e6:.0f} MB")
    print(f"private memory of a process for it: {private:.1%} of the table")
    return private


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-rows", type=int, default=500_000)
    main(parser.parse_args().n_rows)
