"""RowGrad: the reference's sums, norms and clipping; accumulation; COO triples; clipping over several items."""

import re

import numpy as np
import pytest
from common import DTYPES, lists, same_bits
from hypothesis import given, settings
from hypothesis import strategies as st

import fastembed as fe
from fastembed import reference


def pair_of(rng, dtype, n_rows=9, width=21):
    """A gradient of a layer, and the reference's."""
    layer = fe.Embedding(n_rows, width, dtype=dtype, rng=0)
    like = reference.Embedding.from_pretrained(layer.weight.tolist(), dtype=dtype)
    for _ in range(3):  # accumulated
        ids = rng.integers(0, n_rows, 4)
        dout = (rng.standard_normal((4, width)) * 10.0 ** rng.integers(-9, 3, (4, 1))).astype(dtype)
        layer.backward(dout, ids)
        like.backward(*lists(dout, ids))
    return layer.grads()["weight"], like.grads()["weight"]


def assert_equal(grad, like, dtype):
    assert grad.ids.tolist() == list(like.ids)
    assert same_bits(grad.rows, np.array(like.rows, dtype).reshape(grad.rows.shape))


@settings(max_examples=40, deadline=None, derandomize=True)
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


def test_attributes_that_are_no_gradient_are_refused_by_a_step():
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


