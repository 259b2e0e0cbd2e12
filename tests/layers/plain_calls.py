"""Arguments that C answers at once, and others; a call in both ways, whose answers must agree."""

import ml_dtypes
import numpy as np
from common import same_bits

import fastembed as fe
from fastembed._kernels.backend import kernels

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
V, D, W, N_TOKENS = 12, 32, 4, 9
HASH = fe.NgramHash([3, 5, 7], [[3, 2], [5, 2]], vocab_size=N_TOKENS, fill=1, cut=4)


def fp8(scales_apart, dtype="float32"):
    rng = np.random.default_rng(0)
    rows, scales = rng.integers(0, 120, (V, D)).astype(np.uint8), rng.integers(120, 130, (V, 1)).astype(np.uint8)
    if scales_apart:
        return fe.PackedTable(rows, D, format="float8_e4m3fn", scales=scales, dtype=dtype)
    return fe.PackedTable(np.hstack([rows, scales]), D, format="float8_e4m3fn", dtype=dtype)


def floats(dtype):
    return np.random.default_rng(1).standard_normal((V, D)).astype(dtype)


FLOATS = {"float32": "float32", "float64": "float64", "bfloat16": BFLOAT16, "float16": "float16", "swapped": ">f4"}


def ids_of(n):
    """Ids of every kind, valid for n or not."""
    yield from (3, [], [1], [n - 1, 0], [n], [-1], [True], [0.5], [10**30], "a", None, [[1, 2], [3, 4]], [[1, 2], [3]])
    for dtype in ("int64", "int32", "uint8", ">i4", "float32", "bool"):
        yield (np.arange(12) % n).astype(dtype)
    yield from (np.zeros((0, 3), int), np.zeros((3, 0), int), np.ones((2, 3), int).T, np.arange(8)[::-2], np.full((70, 2), 2))
    yield from (
        np.array(3),
        np.array([1, n]),
        np.array([[2**63 + 1]], np.uint64),
        np.ones((1,) * 33 if np.__version__ >= "2" else 1, int),
    )


def outs_for(shape, dtype, *read):
    """Places for a result of that shape: what may be written and what may not."""
    yield None
    for to in {np.dtype("float32"), np.dtype("float16"), BFLOAT16, np.dtype("float64"), np.dtype("int32"), np.dtype(">f4")}:
        yield np.zeros(shape, to)
    yield np.zeros((*shape, 2), dtype)[..., 0]
    yield np.zeros((2, *shape), dtype)[::2][0]
    yield np.zeros((*shape, 1), dtype)
    yield np.zeros((*shape[:-1], shape[-1] + 1), dtype)
    yield np.zeros(shape, dtype).tolist()
    read_only = np.zeros(shape, dtype)
    read_only.flags.writeable = False
    yield read_only
    yield np.zeros(int(np.prod(shape)) * np.dtype(dtype).itemsize + 1, np.uint8)[1:].view(dtype).reshape(shape)
    n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    for array in read:  # memory that is read too
        flat = array.view(np.uint8).reshape(-1) if array.flags.c_contiguous else np.zeros(0, np.uint8)
        if n_bytes and len(flat) >= n_bytes and flat.ctypes.data % 8 == 0:
            yield flat[:n_bytes].view(dtype).reshape(shape)


def answer(call, out):
    """The result, whether it is `out`, and what is in that; or the error."""
    try:
        result = call()
    except Exception as error:
        return type(error), str(error), None if not isinstance(out, np.ndarray) else out.copy()
    return result.dtype, result.copy(), result is out


def check_both_ways(monkeypatch, name, call, out):
    """`call` gives the same by C at once as through the checks. Returns how often C answered."""
    at_once, answers = getattr(kernels, name), []

    def counted(*arguments):
        result = at_once(*arguments)
        answers.append(result is not None)
        return result

    filled = isinstance(out, np.ndarray) and out.flags.writeable
    before = out.copy() if filled else None
    with monkeypatch.context() as patch:
        patch.setattr(kernels, name, counted)
        found = answer(call, out)
        if filled:
            out[...] = before
        patch.setattr(kernels, name, lambda *arguments: None)
        expected = answer(call, out)
        if filled:
            out[...] = before
    for a, b in zip(found, expected, strict=True):
        assert same_bits(a, b) if isinstance(a, np.ndarray) else a == b or (a is None and b is None)
    return sum(answers)
