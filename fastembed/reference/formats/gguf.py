"""The block formats of GGUF: the layouts are those of ggml (ggml-common.h, ggml-quants.c).

A block of 32 elements has one scale in float16. A block of 256 ("K") has parts of 16 or 32
elements, each with a scale, and in some formats a minimum, of a few bits; they are multiplied by
one or two float16 numbers of the block. An element stands for ``q * scale - minimum``, rounded to
float32.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from .._nested import rounding


def _f16(block: bytes, at: int) -> float:
    number: float = struct.unpack_from("<e", block, at)[0]
    return number


def _part(q: list[int], scale: float, minimum: float | None = None) -> list[float]:
    """Elements of a part of a block; products are exact in float32."""
    r = rounding("float32")
    return [r(r(x * scale) if minimum is None else r(x * scale) - minimum) for x in q]


def _signed(byte: int) -> int:
    return byte - 256 if byte > 127 else byte


def _q8_0(block: bytes) -> list[float]:
    return _part([_signed(byte) for byte in block[2:]], _f16(block, 0))


def _q4_0(block: bytes) -> list[float]:
    low, high = ([(byte >> shift & 15) - 8 for byte in block[2:]] for shift in (0, 4))
    return _part(low + high, _f16(block, 0))


def _pairs(block: bytes, at: int, part: int) -> list[int]:
    """The 16 elements of 2 bits of a part: four parts, 32 elements apart, share bytes."""
    first = at + part // 8 * 32 + part % 2 * 16
    return [byte >> part % 8 // 2 * 2 & 3 for byte in block[first : first + 16]]


def _q2_k(block: bytes) -> list[float]:
    d, d_min = _f16(block, 80), _f16(block, 82)
    parts = (_part(_pairs(block, 16, p), d * (block[p] & 15), d_min * (block[p] >> 4)) for p in range(16))
    return [x for part in parts for x in part]


def _q3_k(block: bytes) -> list[float]:
    scales, result = block[96:108], []
    for p in range(16):
        scale = (scales[p % 8] >> p // 8 * 4 & 15 | (scales[8 + p % 4] >> p // 4 * 2 & 3) << 4) - 32
        high = block[p % 2 * 16 : p % 2 * 16 + 16]
        q = [low - 4 * (1 - (byte >> p // 2 & 1)) for low, byte in zip(_pairs(block, 32, p), high, strict=True)]
        result += _part(q, _f16(block, 108) * scale)
    return result


def _six_bits(packed: bytes, j: int) -> tuple[int, int]:
    """The scale and the minimum of part j, from 12 bytes."""
    if j < 4:
        return packed[j] & 63, packed[j + 4] & 63
    return packed[j + 4] & 15 | packed[j - 4] >> 6 << 4, packed[j + 4] >> 4 | packed[j] >> 6 << 4


def _with_minima(block: bytes, high: bytes | None, low: bytes) -> list[float]:
    """Eight parts of 32 elements: four bits of each in ``low``, and a fifth one in ``high``."""
    d, d_min, result = _f16(block, 0), _f16(block, 2), []
    for p in range(8):
        scale, minimum = _six_bits(block[4:16], p)
        q = [byte >> p % 2 * 4 & 15 for byte in low[p // 2 * 32 : p // 2 * 32 + 32]]
        if high is not None:
            q = [x | (byte >> p & 1) << 4 for x, byte in zip(q, high, strict=True)]
        result += _part(q, d * scale, d_min * minimum)
    return result


def _q4_k(block: bytes) -> list[float]:
    return _with_minima(block, None, block[16:])


def _q5_k(block: bytes) -> list[float]:
    return _with_minima(block, block[16:48], block[48:])


def _q6_k(block: bytes) -> list[float]:
    result = []
    for p in range(16):
        half, quarter, at = p // 8, p % 8 // 2, p % 2 * 16
        first, second = half * 64 + quarter % 2 * 32 + at, 128 + half * 32 + at
        pairs = zip(block[first : first + 16], block[second : second + 16], strict=True)
        q = [((low >> quarter // 2 * 4 & 15) | (high >> quarter * 2 & 3) << 4) - 32 for low, high in pairs]
        result += _part(q, _f16(block, 208) * _signed(block[192 + p]))
    return result


class Layout(NamedTuple):
    """A block: its elements, its bytes, and what decodes it."""

    n_cols: int
    size: int
    decode: Callable[[bytes], list[float]]


LAYOUTS = {
    "q8_0": Layout(32, 34, _q8_0),
    "q4_0": Layout(32, 18, _q4_0),
    "q2_k": Layout(256, 84, _q2_k),
    "q3_k": Layout(256, 110, _q3_k),
    "q4_k": Layout(256, 144, _q4_k),
    "q5_k": Layout(256, 176, _q5_k),
    "q6_k": Layout(256, 210, _q6_k),
}


def decode(format: str, row: bytes, n_cols: int) -> list[float]:
    """The elements of a row of whole blocks, as float32."""
    layout = LAYOUTS[format]
    blocks = (row[k * layout.size : (k + 1) * layout.size] for k in range(n_cols // layout.n_cols))
    return [x for block in blocks for x in layout.decode(block)]
