"""Rows of FP8 with a scale for each block of elements, and rows of float16 and bfloat16.

The elements are those of "FP8 Formats for Deep Learning" (arXiv 2209.05433): e4m3fn has 4 bits of
exponent, no infinities, and NaN in 0x7f and 0xff; e5m2 is the upper half of a float16. A scale is a
float32, or a byte: ue8m0 of the OCP Microscaling specification, 2^(byte - 127), 255 for NaN.
"""

from __future__ import annotations

import math
import struct

from .._nested import rounding

SIZES = {"float8_e4m3fn": 1, "float8_e5m2": 1, "float16": 2, "bfloat16": 2}
"""The bytes of an element."""


def e4m3fn(byte: int) -> float:
    """The number that 8 bits stand for."""
    exponent, fraction = byte >> 3 & 15, byte & 7
    if exponent == 15 and fraction == 7:
        return math.nan
    size = fraction * 2.0**-9 if exponent == 0 else (8 + fraction) * 2.0 ** (exponent - 10)
    return math.copysign(size, -1.0 if byte >> 7 else 1.0)


def e5m2(byte: int) -> float:
    """The number that 8 bits stand for."""
    number: float = struct.unpack("<e", bytes([0, byte]))[0]
    return number


def ue8m0(byte: int) -> float:
    """The scale that 8 bits stand for."""
    return math.nan if byte == 255 else 2.0 ** (byte - 127)


def decode(format: str, row: bytes, scales: bytes, block_size: int, has_float_scales: bool) -> list[float]:
    """The elements of a row, each times the scale of its block, rounded to float32."""
    if format == "float16":
        return list(struct.unpack(f"<{len(row) // 2}e", row))
    if format == "bfloat16":
        halves = (row[i : i + 2] for i in range(0, len(row), 2))
        return [struct.unpack("<f", bytes(2) + half)[0] for half in halves]
    r = rounding("float32")
    numbers = struct.unpack(f"<{len(scales) // 4}f", scales) if has_float_scales else [ue8m0(byte) for byte in scales]
    element = e4m3fn if format == "float8_e4m3fn" else e5m2
    return [r(element(byte) * numbers[i // block_size]) for i, byte in enumerate(row)]
