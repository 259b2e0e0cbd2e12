"""Embedding and EmbeddingBag against torch.nn's: results, gradients, state, errors."""

import copy
import io
import pickle

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

import fastembed.adapters.torch as ft  # noqa: E402

pytestmark = pytest.mark.usefixtures("every_size")

IDS = torch.tensor([[1, 5, 2, 2], [0, 5, 5, 3]])


def pair(ours=ft.Embedding, theirs=nn.Embedding, **options):
    """A layer and PyTorch's with the same weight."""
    theirs = theirs(7, 5, **options)
    ours = ours(7, 5, **options)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def outcome(layer, *arguments):
    layer.weight.grad = None
    result = layer(*arguments)
    result.backward(torch.arange(result.numel(), dtype=result.dtype).reshape(result.shape))
    return result.detach(), layer.weight.grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    "options", [{}, {"padding_idx": 2}, {"padding_idx": -2}, {"sparse": True}, {"scale_grad_by_freq": True}, {"max_norm": 1.0}]
)
def test_a_look_up_and_its_gradient(dtype, options):
    ours, theirs = pair(dtype=dtype, **options)
    (result, grad), (expected, expected_grad) = outcome(ours, IDS), outcome(theirs, IDS)
    assert torch.equal(result, expected)
    assert torch.equal(ours.weight, theirs.weight)
    assert grad.is_sparse == expected_grad.is_sparse
    torch.testing.assert_close(grad.to_dense(), expected_grad.to_dense())
    assert repr(ours) == repr(theirs)


@pytest.mark.parametrize("options", [{}, {"mode": "sum"}, {"mode": "max"}, {"padding_idx": 5}, {"sparse": True}])
def test_bags_and_their_gradient(options):
    ours, theirs = pair(ft.EmbeddingBag, nn.EmbeddingBag, **options)
    for arguments in ((IDS,), (IDS.reshape(-1), torch.tensor([0, 0, 3]))):
        (result, grad), (expected, expected_grad) = outcome(ours, *arguments), outcome(theirs, *arguments)
        torch.testing.assert_close(result, expected)
        torch.testing.assert_close(grad.to_dense(), expected_grad.to_dense())


def test_weights_of_bags_have_a_gradient():
    ours, theirs = pair(ft.EmbeddingBag, nn.EmbeddingBag, mode="sum", include_last_offset=True)
    found = []
    for layer in (ours, theirs):
        weights = torch.linspace(-1, 1, 8).requires_grad_()
        layer(IDS.reshape(-1), torch.tensor([0, 5, 8]), weights).square().sum().backward()
        found.append((weights.grad, layer.weight.grad))
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.complex64, torch.bool, torch.uint8])
def test_tables_that_fastembed_does_not_have(dtype):
    table = torch.arange(14).reshape(7, 2).to(dtype)
    layer = ft.Embedding.from_pretrained(table)
    assert torch.equal(layer(IDS), table[IDS])


def test_any_layout_of_ids_and_gradients():
    ours, theirs = pair()
    for ids in (IDS.t(), IDS[:, ::2], IDS[0, 0], IDS.int(), IDS[:0], torch.tensor(3).expand(4, 3)):
        for layer in (ours, theirs):
            layer.weight.grad = None
            layer(ids).sum().backward()
        assert torch.equal(ours(ids), theirs(ids))
        assert torch.equal(ours.weight.grad, theirs.weight.grad)


@pytest.mark.parametrize("options", [{}, {"padding_idx": 2}, {"sparse": True, "padding_idx": 0}])
def test_small_integers_are_ids_too(options):
    layer = ft.Embedding(7, 5, **options)
    result, grad = outcome(layer, IDS)
    for dtype in (torch.uint8, torch.int8, torch.int16):
        small_result, small_grad = outcome(layer, IDS.to(dtype))
        assert torch.equal(small_result, result)
        assert torch.equal(small_grad.to_dense(), grad.to_dense())


