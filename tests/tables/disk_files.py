"""Files for tables on disk, and the ways to read them that this system has."""

import numpy as np
import pytest
from test_packed import table_of

import fastembed as fe
from fastembed import checkpoint
from fastembed._kernels import backend

IS_C = backend.name == "c"
WAYS = [("io_uring", True), ("io_uring", False), ("pread", True), ("pread", False)] if IS_C else [("pread", False)]
SMALL = 1 << 15  # bytes of a cache that is too small for most of these tables
V = 300


def usable(way, tmp_path):
    """The options of a way; skips the test where the system does not allow it."""
    options = {"engine": way[0], "direct": way[1]}
    probe = tmp_path / "probe.npy"
    np.save(probe, np.zeros((1, 1)))
    try:
        fe.DiskTable(probe, cache_bytes=SMALL, **options).close()
    except OSError as error:
        pytest.skip(f"not here: {error}")
    return options


def save(path, **tensors):
    checkpoint.save(path, tensors)
    return path


def rows_file(path, n_rows=V, width=10):
    table = np.random.default_rng(1).standard_normal((n_rows, width)).astype("f4")
    np.save(path, table)
    return path, table


def packed_file(folder, rng, format, width, n_rows, dtype="float32"):
    """A file of packed rows, whose scales may be a tensor of their own; the table; its options."""
    rows, options, _ = table_of(rng, format, width, n_rows)
    memory = fe.PackedTable(rows, width, **options, dtype=dtype)
    scales = {"scales": options["scales"]} if "scales" in options else {}
    path = save(folder / "t.safetensors", rows=rows, **scales)
    return path, memory, options | dict.fromkeys(scales, "scales")
