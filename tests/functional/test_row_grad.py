"""RowGrad: the reference's sums, norms and clipping; accumulation; COO triples; invalid parts."""

import math

import numpy as np
import pytest
from common import DTYPES, examples, same_bits
from hypothesis import given
from hypothesis import strategies as st
from row_grads import assert_equal, pair_of

import fastembed as fe
from fastembed import reference

pytestmark = pytest.mark.on_reference


@examples(40)
@given(st.sampled_from(DTYPES), st.integers(0, 10**6), st.sampled_from([1, 15, 16, 33]), st.sampled_from([0.0, 1e-3, 0.7, 1e9]))
def test_the_reference_to_the_bit(dtype, seed, width, number):
    rng = np.random.default_rng(seed)
    grad, like = pair_of(rng, dtype, width=width)
    other, other_like = pair_of(rng, dtype, width=width)
    assert_equal(grad + other, like + other_like, dtype)
    assert_equal(grad.scale(number), like.scale(number), dtype)
    assert grad.norm() == like.norm()
    assert grad.clip_(number) == like.clip_(number)
    assert_equal(grad, like, dtype)
    other.clip_value_(number)
    other_like.clip_value_(number)
    assert_equal(other, other_like, dtype)
    assert same_bits(other.to_dense(), np.array(other_like.to_dense(9), dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_several_passes_are_one_pass_over_all(dtype):
    """A later backward goes on from the sums that are there, in the order of the ids."""
    rng = np.random.default_rng(0)
    ids, dout = rng.integers(0, 6, 40), rng.standard_normal((40, 5)).astype(dtype)
    once, often = fe.Embedding(6, 5, dtype=dtype, rng=0), fe.Embedding(6, 5, dtype=dtype, rng=0)
    once.backward(dout, ids)
    for part in np.split(np.arange(40), [3, 4, 20]):
        often.backward(dout[part], ids[part])
    one, other = once.grads()["weight"], often.grads()["weight"]
    assert one.ids.tolist() == other.ids.tolist()
    assert same_bits(one.rows, other.rows)
    expected = np.zeros((6, 5), dtype)
    np.add.at(expected, ids, dout)
    assert same_bits(one.to_dense(), expected)


def test_accumulation_stays_sparse():
    layer = fe.Embedding(10**6, 8, rng=0)
    for first in range(0, 100, 10):
        layer.backward(np.ones((10, 8), np.float32), np.arange(first, first + 10) * 9973)
    grad = layer.grads()["weight"]
    assert len(grad) == 100
    assert grad.rows.shape == (100, 8)


def test_row_gradients_add_up():
    layer = fe.Embedding(9, 2, dtype="float64", rng=0)
    rng = np.random.default_rng(5)
    ids = rng.integers(0, 9, (2, 20))
    dout = rng.standard_normal((2, 20, 2))
    layer.backward(dout[0], ids[0])
    first = layer.grads()["weight"]
    layer.zero_grad()
    layer.backward(dout[1], ids[1])
    second = layer.grads()["weight"]
    total = first + second
    assert total.ids.dtype == np.int64
    assert total.ids.tolist() == sorted(set(ids.ravel().tolist()))
    assert np.allclose(total.to_dense(), first.to_dense() + second.to_dense(), rtol=0, atol=0)
    assert total.shape == (9, 2)
    assert len(first) == len(set(ids[0].tolist()))
    with pytest.raises(ValueError, match="gradients must be of one table"):
        first + fe.Embedding(8, 2, dtype="float64", rng=0).grads()["weight"]
    with pytest.raises(TypeError):
        first + 1


def test_norms_beyond_all_numbers_are_infinite():
    layer = fe.Embedding(2, 3, dtype="float64", rng=0)
    layer.backward(np.full((1, 3), 1e200), [1])
    assert layer.grads()["weight"].norm() == math.inf
    table, options = np.full((2, 3), 1e300), {"max_norm": 1.0, "norm_type": 0.01}
    like = reference.Embedding.from_pretrained(table.tolist(), dtype="float64", **options)
    assert fe.Embedding.from_pretrained(table, **options)([0]).tolist() == like([0]) == [[0.0] * 3]


@pytest.mark.parametrize("dtype", DTYPES)
def test_coo_triples(dtype):
    rng = np.random.default_rng(1)
    rows, cols, data = rng.integers(0, 7, 60), rng.integers(0, 4, 60), rng.standard_normal(60).astype(dtype)
    grad = fe.RowGrad.from_coo(data, (rows, cols), (7, 4))
    like = reference.RowGrad.from_coo(data.tolist(), (rows.tolist(), cols.tolist()), 4, dtype=dtype)
    assert_equal(grad, like, dtype)
    expected = np.zeros((7, 4), dtype)
    np.add.at(expected, (rows, cols), data)
    assert same_bits(grad.to_dense(), expected)
    values, (row, col) = grad.to_coo()
    again = fe.RowGrad.from_coo(values, (row, col), grad.shape)
    assert again.ids.tolist() == grad.ids.tolist()
    assert same_bits(again.rows, grad.rows)


def test_coo_of_scipy():
    sparse = pytest.importorskip("scipy.sparse")
    grad, _ = pair_of(np.random.default_rng(3), "float64")
    data, places = grad.to_coo()
    assert np.array_equal(sparse.coo_matrix((data, places), shape=grad.shape).toarray(), grad.to_dense())


@pytest.mark.parametrize(
    ("error", "text", "arguments"),
    [
        (IndexError, r"row 7 at position \(1,\)", ([1.0, 2.0], ([0, 7], [0, 0]), (7, 2))),
        (IndexError, r"column -1 at position \(0,\)", ([1.0], ([0], [-1]), (7, 2))),
        (ValueError, "one length", ([1.0], ([0, 1], [0, 1]), (7, 2))),
        (TypeError, "data must be float32 or float64", ([1], ([0], [1]), (7, 2))),
        (TypeError, "integers", ([1.0], ([0.5], [1]), (7, 2))),
        (ValueError, r"shape\[0\]", ([1.0], ([0], [1]), (-7, 2))),
        (ValueError, "two lengths", ([1.0], ([0], [1]), (7,))),
        (TypeError, "row_col", ([1.0], ([0],), (7, 2))),
    ],
)
def test_bad_triples(error, text, arguments):
    with pytest.raises(error, match=text):
        fe.RowGrad.from_coo(*arguments)


def test_invalid_attributes_are_refused_by_a_step():
    layer = fe.Embedding(5, 2, dtype="float64", rng=0)
    opt = fe.optim.Adam(layer)
    before = layer.weight.copy()
    for ids, rows in (([3, 1], np.ones((2, 2))), ([1, 5], np.ones((2, 2))), ([-1, 1], np.ones((2, 2))), ([1], np.ones((2, 2)))):
        layer.backward(np.ones((1, 2)), [0])
        layer.grads()["weight"].ids, layer.grads()["weight"].rows = np.array(ids), rows
        with pytest.raises(ValueError, match="gradient"):
            opt.step()
        layer.zero_grad()
    assert same_bits(layer.weight, before)
    assert opt.state_dict()["items"][0]["step"] == 0


INVALID_PARTS = [
    (ValueError, "sorted, distinct", [3, 1], np.ones((2, 2)), (5, 2)),
    (ValueError, "sorted, distinct", [1, 1], np.ones((2, 2)), (5, 2)),
    (ValueError, "within the 5 rows", [1, 5], np.ones((2, 2)), (5, 2)),
    (ValueError, "within the 5 rows", [-1, 1], np.ones((2, 2)), (5, 2)),
    (ValueError, "integers of 1 axis", [0.5, 1.5], np.ones((2, 2)), (5, 2)),
    (ValueError, "integers of 1 axis", [[0], [1]], np.ones((2, 2)), (5, 2)),
    (ValueError, r"shape \(1, 2\), got \(2, 2\)", [1], np.ones((2, 2)), (5, 2)),
    (ValueError, r"shape \(2, 3\), got \(2, 2\)", [0, 1], np.ones((2, 2)), (5, 3)),
    (TypeError, "float32 or float64, got int64", [0, 1], np.ones((2, 2), int), (5, 2)),
    (ValueError, "two lengths", [0, 1], np.ones((2, 2)), (5,)),
]


@pytest.mark.parametrize(("error", "text", "ids", "rows", "shape"), INVALID_PARTS)
def test_invalid_parts_are_refused(error, text, ids, rows, shape):
    with pytest.raises(error, match=text):
        fe.RowGrad(ids, rows, shape)


@pytest.mark.parametrize(("error", "text", "ids", "rows", "shape"), INVALID_PARTS[:-2])
def test_invalid_attributes_are_refused_by_every_method(error, text, ids, rows, shape):
    """A sum of rows that are out of order was once written outside its array."""
    layer = fe.Embedding(*shape, dtype="float64", rng=0)
    layer.backward(np.ones((1, shape[1])), [0])
    grad, none = layer.grads()["weight"], fe.RowGrad.zeros(shape, np.float64)
    grad.ids, grad.rows = np.array(ids), rows
    for call in (
        lambda: none + grad,
        lambda: grad + none,
        lambda: grad.scale(2.0),
        grad.norm,
        grad.to_dense,
        grad.to_coo,
        lambda: grad.clip_(1.0),
        lambda: grad.clip_value_(1.0),
        lambda: fe.optim.clip_grad_norm(layer, 1.0),
        lambda: layer.backward(np.ones((1, shape[1])), [0]),
        lambda: layer.resize(2),
    ):
        with pytest.raises(error, match=text):
            call()
    assert layer.num_embeddings == 5


def test_a_gradient_of_ones_own_making():
    layer = fe.Embedding(5, 2, dtype="float64", rng=0)
    layer.backward(np.ones((1, 2)), [3])
    total = layer.grads()["weight"] + fe.RowGrad([1, 3], [[1.0, 2.0], [3.0, 4.0]], (5, 2))
    assert total.ids.tolist() == [1, 3]
    assert total.rows.tolist() == [[1.0, 2.0], [4.0, 5.0]]
    for bad, error in ((float("nan"), ValueError), ("2", TypeError), (None, TypeError)):
        with pytest.raises(error, match="factor"):
            total.scale(bad)
