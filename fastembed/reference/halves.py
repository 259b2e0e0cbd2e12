"""Half precision (float16, bfloat16): rounding to the nearest, and stochastic rounding."""

from __future__ import annotations

import math

_PRECISION = {"float16": (10, -14, 13, 65504.0), "bfloat16": (7, -126, 16, 2.0**127 * (2 - 2**-7))}
"""Bits of the fraction, least exponent, bits of float32 that are cut off, the largest number."""


def is_half(dtype: str) -> bool:
    return dtype in _PRECISION


def ulp(x: float, dtype: str) -> float:
    """The unit in the last place: the distance between neighbouring numbers around x."""
    digits, least, _, _ = _PRECISION[dtype]
    return 2.0 ** (math.frexp(max(abs(x), 2.0**least))[1] - 1 - digits)


def nearest(x: float, dtype: str) -> float:
    """The nearest number, ties to even; infinity from half an ulp above the largest number on."""
    if not math.isfinite(x):
        return x
    unit, largest = ulp(x, dtype), _PRECISION[dtype][3]
    rounded = round(abs(x) / unit) * unit
    return math.copysign(rounded if rounded <= largest else math.inf, x)


def at_random(x: float, dtype: str, random: int) -> float:
    """Stochastic rounding: towards zero, or away from it with the probability of what is cut off.

    ``random`` has 32 bits, of which the upper ones are used.
    """
    _, _, n_bits, largest = _PRECISION[dtype]
    if not abs(x) <= largest:
        return nearest(x, dtype)
    unit = ulp(x, dtype)
    whole = math.floor(abs(x) / unit)
    cut_off = math.floor((abs(x) / unit - whole) * 2**n_bits)
    return math.copysign((whole + (cut_off + (random >> (32 - n_bits)) >= 2**n_bits)) * unit, x)


def mix(x: int) -> int:
    """The finaliser of splitmix64 (Steele, Lea and Flood, 2014)."""
    x = (x + 0x9E3779B97F4A7C15) % 2**64
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
    return x ^ x >> 31


def random_bits(seed: int, stream: int, step: int, row: int, col: int) -> int:
    """32 bits for one element of one table in one step."""
    key = mix(mix(mix(mix(seed) + stream) + step) + row)
    return mix(key + col) >> 32
