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


LAYERS = {
    "Embedding": (lambda table, **options: fe.Embedding.from_pretrained(table, **options), ([1, 3, 1],)),
    "EmbeddingBag": (lambda table, **options: fe.EmbeddingBag.from_pretrained(table, **options), ([[1, 3], [1, 1]],)),
    "HashEmbedding": (lambda table, **_: fe.HashEmbedding.from_pretrained(table), ([1, 3, 1],)),
    "TokenPositionEmbedding": (lambda table, **_: fe.TokenPositionEmbedding.from_arrays(table, table), ([1, 3, 1],)),
    "with norm": (lambda table, **_: fe.TokenPositionEmbedding.from_arrays(table, table, norm="rms"), ([1, 3, 1],)),
}


@pytest.mark.parametrize("counts", [False, True])
@pytest.mark.parametrize("name", list(LAYERS))
@pytest.mark.parametrize("half", HALVES)
def test_results_of_layers_in_float32_are_not_rounded(half, name, counts):
    """Those of a float32 layer with the same rows, on the path that counts look-ups too."""
    make, ids = LAYERS[name]
    table = table_of(np.random.default_rng(1), (5, 6), half)
    layer, wide = make(table), make(table.astype("f4"))
    layer.count_lookups(counts)
    expected, out = wide(*ids), np.empty((len(ids[0]), 6), "f4")
    assert same_bits(layer(*ids, out_dtype="float32"), expected)
    assert layer(*ids, out=out, out_dtype="float32") is out
    assert same_bits(out, expected)
    assert layer(*ids).dtype == DTYPE[half]
    with pytest.raises(TypeError, match=r"out_dtype must be .* or float32, got float64"):
        layer(*ids, out_dtype="float64")


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("half", HALVES)
def test_max_norm_in_place_gives_the_rows_as_they_are_stored(half, in_place):
    table = table_of(np.random.default_rng(1), (5, 6), half)
    layer = fe.Embedding.from_pretrained(table.copy(), max_norm=0.5, max_norm_in_place=in_place)
    got = layer([1, 3], out_dtype="float32")
    wide = fe.Embedding.from_pretrained(table.astype("f4"), max_norm=0.5)([1, 3])
    assert same_bits(got, layer.weight[[1, 3]].astype("f4") if in_place else wide)
    assert same_bits(got, wide) != in_place
