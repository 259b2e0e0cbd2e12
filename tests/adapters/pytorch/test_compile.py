"""torch.compile: one graph, no copy of a table; what torch.library asks of an operator."""

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from torch import nn  # noqa: E402

import fastembed.adapters.torch as ft  # noqa: E402
from fastembed.adapters.torch import ops, tables  # noqa: E402

IDS = torch.tensor([[1, 5, 2, 2], [0, 5, 5, 3]])
OFFSETS = torch.tensor([0, 0, 3])


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch.compiler.reset()


def train(layer, function, *arguments):
    layer.weight.grad = None
    result = function(*arguments)
    result.square().sum().backward()
    return result.detach(), layer.weight.grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("options", [{}, {"padding_idx": 2}, {"scale_grad_by_freq": True}])
def test_a_look_up_is_one_graph(dtype, options):
    layer = ft.Embedding(7, 5, dtype=dtype, **options)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(train(layer, compiled, IDS), train(layer, layer, IDS))


@pytest.mark.parametrize("options", [{}, {"mode": "sum", "padding_idx": 5}, {"mode": "max"}, {"include_last_offset": True}])
def test_bags_are_one_graph(options):
    layer = ft.EmbeddingBag(7, 5, **options)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    for arguments in ((IDS,), (IDS.reshape(-1), OFFSETS)):
        torch.testing.assert_close(train(layer, compiled, *arguments), train(layer, layer, *arguments))


def test_weights_of_bags_in_a_graph():
    layer = ft.EmbeddingBag(7, 5, mode="sum")
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    grads = []
    for function in (layer, compiled):
        weights = torch.linspace(-1, 1, 8).reshape(2, 4).requires_grad_()
        function(IDS, None, weights).square().sum().backward()
        grads.append(weights.grad)
    torch.testing.assert_close(*grads)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_an_operator_reads_the_table_itself(monkeypatch):
    """Through inductor's code too: the memory is the parameter's, nothing of its size is made."""
    layer = ft.Embedding(1000, 8)
    seen = []
    look_up = ops.look_up

    def looking(weight, ids):
        seen.append(weight.data_ptr())
        return look_up(weight, ids)

    monkeypatch.setattr(ops, "look_up", looking)
    compiled = torch.compile(nn.Sequential(layer, nn.Tanh()), fullgraph=True)
    with torch.no_grad():
        compiled(IDS)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
            result = compiled(IDS)
    torch.testing.assert_close(result, layer(IDS).tanh())
    compiled(IDS).sum().backward()
    assert seen == [layer.weight.data_ptr()] * 3 + seen[3:]
    most = max(event.self_cpu_memory_usage for event in profile.key_averages())
    assert most < layer.weight.nbytes // 4


def test_a_tied_head_is_in_the_graph_too():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens = ft.Embedding(7, 5)

        def forward(self, ids):
            return self.tokens(ids).tanh() @ self.tokens.weight.t()

    model = Tied()
    tables.table_of(model.tokens.weight)
    tables.own_rows(model.tokens.weight, model)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    grads = []
    for function in (model, compiled):
        function(IDS).square().sum().backward()
        grads.append(model.tokens.weight.grad)
        model.tokens.weight.grad = None
    torch.testing.assert_close(*grads)


def test_shapes_that_vary():
    layer = ft.Embedding(7, 5)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True, dynamic=True)
    for n in (3, 4, 6):
        ids = torch.arange(n)
        assert torch.equal(compiled(ids), layer(ids))


def test_what_has_no_operator_is_pytorchs():
    for layer in (ft.Embedding(7, 5, max_norm=1.0), ft.EmbeddingBag(7, 5, max_norm=1.0)):
        compiled = torch.compile(layer, backend="aot_eager")
        assert torch.equal(compiled(IDS), layer(IDS))


def test_an_exported_program_is_the_layer():
    layer = ft.Embedding(7, 5)
    program = torch.export.export(layer, (IDS,))
    assert torch.equal(program.module()(IDS), layer(IDS))


WEIGHT = torch.randn(7, 5, dtype=torch.float64)


@pytest.mark.parametrize("ids", [IDS, IDS[0].int(), torch.tensor(3)])
@pytest.mark.parametrize("padding_idx", [-1, 2])
@pytest.mark.parametrize("by_frequency", [False, True])
def test_the_operators_of_look_ups(ids, padding_idx, by_frequency):
    operators = torch.ops.fastembed
    weight = WEIGHT.clone().requires_grad_()
    torch.library.opcheck(operators.embedding.default, (weight, ids, padding_idx, by_frequency))
    dout = torch.randn(*ids.shape, 5)
    torch.library.opcheck(operators.embedding_backward.default, (dout, ids, 7, padding_idx, by_frequency))


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("arguments", [(IDS, None), (IDS.reshape(-1), OFFSETS)])
def test_the_operators_of_bags(mode, arguments):
    operators = torch.ops.fastembed
    weights = torch.rand(arguments[0].shape, dtype=torch.float64).requires_grad_() if mode == "sum" else None
    weight = WEIGHT.clone().requires_grad_()
    torch.library.opcheck(operators.embedding_bag.default, (weight, *arguments, weights, mode, False, -1, False))
    n_bags = 2 if arguments[1] is None else 3
    torch.library.opcheck(
        operators.embedding_bag_backward.default,
        (torch.randn(n_bags, 5, dtype=torch.float64), WEIGHT, *arguments, weights, mode, False, -1, False),
        test_utils=("test_schema", "test_faketensor"),
    )
