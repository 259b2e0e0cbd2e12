"""e^x and log(1 + t) as sums, products and quotients of float64 numbers in the order written here.

So they have the same bits everywhere; a library's functions differ from machine to machine.
"""

from __future__ import annotations

import math

_LOG2E = float.fromhex("0x1.71547652b82fep+0")  # 1 / log(2)
_LN2_HIGH = float.fromhex("0x1.62e42feep-1")  # log(2) in two parts, of which products with integers are exact
_LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
_ROUND = 1.5 * 2.0**52  # added and subtracted, it rounds a number to an integer
_EXP = [1.0 / math.factorial(k) for k in range(14)]  # the Taylor series, exact to 2^-57 for |x| <= log(2) / 2
_ATANH = [1.0 / (2 * k + 1) for k in range(17)]  # that of atanh(z) / z in z z, exact to 2^-55 for z <= 1/3


def _horner(coefficients: list[float], x: float) -> float:
    total = coefficients[-1]
    for c in coefficients[-2::-1]:
        total = total * x + c
    return total


def exp(x: float) -> float:
    """e^x for x <= 0: x = n log(2) + y, and e^x = 2^n e^y.

    2^n is two factors that are no subnormals, so that the result is rounded once.
    """
    x = -746.0 if x < -746.0 else x
    if math.isnan(x):
        return x
    n = (x * _LOG2E + _ROUND) - _ROUND
    half = (n * 0.5 + _ROUND) - _ROUND
    y = (x - n * _LN2_HIGH) - n * _LN2_LOW
    return _horner(_EXP, y) * 2.0**half * 2.0 ** (n - half)


def log1p(t: float) -> float:
    """log(1 + t) for 0 <= t <= 1, as 2 atanh(t / (2 + t))."""
    z = t / (2.0 + t)
    return 2.0 * z * _horner(_ATANH, z * z)


def log(x: float) -> float:
    """The logarithm of a finite x >= 1."""
    if not x < math.inf:
        return x
    mantissa, exponent = math.frexp(x)
    n = float(exponent - 1)
    return n * _LN2_HIGH + (n * _LN2_LOW + log1p(2.0 * mantissa - 1.0))
