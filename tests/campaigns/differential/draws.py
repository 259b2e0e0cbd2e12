"""What a case draws: shapes, numbers of many sizes, ids, layouts; all from one generator."""

from __future__ import annotations

import functools
import math
import random
from typing import Any

import ml_dtypes
import numpy as np
from common import BOUNDS, ID_DTYPES, READ_LAYOUTS, floats, relaid

DTYPES = {
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
ARITHMETIC = {"float32": "float32", "float64": "float64", "float16": "float32", "bfloat16": "float32"}
WRITE_LAYOUTS = ("plain", "rows-apart", "before-a-gap")
_POOL_SIZE = 1 << 15
_TINY = {"float32": 2.0**-126, "float64": 2.0**-1022, "float16": 2.0**-14, "bfloat16": 2.0**-126}


@functools.cache
def _pool(kind: str, dtype: str) -> np.ndarray[Any, Any]:
    """Many numbers of one kind, of which a case takes some in a row."""
    rng = np.random.default_rng([len(kind), len(dtype)])
    values = rng.standard_normal(_POOL_SIZE)
    if kind == "integers":
        values = rng.integers(-2, 3, _POOL_SIZE).astype(np.float64)
    elif kind == "denormal":  # around the smallest normal number, where flush-to-zero shows
        values = values * _TINY[dtype] * 2.0 ** rng.integers(-9, 3, _POOL_SIZE)
    elif kind == "apart":
        values = values * 10.0 ** rng.integers(-6, 4, _POOL_SIZE)
    elif kind == "odd":
        values = floats(rng, (_POOL_SIZE,), "float64")
    with np.errstate(all="ignore"):
        return values.astype(DTYPES[dtype])


class Output:
    """An array for a result, or None: the same for each call of a case."""

    def __init__(self, array: np.ndarray[Any, Any] | None) -> None:
        self._array = array

    def filled(self) -> np.ndarray[Any, Any] | None:
        """The array, with nothing left in it of the call before."""
        if self._array is not None:
            self._array[...] = 7
        return self._array


class Written:
    """An array that a call writes, in a layout, and its content before."""

    def __init__(self, before: np.ndarray[Any, Any], array: np.ndarray[Any, Any]) -> None:
        self._before, self._array = before, array

    def restored(self) -> np.ndarray[Any, Any]:
        """The array as it was before any call."""
        if self._array.flags.writeable:
            self._array[...] = self._before
        return self._array


class Draw(random.Random):
    """The generator of one case: the same seed and number give the same case."""

    def __init__(self, seed: int, number: int, what: str) -> None:
        super().__init__(f"{seed} {number} {what}")

    def maybe(self, p: float) -> bool:
        return self.random() < p

    def dtype(self) -> str:
        return self.choice(tuple(DTYPES))

    def or_wider(self, dtype: str) -> str:
        """That dtype, or the one that its numbers are summed in."""
        return self.choice((dtype, ARITHMETIC[dtype]))

    def width(self) -> int:
        """Few columns mostly, and those around the lengths of vectors, tiles and partial sums."""
        return self.randrange(10) if self.maybe(0.8) else self.choice((15, 16, 17, 31, 32, 33, 40, 64, 65, 70))

    def shape(self, most_axes: int = 3, most: int = 4) -> tuple[int, ...]:
        return tuple(self.randrange(most + 1) for _ in range(self.randrange(most_axes + 1)))

    def kind(self) -> str:
        return self.choice(("normal", "normal", "integers", "denormal", "apart", "odd"))

    def numbers(self, shape: tuple[int, ...], dtype: str, kind: str | None = None) -> np.ndarray[Any, Any]:
        size = math.prod(shape)
        pool = _pool(kind or self.kind(), dtype)
        if size > _POOL_SIZE // 2:
            return np.resize(pool[self.randrange(_POOL_SIZE // 2) :], shape)
        first = self.randrange(_POOL_SIZE - size)
        return pool[first : first + size].reshape(shape).copy()

    def laid(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The array in a random layout for an argument that is read."""
        layout = self.choice(READ_LAYOUTS if self.maybe(0.5) else ("plain", "before-a-gap"))
        if layout == "byteswapped" and array.dtype.name == "bfloat16":  # has no other byte order
            layout = "misaligned"
        return relaid(array, layout)

    def wider(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """As `laid`; sometimes as float64 numbers of which the float32 ones are the roundings."""
        if array.dtype != np.float32 or self.maybe(0.8):
            return self.laid(array)
        wide = array.astype(np.float64)
        with np.errstate(all="ignore"):
            return self.laid(wide + wide * 2.0**-27)

    def written(self, array: np.ndarray[Any, Any]) -> Written:
        """The array in a layout for an argument that is written; sometimes in one that is not."""
        return Written(array, self.laid(array) if self.maybe(0.04) else relaid(array, self.choice(WRITE_LAYOUTS)))

    def output(self, shape: tuple[int, ...], dtype: str) -> Output:
        """What is given as ``out``, mostly nothing."""
        return Output(None if self.maybe(0.7) else relaid(np.empty(shape, DTYPES[dtype]), self.choice(WRITE_LAYOUTS)))

    def bounds(self) -> str:
        return self.choice(BOUNDS)

    def ids(self, shape: tuple[int, ...], n_rows: int, p_outside: float = 0.15) -> Any:
        """Ids of a table, of any integer type, in any layout or in a list; some out of range."""
        dtype = self.choice(ID_DTYPES)
        limits = np.iinfo(dtype)
        reach = self.choice((1, 1, 10, 2**70)) if self.maybe(p_outside) else 0
        low, high = max(limits.min, -reach), min(limits.max, max(n_rows - 1, 0) + reach)
        size = math.prod(shape)
        if reach and self.maybe(0.5):  # one id of many
            values = [self.randrange(min(max(n_rows, 1), limits.max + 1)) for _ in range(size)]
            if size:
                values[self.randrange(size)] = self.randint(low, high)
        else:
            values = [self.randint(low, high) for _ in range(size)]
        if self.maybe(0.2) and size:
            nested = np.array(values, object).reshape(shape).tolist()
            return nested if shape else int(values[0])
        return self.laid(np.array(values, dtype).reshape(shape))

    def valid_ids(self, shape: tuple[int, ...], n_rows: int) -> Any:
        return self.ids(shape, n_rows, 0.0)


def lists(array: Any) -> Any:
    """An array as nested lists; what is no array as it is."""
    if not isinstance(array, np.ndarray):
        return array
    if array.dtype.name == "bfloat16":
        return array.astype(np.float64).tolist()
    return array.tolist()
