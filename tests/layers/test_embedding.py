"""Options of Embedding: every combination against the reference to the bit, and against PyTorch."""

import math

import numpy as np
import pytest
from common import DTYPES, examples, same_bits
from hypothesis import given
from hypothesis import strategies as st

import fastembed as fe
from fastembed import reference

pytestmark = pytest.mark.on_reference

OPTIONS = st.fixed_dictionaries(
    {
        "padding_idx": st.sampled_from([None, 0, 3, -1, -7]),
        "max_norm": st.sampled_from([None, 0.0, 0.7, 2.5, 1e9]),
        "max_norm_in_place": st.booleans(),
        "norm_type": st.sampled_from([2.0, 1.0, math.inf, 3.0, 0.5]),
        "scale_grad_by_freq": st.booleans(),
    }
)

SHAPES = ((), (4,), (2, 9), (0,))

STEPS = (None, lambda layer, optim: optim.Adam(layer, lr=0.1, weight_decay=0.01), lambda layer, optim: optim.SGD(layer, lr=0.1))


@pytest.mark.parametrize("dtype", DTYPES)
@examples(60)
@given(
    options=OPTIONS, seed=st.integers(0, 2**32 - 1), shape=st.sampled_from([(), (4,), (2, 9), (0,)]), how=st.sampled_from(STEPS)
)
def test_every_combination_is_the_reference(dtype, options, seed, shape, how):
    rng = np.random.default_rng(seed)
    table = rng.standard_normal((7, 19)).astype(dtype)
    layer = fe.Embedding.from_pretrained(table.copy(), **options)
    like = reference.Embedding.from_pretrained(table.tolist(), dtype=dtype, **options)
    optimizer, like_optimizer = (None, None) if how is None else (how(layer, fe.optim), how(like, reference.optim))
    for _ in range(3):
        ids = np.asarray(rng.integers(0, 7, shape))
        dout = rng.standard_normal((*shape, 19)).astype(dtype)
        assert same_bits(layer(ids), np.array(like(ids.tolist()), dtype).reshape(dout.shape))
        layer.backward(dout, optimizer=optimizer)
        like.backward(dout.tolist(), optimizer=like_optimizer)
        grad, expected = layer.grads()["weight"], like.grads()["weight"]
        assert grad.ids.tolist() == expected.ids
        assert same_bits(grad.rows, np.array(expected.rows, dtype).reshape(-1, 19))
    assert same_bits(layer.weight, np.array(like.weight, dtype))


@examples(60)
@given(options=OPTIONS, seed=st.integers(0, 2**32 - 1))
def test_pytorch_agrees(options, seed):
    torch = pytest.importorskip("torch")
    in_place = options.pop("max_norm_in_place")
    rng = np.random.default_rng(seed)
    table, ids = rng.standard_normal((7, 5)), rng.integers(0, 7, (3, 4))
    dout = rng.standard_normal((3, 4, 5))
    layer = fe.Embedding.from_pretrained(table.copy(), max_norm_in_place=in_place, **options)
    other = torch.nn.Embedding.from_pretrained(torch.tensor(table), freeze=False, **options)
    expected = other(torch.from_numpy(ids))
    assert np.allclose(layer(ids), expected.detach().numpy(), rtol=1e-12, atol=0)
    expected.backward(torch.from_numpy(dout))
    layer.backward(dout)
    assert np.allclose(layer.dense_grads()["weight"], other.weight.grad.numpy(), rtol=1e-12, atol=1e-15)
    if in_place:
        assert np.allclose(layer.weight, other.weight.detach().numpy(), rtol=1e-12, atol=0)
    else:
        assert same_bits(layer.weight, table)


def test_a_new_table_has_zeros_at_the_padding_row():
    for index in (0, 4, -1):
        layer = fe.Embedding(5, 3, padding_idx=index, rng=0)
        assert layer.padding_idx == index % 5
        assert not layer.weight[index].any()
        assert layer.weight[np.arange(5) != index % 5].all()
        layer.weight[index] = 7  # a forward gives the row as it is
        assert (layer([index % 5]) == 7).all()
    kept = fe.Embedding.from_pretrained(np.ones((3, 2)), padding_idx=1)
    assert kept.weight[1].all()


