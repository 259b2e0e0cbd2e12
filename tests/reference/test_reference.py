"""The reference by itself: layers that draw their tables, states, searches, triples, refusals."""

import random

import numpy as np
import pytest
from common import DTYPES, lists, same_bits
from halves import HALVES, rounded

import fastembed as fe
from fastembed import reference

pytestmark = pytest.mark.on_reference

MAKE = {
    "Embedding": lambda **options: reference.Embedding(7, 3, **options),
    "EmbeddingBag": lambda **options: reference.EmbeddingBag(7, 3, mode="sum", **options),
    "HashEmbedding": lambda **options: reference.HashEmbedding(7, 3, **options),
    "TokenPositionEmbedding": lambda **options: reference.TokenPositionEmbedding(7, 4, 3, n_types=2, **options),
}

IDS = [[1, 6, 1], [0, 2, 2]]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", MAKE)
def test_layers_draw_their_tables_row_by_row(kind, dtype):
    """As microgpt does: with random.gauss, from a generator that goes on after the table."""
    rng, like = random.Random(5), random.Random(5)
    layer = MAKE[kind](std=0.25, rng=rng, dtype=dtype)
    for table in layer.parameters():
        assert table == np.array([[like.gauss(0.0, 0.25) for _ in row] for row in table], dtype).tolist()
    assert rng.random() == like.random()
    assert MAKE[kind](dtype=dtype).parameters() != layer.parameters()


@pytest.mark.parametrize("dtype", DTYPES)
def test_layers_of_arrays_agree_with_those_that_drew(dtype):
    """What the classes hand on to their options, not only what from_pretrained does."""
    single, bag, hashed, pair = (make(rng=random.Random(1), dtype=dtype) for make in MAKE.values())
    same = fe.Embedding.from_pretrained(np.array(single.weight, dtype))
    assert same_bits(same(IDS), np.array(single(IDS), dtype))
    same = fe.EmbeddingBag.from_pretrained(np.array(bag.weight, dtype), mode="sum")
    assert same_bits(same(IDS), np.array(bag(IDS), dtype))
    same = fe.HashEmbedding.from_pretrained(np.array(hashed.weight, dtype))
    assert same_bits(same(IDS), np.array(hashed(IDS), dtype))
    same = fe.TokenPositionEmbedding.from_arrays(*(np.array(table, dtype) for table in pair.parameters()[:2]))
    plain = reference.TokenPositionEmbedding.from_arrays(*pair.parameters()[:2], dtype=dtype)
    assert same_bits(same(IDS), np.array(plain(IDS), dtype))


def test_states_go_from_one_layer_to_another():
    layer, other = (MAKE["TokenPositionEmbedding"](rng=random.Random(seed), dtype="float32") for seed in (1, 2))
    tables, before = other.parameters(), [list(map(list, table)) for table in other.parameters()]
    state = layer.state_dict()
    for error, text, bad in (
        (KeyError, r"missing names \['wpe', 'wtype'\], unexpected names \['x'\]", {"wte": state["wte"], "x": [[0.0]]}),
        (ValueError, r"wpe must have shape \(4, 3\), got \(1, 3\)", {**state, "wpe": [[0.0] * 3]}),
    ):
        with pytest.raises(error, match=text):
            other.load_state_dict(bad)
        assert other.parameters() == before
    other.load_state_dict({"wpe": [[0.1] * 3] * 4, "x": [[0.0]]}, strict=False)
    assert other.state_dict() == {"wte": before[0], "wpe": [[float(np.float32(0.1))] * 3] * 4, "wtype": before[2]}
    other.load_state_dict(state)
    assert other.state_dict() == state
    assert all(mine is table for mine, table in zip(other.parameters(), tables, strict=True))


def test_searches_of_layers():
    layer = MAKE["TokenPositionEmbedding"](rng=random.Random(3), dtype="float64")
    like = fe.TokenPositionEmbedding(7, 4, 3, n_types=2, dtype="float64")
    like.load_state_dict(layer.state_dict())
    for table in (None, "wte", "wpe"):
        for queries in ([0, 3], [[0.5, 0.0, -1.0]]):
            got, expected = layer.nearest(queries, 2, "l2", table=table), like.nearest(queries, 2, "l2", table=table)
            assert list(got) == lists(*expected)
        assert list(layer.analogy(0, 1, 2, 1, table=table)) == lists(*like.analogy(0, 1, 2, 1, table=table))


def test_triples_of_a_gradient():
    layer = MAKE["Embedding"](rng=random.Random(3), dtype="float64")
    like = fe.Embedding.from_pretrained(np.array(layer.weight))
    for of in (layer, like):
        of.backward([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], [6, 2])
    data, places = layer.grads()["weight"].to_coo()
    expected, expected_places = like.grads()["weight"].to_coo()
    assert [data, *places] == lists(expected, *expected_places)


def test_what_the_reference_refuses():
    layer = MAKE["Embedding"](rng=random.Random(3))
    layer.backward([[1.0, 2.0, 3.0]], [6])
    table = [[1.0, 2.0]]
    for error, text, call in (
        (RuntimeError, "an accumulated gradient is pending", lambda: layer.backward([[0.0] * 3], [1], optimizer=object())),
        (ValueError, "bounds must be raise, wrap, clip or zero, got 'x'", lambda: reference.gather(table, [5], bounds="x")),
        (ValueError, "start and position_ids exclude", lambda: reference.gather_add(table, [0], table, [0], start=1)),
        (ValueError, "does not broadcast", lambda: reference.gather_add(table, [0, 0], table, [0, 0, 0])),
        (ValueError, "must not be ragged", lambda: reference.gather(table, [[0], [0, 0]])),
        (TypeError, "dtype must be float64, .*, got 'int8'", lambda: reference.gather(table, [0], dtype="int8")),
        (ValueError, "offsets must start at 0", lambda: reference.embedding_bag(table, [0, 0], [1, 0])),
    ):
        with pytest.raises(error, match=text):
            call()
    assert layer.grads()["weight"].ids == [6]
    out = [None, None]
    assert reference.gather(table, [0, 0], out=out) is out
    assert out == table * 2


@pytest.mark.parametrize("half", HALVES)
def test_the_reference_rounds_as_numpy_does(half):
    rng = np.random.default_rng(0)
    edges = [
        0.0,
        -0.0,
        65504.0,
        65519.9,
        65520.0,
        1e30,
        3.3e38,
        3.4e38,
        2**-14,
        2**-15,
        2**-24,
        2**-25,
        1e-40,
        np.inf,
        -np.inf,
        np.nan,
    ]
    values = np.concatenate((edges, rng.standard_normal(2_000) * 10.0 ** rng.integers(-42, 38, 2_000))).astype("f4")
    got = [reference.halves.nearest(float(x), half) for x in values]
    assert same_bits(np.array(got, "f4"), rounded(values, half).astype("f4"))
