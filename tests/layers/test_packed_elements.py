"""The value of a packed element: rounded once, on every instruction set."""

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from common import ISAS, needs_c, same_bits

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


@needs_c
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("format", ["float8_e4m3fn", "float8_e5m2"])
@pytest.mark.parametrize("is_float", [False, True])
def test_rows_of_blocks_of_32_with_and_without_something_rare(format, dtype, is_float, select_isa):
    """NaN, scales at all limits, results below the normal ones: each in a row of its own."""
    rng, to = np.random.default_rng(0), np.dtype(getattr(ml_dtypes, dtype, dtype))
    elements = rng.integers(0, 256, (600, 256), np.uint8)
    elements[(elements & 0x7F) >= 0x7C] -= 8  # no NaN and no infinity
    elements[np.arange(50), rng.integers(0, 256, 50)] = rng.choice([0x7F, 0xFF, 0x7C, 0x7D, 0x7E], 50)
    scales = rng.integers(110, 135, (600, 8), np.uint8)
    scales[50:400, rng.integers(0, 8)] = np.arange(350) % 256
    scales[400:500] = rng.integers(0, 24, (100, 8), np.uint8)
    wide = scales.view("float8_e8m0fnu").astype("f4")
    if is_float:
        wide = (wide * rng.standard_normal(wide.shape)).astype("f4").clip(-3e38, 3e38)
        wide[500:530, 3] = rng.choice(np.array([0, -0.0, np.inf, np.nan, 2.0**119, -(2.0**119), 1e-45], "f4"), 30)
    with np.errstate(over="ignore", invalid="ignore"):
        floats = elements.view(format).astype("f4") * np.repeat(wide, 32, axis=1)
        expected = floats.astype(to)
    ids = np.concatenate([rng.permutation(600), rng.integers(0, 600, 9000)])  # results of more than 8 MB go past the cache
    given = {"format": format, "scales": wide if is_float else scales}
    for isa in ISAS:
        select_isa(isa)
        table = fe.PackedTable(elements, 256, dtype=dtype, **given)
        for some in (ids[:600], np.resize(ids, 20_000)):
            assert_equal_but_nan(table(some), expected[some])
    assert same_bits(table(ids[:40], out=np.empty((40, 256), "f4")), fe.PackedTable(elements, 256, **given)(ids[:40]))


def assert_equal_but_nan(got, expected):
    is_nan = np.isnan(expected)
    assert np.array_equal(np.isnan(got), is_nan)
    unsigned = f"u{got.itemsize}"
    assert np.array_equal(got.view(unsigned)[~is_nan], expected.view(unsigned)[~is_nan])