PARTS_THAT_ARE_NO_GRADIENT = [
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


@pytest.mark.parametrize(("error", "text", "ids", "rows", "shape"), PARTS_THAT_ARE_NO_GRADIENT)
def test_parts_that_are_no_gradient_are_refused(error, text, ids, rows, shape):
    with pytest.raises(error, match=text):
        fe.RowGrad(ids, rows, shape)


@pytest.mark.parametrize(("error", "text", "ids", "rows", "shape"), PARTS_THAT_ARE_NO_GRADIENT[:-2])
def test_attributes_that_are_no_gradient_are_refused_by_every_method(error, text, ids, rows, shape):
    """A sum of rows that are out of order was written outside its array once."""
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


# Clipping over several items


def test_clip_grad_norm_over_layers_and_dense_arrays():
    rng = np.random.default_rng(0)
    layers = [fe.Embedding(8, 3, dtype="float64", rng=0), fe.TokenPositionEmbedding(8, 4, 5, dtype="float32", rng=0)]
    likes = [reference.Embedding.from_pretrained(layers[0].weight.tolist())]
    likes.append(reference.TokenPositionEmbedding.from_arrays(*lists(layers[1].wte, layers[1].wpe), dtype="float32"))
    parameter, like_parameter = fe.Parameter(np.zeros((3, 2))), reference.Parameter(np.zeros((3, 2)).tolist())
    for layer, like in zip(layers, likes, strict=True):
        ids = rng.integers(0, 8, (2, 4))
        dout = rng.standard_normal((2, 4, layer.parameters()[0].shape[1])).astype(layer.dtype)
        layer.backward(dout, ids)
        like.backward(*lists(dout, ids))
    parameter.grad = rng.standard_normal((3, 2))
    like_parameter.grad = parameter.grad.tolist()
    arrays = [grad.rows for layer in layers for grad in layer.grads().values()] + [parameter.grad]
    expected = np.sqrt(sum(float((a.astype(np.float64) ** 2).sum()) for a in arrays))
    norm = fe.optim.clip_grad_norm([*layers, parameter], 0.5)
    assert norm == reference.optim.clip_grad_norm([*likes, like_parameter], 0.5)
    assert np.isclose(norm, expected, rtol=1e-14)
    for layer, like in zip(layers, likes, strict=True):
        for name, grad in layer.grads().items():
            assert_equal(grad, like.grads()[name], layer.dtype)
    assert same_bits(parameter.grad, np.array(like_parameter.grad))
    assert fe.optim.clip_grad_norm([*layers, parameter], 0.6) == pytest.approx(0.5, rel=1e-5)  # and nothing was scaled
    assert same_bits(parameter.grad, np.array(like_parameter.grad))


def test_clipping_agrees_with_pytorch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(5)
    layer, parameter = fe.Embedding(8, 3, dtype="float64", rng=0), fe.Parameter(np.zeros(4))
    ids, dout = rng.integers(0, 8, 6), rng.standard_normal((6, 3))
    layer.backward(dout, ids)
    parameter.grad = rng.standard_normal(4)
    theirs = [torch.zeros(8, 3, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)]
    theirs[0].grad = torch.tensor(layer.grads()["weight"].to_dense())
    theirs[1].grad = torch.tensor(parameter.grad)
    norm = torch.nn.utils.clip_grad_norm_(theirs, 1.0)
    assert fe.optim.clip_grad_norm([layer, parameter], 1.0) == pytest.approx(float(norm), rel=1e-14)
    assert np.allclose(layer.grads()["weight"].to_dense(), theirs[0].grad.numpy(), rtol=1e-14)
    assert np.allclose(parameter.grad, theirs[1].grad.numpy(), rtol=1e-14)


NOT_FINITE = [([np.nan, 2.0], "nan"), ([np.inf, 2.0], "inf"), ([-np.inf, np.nan], "nan"), ([1e200, 1e200], "inf")]


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize(("values", "norm"), NOT_FINITE)
def test_a_norm_that_is_not_finite(values, norm):
    """An error, in which nothing is scaled; or what PyTorch makes of it. NaN was passed over without a word."""
    layer, parameter = fe.Embedding(3, 2, dtype="float64", rng=0), fe.Parameter(np.zeros(2))
    like = reference.Embedding.from_pretrained(layer.weight.tolist())
    for _ in range(2):
        layer.zero_grad(), like.zero_grad()
        layer.backward([values], [1])
        like.backward([values], [1])
        parameter.grad = np.array([1.0, 0.0])
        grad, like_grad = layer.grads()["weight"], like.grads()["weight"]
        text = f"gradients whose norm is {norm} cannot be scaled to one of 1.0; error_if_nonfinite=False does it"
        for call in (
            lambda: fe.optim.clip_grad_norm([layer, parameter], 1),
            lambda grad=grad: grad.clip_(1.0),
            lambda: reference.optim.clip_grad_norm([like], 1.0),
            lambda grad=like_grad: grad.clip_(1.0),
        ):
            with pytest.raises(ValueError, match=re.escape(text)):
                call()
        assert np.array_equal(grad.rows, [values], equal_nan=True)
        assert parameter.grad.tolist() == [1.0, 0.0]
    assert str(fe.optim.clip_grad_norm([layer, parameter], 1.0, error_if_nonfinite=False)) == norm
    assert str(reference.optim.clip_grad_norm([like], 1.0, error_if_nonfinite=False)) == norm
    factor = np.float64(1.0) / (np.float64(norm) + 1e-6)
    assert same_bits(grad.rows, np.array([values]) * factor)
    assert same_bits(grad.rows, np.array(like_grad.rows))
    assert same_bits(parameter.grad, np.array([1.0, 0.0]) * factor)
    torch = pytest.importorskip("torch")
    theirs = [torch.zeros(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)]
    theirs[0].grad, theirs[1].grad = torch.tensor(values, dtype=torch.float64), torch.tensor([1.0, 0.0], dtype=torch.float64)
    torch.nn.utils.clip_grad_norm_(theirs, 1.0)
    if values[0] != 1e200:  # of which PyTorch knows the norm
        assert same_bits(grad.rows[0], theirs[0].grad.numpy())
        assert same_bits(parameter.grad, theirs[1].grad.numpy())


def test_bad_limits():
    layer = fe.Embedding(3, 2, rng=0)
    grad = layer.grads()["weight"]
    for call in (grad.clip_, grad.clip_value_, lambda limit: fe.optim.clip_grad_norm([layer], limit)):
        for bad, error in ((-1.0, ValueError), (float("nan"), ValueError), ("1", TypeError), (None, TypeError)):
            with pytest.raises(error, match=r"max_norm|limit"):
                call(bad)
    with pytest.raises(TypeError, match="item 1 must be a layer or a Parameter, got ndarray"):
        fe.optim.clip_grad_norm([layer, np.zeros(3)], 1.0)
