"""Helpers of the tests: outcomes to compare, awkward arrays, the reference called on arrays."""

from __future__ import annotations

import ctypes
import functools
import mmap
import shutil
import sys
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from fastembed import reference
from fastembed._kernels import backend

ID_DTYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")

DTYPES = ("float32", "float64")

BOUNDS = ("raise", "wrap", "clip", "zero")

ISAS = backend.kernels.build_info()["isa_available"]  # none on the reference

needs_c = pytest.mark.skipif(backend.name != "c", reason="the reference has one thread and no instruction set")


def examples(n: int) -> settings:
    """How many examples a test draws; a third as many on the reference, where one takes longer."""
    return settings(max_examples=n if backend.name == "c" else -(-n // 3))


def with_path(script: str) -> str:
    """A script for another process that can import what this one can, helpers of tests too."""
    return f"import sys; sys.path[:] = {sys.path!r}\n{script}"


def c_compiler() -> str:
    """The path of gcc or clang; the test is skipped where there is neither."""
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("needs gcc or clang")
    return compiler


def crc(string: str) -> int:
    """A hash of strings for tables of hashed ids."""
    return zlib.crc32(string.encode())


def outcome(call: Any, /, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
    """What a call did: its result, or its exception's type and text."""
    try:
        return ("returned", call(*args, **kwargs))
    except Exception as error:
        return ("raised", type(error), str(error))


def same_bits(a: Any, b: Any) -> bool:
    """Whether two float arrays have the same shape, dtype and bits; NaNs may differ in payload."""
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    unsigned = f"u{a.itemsize}"
    a_bits, b_bits = np.ascontiguousarray(a).view(unsigned), np.ascontiguousarray(b).view(unsigned)
    with np.errstate(invalid="ignore"):  # ml_dtypes looks at NaNs by arithmetic
        return bool(np.all((a_bits == b_bits) | (np.isnan(a) & np.isnan(b))))


def assert_same(got: tuple[Any, ...], expected: tuple[Any, ...], dtype: Any, shape: tuple[int, ...]) -> None:
    """A call on arrays did what the reference did on lists: the bits, or the exception's text."""
    assert got[0] == expected[0], (got, expected)
    if got[0] == "raised":
        assert got[1:] == expected[1:]
    else:
        assert same_bits(got[1], np.array(expected[1], dtype).reshape(shape))


def lists(*arrays: Any) -> list[Any]:
    return [None if a is None else a.tolist() for a in arrays]


def floats(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray[Any, Any]:
    """Numbers of many sizes, with zeros of both signs, denormals, infinities and NaN among them."""
    values = rng.standard_normal(shape) * 10.0 ** rng.integers(-12, 12, shape)
    odd = np.array([0.0, -0.0, 1e-310, -1e-42, np.inf, -np.inf, np.nan])
    with np.errstate(over="ignore"):
        return np.where(rng.random(shape) < 0.1, rng.choice(odd, shape), values).astype(dtype)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def before_a_gap(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A copy whose last byte is followed by a page that can be neither read nor written; a plain
    one on Windows, which has no mprotect."""
    if sys.platform == "win32":
        return array.copy()
    n_bytes = -(-array.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    pages = mmap.mmap(-1, n_bytes + mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory = np.frombuffer(pages, np.uint8)
    if _libc().mprotect(ctypes.c_void_p(memory.ctypes.data + n_bytes), mmap.PAGESIZE, 0):
        raise OSError("mprotect has failed")
    copy = memory[n_bytes - array.nbytes : n_bytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def relaid(array: np.ndarray[Any, Any], layout: str) -> np.ndarray[Any, Any]:
    """The same values in another layout."""
    array = np.asarray(array)
    if layout == "strided":
        wide = np.zeros(tuple(2 * n for n in array.shape), array.dtype)
        view = wide[(..., *(slice(0, 2 * n, 2) for n in array.shape))]
        view[...] = array
        return view
    if layout == "reversed":
        flip = (..., *[slice(None, None, -1)] * array.ndim)
        return array[flip].copy("C")[flip]
    if layout == "misaligned":
        raw = np.zeros(array.nbytes + 1, np.uint8)
        view = raw[1:].view(array.dtype).reshape(array.shape)
        view[...] = array
        return view
    if layout == "before-a-gap":
        return before_a_gap(array)
    if layout == "byteswapped":
        return array.astype(array.dtype.newbyteorder("S"))
    if layout == "fortran":
        return array.copy("F")
    if layout == "rows-apart" and array.ndim:  # contiguous rows with a gap between them
        wide = np.zeros((*array.shape[:-1], array.shape[-1] + 3), array.dtype)
        wide[..., : array.shape[-1]] = array
        return wide[..., : array.shape[-1]]
    copy = array.copy()
    if layout == "readonly":
        copy.flags.writeable = False
    return copy


class OnlyDlpack:
    """An array of another library that has nothing but the exchange protocol."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **keywords):
        return self.array.__dlpack__(**keywords)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


class OnlyArray:
    """An array by `__array__` alone, and an integer if it has no axes, as PyTorch's tensors are."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array

    def __int__(self):
        return int(self.array)


READ_LAYOUTS = (
    "plain", "strided", "reversed", "misaligned", "byteswapped", "fortran", "rows-apart", "readonly", "before-a-gap",
)  # fmt: skip


def reference_scatter_add(table: Any, ids: Any, values: Any, bounds: str) -> Any:
    rows = table.tolist()
    reference.scatter_add(rows, ids.tolist(), values.tolist(), bounds=bounds, dtype=str(table.dtype))
    return rows


def filled_places(shape: tuple[int, int], dtype: Any) -> Any:
    """Arrays of that shape that begin anywhere in a cache line, with gaps between rows or none.

    Each with a function that says whether the memory around it is as it was.
    """
    n_rows, width = shape
    for gap, offset in ((0, 0), (0, 1), (0, 12), (1, 3), (20, 0)):
        memory = np.full(n_rows * (width + gap) + 64, 7, dtype)
        start = -memory.ctypes.data % 64 // memory.itemsize + offset
        rows = memory[start : start + n_rows * (width + gap)].reshape(n_rows, width + gap)
        around = memory[:start], rows[:, width:], memory[start + rows.size :]
        yield rows[:, :width], lambda around=around: all((part == 7).all() for part in around)


def look_up_twice(table: Any, end: Any) -> None:
    """Send the sum of row 7 now, and once more when something is received.

    Here, where a process that is started finds it by the same name wherever it runs.
    """
    end.send(float(table([7]).sum()))
    end.recv()
    end.send(float(table([7]).sum()))
