"""Whatever has a part in the call of a module has it in that of a layer too."""

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from torch import nn  # noqa: E402
from torch.nn.modules import module as of_all_modules  # noqa: E402

import fastembed.adapters.torch as ft  # noqa: E402

IDS = torch.tensor([[1, 5, 2, 2], [0, 5, 5, 3]])
HOOKS = ["forward", "forward_pre", "full_backward", "full_backward_pre", "backward"]
pytestmark = pytest.mark.filterwarnings("ignore:.*ull backward hook")
each_layer = pytest.mark.parametrize("layer_of", [ft.Embedding, ft.EmbeddingBag])


def calls_of(register, layer):
    """The calls of a hook in one forward and backward pass of a layer."""
    seen = []
    handle = register(lambda module, *_: seen.append(module))
    try:
        layer(IDS).sum().backward()
    finally:
        handle.remove()
    return seen


@each_layer
@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_of_the_layer_is_called_once(layer_of, hook):
    layer = layer_of(7, 5)
    assert calls_of(getattr(layer, f"register_{hook}_hook"), layer) == [layer]
    layer(IDS).sum().backward()


@each_layer
@pytest.mark.parametrize("hook", HOOKS[:-1])
def test_a_hook_of_all_modules_is_called_once(layer_of, hook):
    layer = layer_of(7, 5)
    assert calls_of(getattr(of_all_modules, f"register_module_{hook}_hook"), layer) == [layer]


@each_layer
def test_a_hook_gives_another_result(layer_of):
    layer = layer_of(7, 5)
    expected = layer(IDS) * 2
    layer.register_forward_hook(lambda module, arguments, result: result * 2)
    assert torch.equal(layer(IDS), expected)
    layer.register_forward_pre_hook(lambda module, arguments: (arguments[0] + 1,))
    assert torch.equal(layer(IDS - 1), expected)


@each_layer
def test_a_compiled_layer_runs_its_graph(layer_of):
    layer, graphs = layer_of(7, 5), []
    expected = layer(IDS)
    layer.compile(backend=lambda graph, _: (graphs.append(graph), graph.forward)[1])
    assert torch.equal(layer(IDS), expected)
    assert len(graphs) == 1


@each_layer
def test_a_tracer_may_take_a_layer_as_one_node(layer_of):
    class Tracer(torch.fx.Tracer):
        def is_leaf_module(self, module, name):
            return isinstance(module, layer_of)

    nodes = Tracer().trace(nn.Sequential(layer_of(7, 5), nn.Linear(5, 2))).nodes
    assert next(node.target for node in nodes if node.op == "call_module") == "0"


@each_layer
def test_another_forward_is_the_one_that_runs(layer_of):
    class Doubled(layer_of):
        def forward(self, input):
            return 2 * super().forward(input)

    layer = Doubled.from_pretrained(torch.arange(35.0).reshape(7, 5))
    expected = 2 * layer_of.from_pretrained(layer.weight)(IDS)
    assert torch.equal(layer(IDS), expected)
    assert torch.equal(layer(input=IDS), expected)
    doubled = layer.forward
    layer.forward = lambda input: doubled(input) + 1
    assert torch.equal(layer(IDS), expected + 1)


@each_layer
def test_without_an_argument_the_error_is_pythons(layer_of):
    with pytest.raises(TypeError, match=r"forward\(\) missing 1 required positional argument: 'input'"):
        layer_of(7, 5)()
