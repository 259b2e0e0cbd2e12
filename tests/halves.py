"""Tables of half precision: their dtypes, draws of them, and the rounding that is expected."""

import ml_dtypes
import numpy as np

HALVES = ("float16", "bfloat16")

DTYPE = {"float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}


def table_of(rng, shape, half, spread=3):
    return (rng.standard_normal(shape) * 10.0 ** rng.integers(-spread, spread, shape)).astype(DTYPE[half])


def rounded(values, half):
    with np.errstate(over="ignore"):
        return np.asarray(values, np.float32).astype(DTYPE[half])
