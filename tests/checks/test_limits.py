"""Limits in messages: powers of two as such, floats with few digits, intervals in words."""

import math
import sys

import pytest

import fastembed as fe
from fastembed._messages import interval, limit


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"), (5, "5"), (1024, "1024"), (100_000_000, "100000000"), (2**20, "2**20"), (2**31 - 1, "2**31 - 1"),
        (2**63 - 1, "2**63 - 1"), (2**64, "2**64"), (2.0**53, "2**53"), (0.0, "0.0"), (-3.4e38, "-3.4e+38"), (1e9, "1e+09"),
        (3.4028234663852886e38, "3.4e+38"), (1.1754943508222875e-38, "1.18e-38"), (0.25, "0.25"),
        (sys.float_info.max, "1.8e+308"),
    ],
)  # fmt: skip
def test_limits(number, text):
    assert limit(number) == text


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (0.0, 1.0, "from 0.0 to 1.0"), (0.0, math.inf, "at least 0.0"), (5e-324, math.inf, "above 0"),
        (-math.inf, math.inf, "a number other than NaN"), (0.0, math.nextafter(1.0, 0.0), "at least 0.0 and below 1"),
        (0.0, 3.4028234663852886e38, "from 0.0 to 3.4e+38"),
    ],
)  # fmt: skip
def test_intervals(low, high, text):
    assert interval(low, high) == text


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: fe.Embedding(2**64, 2), "num_embeddings must be from 0 to 2**63 - 1, got 18446744073709551616"),
        (lambda: fe.Embedding(3, 2, max_norm=-1), "max_norm must be at least 0.0, got -1.0"),
        (lambda: fe.Embedding(3, 2, max_norm=1, norm_type=0), "norm_type must be above 0, got 0.0"),
        (lambda: fe.HashEmbedding(2**32, 2), "num_rows must be from 1 to 2**32 - 1, got 4294967296"),
        (lambda: fe.optim.Adam(fe.Embedding(3, 2), eps=0), "eps must be from 1.18e-38 to 3.4e+38, got 0.0"),
        (lambda: fe.TokenPositionEmbedding(3, 2, 2, dropout=1), "dropout must be at least 0.0 and below 1, got 1.0"),
    ],
)
def test_messages_of_options(make, text):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - its text follows
        make()
    assert str(caught.value) == text