@pytest.mark.parametrize("bad", [7, -1, 2**62, -(2**63)])
@pytest.mark.parametrize("options", [{}, {"max_norm": 0.1}, {"padding_idx": 1}, {"sparse": True}])
def test_an_id_out_of_range_is_named_and_nothing_changed(bad, options):
    layer = ft.Embedding(7, 5, **options)
    before = layer.weight.detach().clone()
    ids = torch.tensor([[0, 1], [2, bad]])
    with pytest.raises(IndexError, match=rf"id {bad} at position \(1, 1\) is out of range for a table of 7 rows"):
        layer(ids)
    with pytest.raises(IndexError, match=rf"id {bad} at position \(1, 1\)"), torch.no_grad():
        layer(ids)
    with pytest.raises(IndexError, match=rf"id {bad} at position \(1, 1\)"):
        ft.functional.embedding_bag(ids, layer.weight)
    assert torch.equal(layer.weight, before)


def test_offsets_that_are_none_are_an_error():
    bag = ft.EmbeddingBag(7, 5)
    for offsets in ([0, 3, 2], [1, 2], [0, 9], [0, -1]):
        with pytest.raises(ValueError, match="offset"):
            bag(IDS.reshape(-1), torch.tensor(offsets))


def test_what_pytorch_refuses_is_refused_alike():
    bag = ft.EmbeddingBag(7, 5)
    cases = [
        lambda f: f.embedding(IDS.float(), bag.weight),
        lambda f: f.embedding(IDS, bag.weight, padding_idx=7),
        lambda f: f.embedding_bag(IDS, bag.weight, torch.tensor([0])),
        lambda f: f.embedding_bag(IDS[0], bag.weight),
        lambda f: f.embedding_bag(IDS, bag.weight, mode="median"),
        lambda f: f.embedding_bag(IDS, bag.weight, mode="max", sparse=True),
        lambda f: f.embedding_bag(IDS, bag.weight, mode="mean", per_sample_weights=torch.ones(2, 4)),
        lambda f: f.embedding_bag(IDS, bag.weight, mode="sum", per_sample_weights=torch.ones(2, 3)),
    ]
    for case in cases:
        with pytest.raises(Exception) as theirs:  # noqa: PT011
            case(F)
        with pytest.raises(type(theirs.value)) as ours:
            case(ft.functional)
        assert str(ours.value) == str(theirs.value)


def test_copies_share_nothing():
    layer = ft.Embedding(7, 5, padding_idx=1)
    stored = io.BytesIO()
    torch.save(layer.state_dict(), stored)
    stored.seek(0)
    loaded = ft.Embedding(7, 5, padding_idx=1)
    loaded.load_state_dict(torch.load(stored, weights_only=True))
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), loaded):
        assert torch.equal(other(IDS), layer(IDS))
        assert other.weight.data_ptr() != layer.weight.data_ptr()
        assert outcome(other, IDS)[1].shape == (7, 5)


def test_weights_that_are_tied():
    """A head that uses the table: its dense gradient and that of the look-up are added."""
    grads = []
    for layer in pair(sparse=True):
        (layer(IDS).tanh() @ layer.weight.t()).square().sum().backward()
        grads.append(layer.weight.grad.to_dense())
    torch.testing.assert_close(*grads)


def test_a_weight_that_is_no_leaf():
    ours, theirs = pair()
    grads = []
    for function, layer in ((ft.functional.embedding, ours), (F.embedding, theirs)):
        function(IDS, layer.weight * 2).square().sum().backward()
        grads.append(layer.weight.grad)
    assert torch.equal(*grads)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_transforms_and_tracing_are_pytorchs():
    ours, theirs = pair()
    ids = IDS[0]
    assert torch.equal(torch.vmap(ours)(IDS), theirs(IDS))

    def loss(weight, layer):
        return torch.func.functional_call(layer, {"weight": weight}, (ids,)).square().sum()

    grads = [torch.func.grad(loss)(layer.weight.detach(), layer) for layer in (ours, theirs)]
    assert torch.equal(*grads)
    traced = torch.jit.trace(ours, (ids,))
    assert torch.equal(traced(IDS[1]), theirs(IDS[1]))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_forward_derivatives_are_pytorchs():
    ours, _ = pair()
    weight, tangent = ours.weight.detach(), torch.arange(35.0).reshape(7, 5)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(weight, tangent)
        result = torch.autograd.forward_ad.unpack_dual(ft.functional.embedding(IDS, dual, max_norm=100.0))
    assert torch.equal(result.tangent, tangent[IDS])


