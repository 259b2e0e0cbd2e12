"""Clipping over several items: layers and dense arrays, PyTorch's norm, infinite norms."""

import re

import numpy as np
import pytest
from common import lists, same_bits
from row_grads import assert_equal

import fastembed as fe
from fastembed import reference

pytestmark = pytest.mark.on_reference


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
    """An error that leaves gradients as they are; or, on request, what PyTorch makes of it."""
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


def test_an_item_that_is_there_twice_counts_once():
    layer, parameter = fe.Embedding(3, 2, dtype="float64", rng=0), fe.Parameter(np.zeros(2))
    like, like_parameter = reference.Embedding.from_pretrained(layer.weight.tolist()), reference.Parameter([0.0, 0.0])
    for one, other in ((layer, parameter), (like, like_parameter)):
        one.backward([[3.0, 0.0]], [1])
        other.grad = np.array([0.0, 4.0]) if other is parameter else [0.0, 4.0]
    factor = 1 / (5 + 1e-6)
    assert fe.optim.clip_grad_norm([layer, parameter, layer, parameter], 1.0) == 5
    assert reference.optim.clip_grad_norm([like, like_parameter, like, like_parameter], 1.0) == 5
    assert layer.grads()["weight"].rows.tolist() == like.grads()["weight"].rows == [[3 * factor, 0.0]]
    assert parameter.grad.tolist() == like_parameter.grad == [0.0, 4 * factor]


def test_bad_limits():
    layer = fe.Embedding(3, 2, rng=0)
    grad = layer.grads()["weight"]
    for call in (grad.clip_, grad.clip_value_, lambda limit: fe.optim.clip_grad_norm([layer], limit)):
        for bad, error in ((-1.0, ValueError), (float("nan"), ValueError), ("1", TypeError), (None, TypeError)):
            with pytest.raises(error, match=r"max_norm|limit"):
                call(bad)
    with pytest.raises(TypeError, match="item 1 must be a layer or a Parameter, got ndarray"):
        fe.optim.clip_grad_norm([layer, np.zeros(3)], 1.0)
