"""A handle names one of several calls; ids alone say nothing of a dropout mask."""

import numpy as np
import pytest
from common import examples, outcome, same_bits
from hypothesis import given
from hypothesis import strategies as st

import fastembed as fe
from fastembed import reference

pytestmark = pytest.mark.on_reference

V, D = 7, 5
DROPOUT = {"dropout": 0.4, "dropout_seed": 3}
TABLES = {
    "Embedding": (V, D),
    "EmbeddingBag": (V, D),
    "HashEmbedding": (V, D),
    "TokenPositionEmbedding": (V, 6, D),
}


def pair(kind, **options):
    """A layer and the same one of the reference."""
    if kind == "TokenPositionEmbedding":
        tables = [np.random.default_rng(k).standard_normal((n, D)) for k, n in enumerate((V, 6))]
        layers = getattr(fe, kind).from_arrays(*(table.copy() for table in tables), **options)
        return layers, getattr(reference, kind).from_arrays(*(table.tolist() for table in tables), **options)
    table = np.random.default_rng(0).standard_normal((V, D))
    options |= {"mode": "sum"} if kind == "EmbeddingBag" else {}
    like = getattr(reference, kind).from_pretrained(table.tolist(), **options)
    return getattr(fe, kind).from_pretrained(table.copy(), **options), like


def same_grads(layer, like):
    for name, grad in layer.grads().items():
        assert grad.ids.tolist() == like.grads()[name].ids
        assert same_bits(grad.rows, np.array(like.grads()[name].rows).reshape(-1, D))


@pytest.mark.parametrize("kind", TABLES)
@examples(15)
@given(order=st.permutations(range(4)), seed=st.integers(0, 99), evaluated=st.booleans())
def test_calls_have_their_gradients_in_any_order(kind, order, seed, evaluated):
    rng = np.random.default_rng(seed)
    layer, like = pair(kind, **(DROPOUT if kind in ("HashEmbedding", "TokenPositionEmbedding") else {}))
    calls = []
    for k in range(4):
        for of in (layer, like):
            of.train(not (evaluated and k == 2))
        ids = rng.integers(0, V, (2, 3))
        options = {"start": k % 2, "lengths": np.array([3, 2])} if kind == "TokenPositionEmbedding" and k else {}
        given_to_like = options | ({"lengths": [3, 2]} if options else {})
        (x, call), (expected, like_call) = layer.call(ids, **options), like.call(ids.tolist(), **given_to_like)
        assert same_bits(x, np.array(expected))
        calls.append((call, like_call, rng.standard_normal(x.shape)))
    for k in order:
        call, like_call, dout = calls[k]
        layer.backward(dout, call=call)
        like.backward(dout.tolist(), call=like_call)
        same_grads(layer, like)


@pytest.mark.parametrize("kind", TABLES)
def test_a_handle_is_what_the_last_call_is_without_one(kind):
    for options in ({}, DROPOUT) if kind in ("HashEmbedding", "TokenPositionEmbedding") else ({},):
        layer, _ = pair(kind, **options)
        x, call = layer.call(np.array([[1, 2, 1]]))
        layer.backward(np.ones_like(x))
        by_last = layer.dense_grads()
        layer.zero_grad()
        layer(np.array([[3, 3]]))
        layer.backward(np.ones_like(x), call=call)
        assert all(same_bits(grad, by_last[name]) for name, grad in layer.dense_grads().items())
        with pytest.raises(AttributeError):
            call.other = 1


@pytest.mark.parametrize("kind", TABLES)
def test_what_a_handle_is_refused_for_changes_nothing(kind):
    def texts(of, numbers):
        ids = numbers([[1, 2]])
        x, call = of.call(ids)
        _, foreign = pair(kind)[isinstance(of, reference.layers.Layer)].call(ids)
        dout = numbers(np.ones_like(x).tolist())
        return [outcome(of.backward, dout, ids, call=call)[1:], outcome(of.backward, dout, call=foreign)[1:]]

    layer, like = pair(kind)
    assert texts(layer, np.array) == texts(like, lambda nested: nested)
    with pytest.raises(TypeError, match=r"call must be what layer\.call returns beside the result, got 5"):
        layer.backward(np.ones((1, 2, D)), call=5)
    if kind != "HashEmbedding":
        (x, call), (_, like_call) = layer.call(np.array([[1, 2]])), like.call([[1, 2]])
        layer.resize(V + 1)
        like.resize(V + 1)
        after = outcome(layer.backward, x, call=call), outcome(like.backward, x.tolist(), call=like_call)
        assert (
            after[0] == after[1] == ("raised", ValueError, "call must be a call of this layer, and the layer not resized since")
        )
    assert not any(len(grad) for grad in layer.grads().values())


@pytest.mark.parametrize("kind", ["HashEmbedding", "TokenPositionEmbedding"])
def test_ids_say_nothing_of_a_dropout_mask(kind):
    layer, like = pair(kind, **DROPOUT)
    dout = np.ones((2, D))
    of_layer, of_like = outcome(layer.backward, dout, ids=[1, 2]), outcome(like.backward, dout.tolist(), ids=[1, 2])
    assert of_layer == of_like
    assert of_layer[1] is ValueError
    assert of_layer[2].startswith("ids do not say which dropout mask their call had: give call=, of layer.call")
    assert outcome(layer.backward, dout) == outcome(like.backward, dout.tolist())  # no call yet
    for of in (layer, like):
        of.eval()
    layer.backward(dout, ids=[1, 2])
    like.backward(dout.tolist(), ids=[1, 2])
    same_grads(layer, like)
    assert sum(grad.rows.sum() for grad in layer.grads().values()) == 2 * D * (4 if kind == "HashEmbedding" else 2)
