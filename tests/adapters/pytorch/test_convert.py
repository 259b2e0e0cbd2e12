"""convert and revert: the layers of a model, in place."""

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from torch import nn  # noqa: E402

import fastembed.adapters.torch as ft  # noqa: E402


class Model(nn.Module):
    """Layers of both kinds, one twice, one of a derived class, and a head with the same weight."""

    class Own(nn.Embedding):
        pass

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(11, 4)
        self.same = self.tokens
        self.parts = nn.ModuleList([nn.EmbeddingBag(11, 4, mode="sum"), self.Own(11, 4)])
        self.head = nn.Linear(4, 11, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, ids):
        return self.head(self.tokens(ids) + self.parts[0](ids)[:, None] + self.parts[1](ids))


def test_what_is_no_module_is_refused():
    with pytest.raises(TypeError, match=r"module must be a torch\.nn\.Module, got list"):
        ft.convert([nn.Embedding(2, 2)])


def test_ids_that_are_no_tensor_are_pytorchs_error():
    for sparse in (False, True):
        with pytest.raises(TypeError, match="must be Tensor, not list"):
            ft.Embedding(3, 2, sparse=sparse)([1, 2])


def test_a_converted_model_computes_the_same():
    torch.manual_seed(0)
    model, ids = Model(), torch.randint(0, 11, (3, 6))
    weights = {name: value.data_ptr() for name, value in model.named_parameters()}
    calls = []
    model.tokens.register_forward_hook(lambda *_: calls.append(1))
    before = model(ids)
    before.sum().backward()
    grad = model.tokens.weight.grad.clone()
    assert ft.convert(model) is model
    assert type(model.tokens) is ft.Embedding
    assert model.same is model.tokens
    assert type(model.parts[0]) is ft.EmbeddingBag
    assert type(model.parts[1]) is Model.Own
    assert model.head.weight is model.tokens.weight
    assert {name: value.data_ptr() for name, value in model.named_parameters()} == weights
    model.zero_grad()
    after = model(ids)
    after.sum().backward()
    torch.testing.assert_close(after, before)
    torch.testing.assert_close(model.tokens.weight.grad, grad)
    assert calls == [1, 1]
    ft.revert(model)
    assert type(model.tokens) is nn.Embedding
    assert type(model.parts[0]) is nn.EmbeddingBag
    torch.testing.assert_close(model(ids), before)


def test_a_layer_by_itself_is_converted():
    layer = ft.convert(nn.Embedding(3, 2))
    assert type(layer) is ft.Embedding
    assert type(ft.revert(layer)) is nn.Embedding


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_reverted_model_can_be_scripted():
    model = nn.Sequential(ft.Embedding(3, 2))
    scripted = torch.jit.script(ft.revert(model))
    assert torch.equal(scripted(torch.tensor([1])), model(torch.tensor([1])))