def test_a_sparse_gradient_lists_the_ids_as_pytorchs_does():
    grads = []
    for layer in pair(sparse=True, padding_idx=5):
        layer(IDS).sum().backward()
        layer(IDS[0]).sum().backward()
        grads.append(layer.weight.grad)
    assert torch.equal(grads[0]._indices(), grads[1]._indices())
    assert torch.equal(grads[0]._values(), grads[1]._values())


def test_tables_without_rows_or_columns():
    for shape in ((0, 0), (10, 0), (0, 3)):
        for sparse in (False, True):
            layer = ft.Embedding(*shape, sparse=sparse)
            layer(torch.empty(2, 0, dtype=torch.int64)).sum().backward()
            assert layer.weight.grad.shape == shape
    with pytest.raises(IndexError, match="id 0 at position"):
        ft.Embedding(0, 3)(torch.tensor([0]))


def test_ids_and_offsets_of_two_types():
    bag = ft.EmbeddingBag(7, 5)
    expected = bag(IDS)
    for ids, offsets in ((torch.int32, torch.int64), (torch.int64, torch.int32)):
        assert torch.equal(bag(IDS.reshape(-1).to(ids), torch.tensor([0, 4], dtype=offsets)), expected)


def test_a_parametrised_weight():
    ours, theirs = pair()

    class Twice(nn.Module):
        def forward(self, weight):
            return weight * 2

    for layer in (ours, theirs):
        nn.utils.parametrize.register_parametrization(layer, "weight", Twice())
    assert torch.equal(ours(IDS), theirs(IDS))
    ours(IDS).sum().backward()
    assert ours.parametrizations.weight.original.grad is not None


def test_a_second_derivative():
    ours, theirs = pair(dtype=torch.float64, padding_idx=2)
    found = []
    for layer in (ours, theirs):
        (grad,) = torch.autograd.grad(layer(IDS).pow(3).sum(), layer.weight, create_graph=True)
        found.append(torch.autograd.grad(grad.square().sum(), layer.weight)[0])
    torch.testing.assert_close(*found)


def test_a_second_derivative_of_bags_is_an_error():
    bag = ft.EmbeddingBag(7, 5)
    (grad,) = torch.autograd.grad(bag(IDS).pow(3).sum(), bag.weight, create_graph=True)
    with pytest.raises(RuntimeError, match=r"once_differentiable|is not implemented"):  # the latter by PyTorch
        grad.sum().backward()


def test_derivatives_are_those_of_finite_differences():
    weight = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    functional = ft.functional
    assert torch.autograd.gradcheck(lambda table: functional.embedding(IDS, table), (weight,))
    assert torch.autograd.gradgradcheck(lambda table: functional.embedding(IDS, table), (weight,))
    for mode in ("sum", "mean", "max"):
        assert torch.autograd.gradcheck(lambda table, mode=mode: functional.embedding_bag(IDS, table, mode=mode), (weight,))
    assert torch.autograd.gradcheck(
        lambda table, factors: functional.embedding_bag(IDS, table, mode="sum", per_sample_weights=factors), (weight, weights)
    )


def test_maxima_of_a_table_that_has_changed_have_no_gradient():
    bag = ft.EmbeddingBag(7, 5, mode="max")
    result = bag(IDS.reshape(-1), torch.tensor([0, 4]))
    with torch.no_grad():
        bag.weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        result.sum().backward()


@pytest.mark.parametrize("cache", [True, False])
def test_autocast_leaves_the_table_as_it_is(cache):
    ours, theirs = pair()
    head = nn.Linear(5, 2)
    grads = []
    for layer in (ours, theirs):
        layer.weight.grad = None
        with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=cache):
            x = layer(IDS)
            assert x.dtype is torch.float32
            head(x).float().square().sum().backward()
        grads.append(layer.weight.grad)
    assert torch.equal(*grads)


def test_a_layer_without_memory_is_pytorchs():
    layer = ft.Embedding(7, 5, device="meta")
    assert layer(IDS.to("meta")).device.type == "meta"
    layer.to_empty(device="cpu")
    layer.reset_parameters()
    assert layer(IDS).shape == (2, 4, 5)
