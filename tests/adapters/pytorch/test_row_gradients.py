"""Row-sparse gradients of the layers: whose memory they are, until a step."""

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import fastembed.adapters.torch as ft  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_gradient_is_what_backward_was_given():
    """Also where the caller goes on with that memory before the step."""
    layer = ft.Embedding.from_pretrained(torch.zeros(5, 2), freeze=False)
    opt, given = ft.optim.SGD(layer.parameters(), lr=1.0), torch.ones(2, 2)
    layer(torch.tensor([1, 3])).backward(given)
    given.fill_(7)
    layer(torch.tensor([1])).reshape(2).backward(given.reshape(4)[:2])
    given.zero_()
    opt.step()
    assert layer.weight.tolist() == [[0, 0], [-8, -8], [0, 0], [-1, -1], [0, 0]]


def test_clipping_scales_once_what_two_tables_have_in_common():
    layers = [ft.Embedding(5, 2), ft.Embedding(5, 2)]
    opt = ft.optim.SGD([layer.weight for layer in layers], lr=1.0)
    (layers[0](torch.tensor([0, 2])) + layers[1](torch.tensor([1, 2]))).backward(torch.full((2, 2), 3.0))
    norm = ft.optim.clip_grad_norm_([layer.weight for layer in layers], 1.0)
    assert norm.item() == pytest.approx(72**0.5)
    for group in opt.param_groups:
        for weight in group["params"]:
            assert weight.grad.to_dense().norm().item() == pytest.approx(0.5**0.5, rel=1e-5)