def test_one_gradient_for_each_row_however_often_it_occurs():
    layer = fe.Embedding.from_pretrained(np.zeros((4, 1)), scale_grad_by_freq=True, padding_idx=0)
    layer.backward(np.array([[6.0], [3.0], [2.0], [1.0], [5.0]]), [1, 1, 1, 3, 0])
    assert layer.dense_grads()["weight"].ravel().tolist() == [0.0, 2.0 + 1.0 + 2.0 / 3.0, 0.0, 1.0]


def test_long_rows_are_shortened_before_they_are_read():
    table = np.array([[3.0, 4.0], [0.3, 0.4], [6.0, 8.0]])
    layer = fe.Embedding.from_pretrained(table, max_norm=1.0)
    assert np.allclose(layer([0, 1, 0]), [[0.6, 0.8], [0.3, 0.4], [0.6, 0.8]])
    assert np.allclose(layer.weight, [[0.6, 0.8], [0.3, 0.4], [6.0, 8.0]])
    assert layer.weight is table
    assert layer(0).shape == (2,)  # a call with nothing but an int is no exception
    pure = fe.Embedding.from_pretrained(np.array([[3.0, 4.0]]), max_norm=1.0, max_norm_in_place=False)
    assert np.allclose(pure(0), [0.6, 0.8])
    assert pure.weight.tolist() == [[3.0, 4.0]]


def test_a_bad_call_shortens_nothing():
    layer = fe.Embedding.from_pretrained(np.array([[3.0, 4.0], [1.0, 1.0]]), max_norm=1.0)
    for ids, out in (([0, 2], None), ([0.5], None), ([0], np.empty((2, 2))), ([0], layer.weight[:1]), ([True], None)):
        with pytest.raises((IndexError, TypeError, ValueError)):
            layer(ids, out=out)
    assert layer.weight.tolist() == [[3.0, 4.0], [1.0, 1.0]]
    frozen = np.ones((2, 2))
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        fe.Embedding.from_pretrained(frozen, max_norm=1.0)


def test_rows_without_columns():
    """Some of the ids have no gradient, and no row has an element."""
    layer, bag = fe.Embedding(5, 0, padding_idx=1), fe.EmbeddingBag(5, 0, padding_idx=1)
    layer.backward(np.zeros((4, 0)), [3, 1, 0, 3])
    bag.backward(np.zeros((2, 0)), [3, 1, 0, 3], [0, 2])
    for one in (layer, bag):
        assert one.grads()["weight"].ids.tolist() == [0, 3]
    pair = fe.TokenPositionEmbedding(5, 4, 0)
    pair.backward(np.zeros((1, 3, 0)), [[4, 0, 4]], mask=[False, True, True])
    assert pair.grads()["wpe"].ids.tolist() == [1, 2]


def test_invalid_options():
    for options, error in (
        ({"padding_idx": 5}, ValueError),
        ({"padding_idx": -6}, ValueError),
        ({"padding_idx": 1.0}, TypeError),
        ({"padding_idx": True}, TypeError),
        ({"max_norm": -1}, ValueError),
        ({"max_norm": math.nan}, ValueError),
        ({"norm_type": 0}, ValueError),
        ({"norm_type": "2"}, TypeError),
        ({"scale_grad_by_freq": 1}, TypeError),
        ({"max_norm_in_place": None}, TypeError),
    ):
        with pytest.raises(error, match=next(iter(options))):
            fe.Embedding(5, 2, **options)
        with pytest.raises(error, match=next(iter(options))):
            fe.Embedding.from_pretrained(np.ones((5, 2)), **options)
    with pytest.raises(TypeError):
        fe.Embedding.from_pretrained(np.ones((5, 2)), sparse=True)
    layer = fe.Embedding(5, 2, padding_idx=-1, max_norm=1.5, norm_type=1, scale_grad_by_freq=True)
    assert repr(layer) == "Embedding(5, 2, dtype=float32, padding_idx=4, max_norm=1.5, norm_type=1.0, scale_grad_by_freq=True)"
    with pytest.raises(ValueError, match="n must be above padding_idx"):
        layer.resize(4)
    layer.resize(6)
    assert layer.padding_idx == 4
