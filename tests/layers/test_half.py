"""Layers of half precision: sums in float32, and options as in the reference."""

import numpy as np
import pytest
from common import same_bits
from halves import DTYPE, HALVES, rounded, table_of

import fastembed as fe
from fastembed import reference

pytestmark = pytest.mark.on_reference


@pytest.mark.parametrize("half", HALVES)
def test_five_thousand_ones(half):
    layer = fe.Embedding(3, 2, dtype=half, rng=0)
    assert layer.dtype == DTYPE[half]
    for _ in range(2):
        layer.backward(np.ones((2_500, 2), DTYPE[half]), np.full(2_500, 1))
    grad = layer.grads()["weight"]
    assert grad.rows.dtype == np.float32
    assert grad.rows.tolist() == [[5_000.0, 5_000.0]]
    table = np.zeros((3, 2), DTYPE[half])
    fe.scatter_add(table, np.full(5_000, 1), np.ones((5_000, 2), "f4"))
    assert same_bits(table[1], rounded([5_000.0, 5_000.0], half))


@pytest.mark.parametrize("half", HALVES)
def test_options_of_layers(half):
    rng = np.random.default_rng(6)
    table = table_of(rng, (5, 6), half, 1)
    for in_place in (True, False):
        layer = fe.Embedding.from_pretrained(
            table.copy(), max_norm=0.5, max_norm_in_place=in_place, padding_idx=1, scale_grad_by_freq=True
        )
        like = reference.Embedding.from_pretrained(
            table.astype("f8").tolist(),
            dtype=half,
            max_norm=0.5,
            max_norm_in_place=in_place,
            padding_idx=1,
            scale_grad_by_freq=True,
        )
        ids = rng.integers(0, 5, (3, 3))
        assert same_bits(layer(ids), rounded(like(ids.tolist()), half))
        dout = rng.standard_normal((3, 3, 6)).astype("f4")
        layer.backward(dout)
        like.backward(dout.tolist())
        assert same_bits(layer.grads()["weight"].rows, np.array(like.grads()["weight"].rows, "f4"))
        bag = fe.EmbeddingBag.from_pretrained(table.copy(), max_norm=0.5, max_norm_in_place=in_place, mode="sum")
        like_bag = reference.EmbeddingBag.from_pretrained(
            table.astype("f8").tolist(), dtype=half, max_norm=0.5, max_norm_in_place=in_place, mode="sum"
        )
        assert same_bits(bag(ids), rounded(like_bag(ids.tolist()), half))
