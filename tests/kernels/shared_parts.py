"""The arrays that a shared table is made of."""

import numpy as np


def parts(n_rows=4, dtype="f4", n_versions=8, n_cols=3):
    """The rows of a shared table, and what lies beside them."""
    rows = np.arange(n_rows * n_cols).reshape(n_rows, n_cols).astype(dtype)
    numbers = [np.zeros(1, kind) for kind in (np.uint64, np.uint64)]
    of_journal = np.zeros(1, np.int64), np.zeros(n_rows, np.int64), np.zeros_like(rows)
    return [rows, *numbers, np.zeros(n_versions, np.uint32), *of_journal, np.zeros(1, np.int64)]
