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


def _keeping(kept):
    """Programs that hold the memory of the gradient of the rows that they look up."""
    flat = lambda rows: rows.reshape(-1, 2)  # noqa: E731
    hooked = lambda rows, hook: (rows.register_hook(hook), rows)[1]  # noqa: E731
    return {
        "nothing": flat,
        "a hook keeps a tensor": lambda rows: hooked(flat(rows), kept.append),
        "a hook keeps another tensor of its memory": lambda rows: hooked(flat(rows), lambda grad: kept.append(grad.detach())),
        "a hook keeps an array": lambda rows: hooked(flat(rows), lambda grad: kept.append(torch.from_numpy(grad.numpy()))),
        "the gradient is retained": lambda rows: (flat(rows), rows.retain_grad(), kept.append(rows))[0],
    }


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("how", list(_keeping([])))
def test_a_gradient_that_a_program_keeps_may_be_overwritten_before_the_step(how, large, monkeypatch):
    if large:
        monkeypatch.setattr(ft.eager, "_LARGE", 1)
    kept = []
    layer = ft.Embedding.from_pretrained(torch.zeros(5, 2), freeze=False)
    opt = ft.optim.SGD(layer.parameters(), lr=1.0)
    rows = _keeping(kept)[how](layer(torch.tensor([[1, 3], [1, 0]])))
    (rows @ torch.ones(2, 3)).sum().backward()
    for tensor in kept:
        (tensor.grad if tensor.requires_grad else tensor).fill_(7)
    opt.step()
    assert layer.weight.tolist() == [[-3, -3], [-6, -6], [0, 0], [-3, -3], [0, 0]]


@pytest.mark.parametrize("reshaped", [False, True])
def test_a_gradient_that_nobody_else_holds_is_not_copied(reshaped):
    layer = ft.Embedding.from_pretrained(torch.zeros(5, 2), freeze=False)
    opt = ft.optim.SGD(layer.parameters(), lr=1.0)
    places = []
    rows = layer(torch.tensor([[1, 3], [1, 0]]))
    rows = rows.reshape(-1, 2) if reshaped else rows
    rows.register_hook(lambda grad: places.append(grad.data_ptr()))
    (rows @ torch.ones(2, 3)).sum().backward()
    assert [layer._parameters["weight"].grad._values().data_ptr()] == places
    assert opt is not None  # it has the rows as long as it lives


def test_large_gradients_that_are_no_rows_in_memory_are_summed(monkeypatch):
    """The gradient of a sum over axes is one row, said to be many."""
    monkeypatch.setattr(ft.eager, "_LARGE", 1)
    layer = ft.Embedding.from_pretrained(torch.zeros(5, 2), freeze=False)
    opt = ft.optim.SGD(layer.parameters(), lr=1.0)
    layer(torch.tensor([[1, 3], [1, 0]])).sum((0, 1)).backward(torch.tensor([2.0, 3.0]))
    assert layer.weight.grad._indices().tolist() == [[0, 1, 3]]
    opt.step()
    assert layer.weight.tolist() == [[-2, -3], [-4, -6], [0, 0], [-2, -3], [0, 0]]
