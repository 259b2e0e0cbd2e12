"""The value of a packed element: rounded once, on every instruction set."""

from fractions import Fraction

import numpy as np
import pytest
from common import ISAS

import fastembed as fe

pytestmark = pytest.mark.on_reference


def nearest_float32(exact):
    """Of the float32 numbers around a fraction the nearest, the even one of two."""
    near = np.float32(float(exact))
    around = (near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf)))
    return min(around, key=lambda x: (abs(Fraction(float(x)) - exact), int(x.view(np.uint32)) & 1))


def exactly(rows):
    return [[Fraction(x) for x in row] for row in rows.tolist()]


def test_an_element_is_rounded_once(select_isa):
    """Products half way between two float32 numbers, where a tiny bias decides; and others."""
    rng = np.random.default_rng(4)
    scales = np.ldexp(2.0**23 + 2 * rng.integers(0, 2**20, 40) + 1, rng.integers(-150, 60, 40))
    biases = 3 * scales * 2.0 ** -rng.integers(20, 80, 40) * rng.choice((-1, 1), 40)
    scales[20:], biases[30:] = scales[20:] * rng.standard_normal(20), rng.standard_normal(10)
    trailers = np.stack([scales, biases], axis=1).astype("f4")
    packed = np.concatenate([np.tile(np.arange(256, dtype=np.uint8), (40, 1)), trailers.view(np.uint8)], axis=1)
    expected = [[nearest_float32(q * scale + bias) for q in range(256)] for scale, bias in exactly(trailers)]
    twice = np.arange(256, dtype="f4") * trailers[:, :1] + trailers[:, 1:]
    assert not np.array_equal(twice, expected)
    in_double = np.arange(256) * trailers[:, :1].astype("f8") + trailers[:, 1:]
    assert not np.array_equal(in_double.astype("f4"), expected)
    for isa in ISAS or (None,):
        select_isa(isa)
        layer = fe.QuantizedEmbedding.from_packed(packed, 256)
        assert np.array_equal(layer.dequantize(), expected), isa
        assert np.array_equal(layer.bag(np.arange(40)[:, None], mode="sum"), expected), isa
