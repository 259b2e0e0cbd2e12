"""Tables that share memory with parameters; rows whose updates are pending."""

import copy
import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from torch import nn  # noqa: E402

import fastembed as fe  # noqa: E402
import fastembed.adapters.torch as ft  # noqa: E402
from fastembed.adapters.torch import tables  # noqa: E402


class Optimizer:
    """What owns the rows of a table."""


@pytest.mark.parametrize("dtype", list(tables.FLOATS))
def test_no_copy_in_either_direction(dtype):
    weight = nn.Parameter(torch.randn(5, 3).to(dtype))
    table = tables.table_of(weight)
    assert table.weight.ctypes.data == weight.data_ptr()
    table.weight[2] = 1.5
    assert (weight[2] == 1.5).all()
    assert tables.tensor_of(table.weight).data_ptr() == weight.data_ptr()
    assert tables.tensor_of(table.weight).dtype is dtype


@pytest.mark.parametrize("table", [torch.zeros(3, 2, dtype=torch.int64), torch.zeros(3, 2, device="meta")])
def test_what_cannot_be_a_table(table):
    with pytest.raises(TypeError, match="a table must be a dense tensor of floats on the CPU"):
        tables.table_of(table)


def test_a_table_is_made_once_until_its_memory_changes():
    layer = ft.Embedding(5, 3)
    first = tables.table_of(layer.weight)
    assert tables.table_of(layer.weight) is first
    layer.weight.data = torch.zeros(5, 3)
    second = tables.table_of(layer.weight)
    assert second is not first
    assert not second.weight.any()
    layer.double()
    assert tables.table_of(layer.weight).dtype == np.float64


def test_copies_have_no_table_and_no_owner():
    weight, optimizer = nn.Parameter(torch.randn(5, 3)), Optimizer()
    tables.table_of(weight)
    tables.own_rows(weight, optimizer)
    for other in (copy.deepcopy(weight), pickle.loads(pickle.dumps(weight))):
        assert tables.current_table(other) is None
        assert not tables.owned_rows(other)
    assert tables.owned_rows(weight)
    del optimizer
    assert not tables.owned_rows(weight)


def pending_layer(dtype=torch.float32):
    """A layer whose rows, but for row 1, have three updates pending, and the table without."""
    torch.manual_seed(1)
    layer = ft.Embedding(5, 3, dtype=dtype)
    table = tables.table_of(layer.weight)
    dense = fe.Embedding.from_pretrained(table.weight.copy())
    for each in (table, dense):
        optimizer = fe.optim.Adam(each, lr=0.1)
        each.backward(np.ones((5, 3), np.float32), ids=[0, 1, 2, 3, 4], optimizer=optimizer)
        for _ in range(3):
            each.backward(np.ones((1, 3), np.float32), ids=[1], optimizer=optimizer)
    expected = torch.from_numpy(dense.weight)
    assert not torch.equal(nn.Module.__getattr__(layer, "weight")[0], expected[0]), "nothing is pending"
    return layer, expected


READERS = {
    "forward": lambda layer: layer(torch.arange(5)),
    "bags": lambda layer: ft.functional.embedding_bag(torch.arange(5)[:, None], layer._parameters["weight"]),
    "max_norm": lambda layer: ft.functional.embedding(torch.arange(5), layer._parameters["weight"], max_norm=100.0),
    "weight": lambda layer: layer.weight,
    "state_dict": lambda layer: layer.state_dict()["weight"],
    "parent's state_dict": lambda layer: nn.Sequential(layer).state_dict()["0.weight"],
    "deepcopy": lambda layer: copy.deepcopy(nn.Sequential(layer))[0]._parameters["weight"],
    "pickle": lambda layer: pickle.loads(pickle.dumps(layer))._parameters["weight"],
    "double": lambda layer: layer.double()._parameters["weight"].float(),
    "PyTorch's own function": lambda layer: torch.vmap(layer)(torch.arange(5)),
    "revert": lambda layer: ft.revert(layer)._parameters["weight"],
    "compiled": lambda layer: torch.compile(layer, backend="eager", fullgraph=True)(torch.arange(5)),
    "compiled bags": lambda layer: torch.compile(ft.functional.embedding_bag, backend="aot_eager")(
        torch.arange(5)[:, None], layer._parameters["weight"]
    ),
}


@pytest.mark.parametrize("reader", list(READERS))
def test_readers_see_rows_up_to_date(reader):
    layer, expected = pending_layer()
    assert torch.equal(READERS[reader](layer), expected)


def test_a_look_up_brings_only_its_rows_up_to_date():
    layer, expected = pending_layer()
    layer(torch.tensor([2]))
    stored = layer._parameters["weight"]
    assert torch.equal(stored[2], expected[2])
    assert not torch.equal(stored[0], expected[0])


def test_a_state_that_is_loaded_is_what_is_there():
    layer, _ = pending_layer()
    layer.load_state_dict({"weight": torch.zeros(5, 3)})
    assert not layer.weight.any()
    assert not layer(torch.arange(5)).any()


@pytest.mark.parametrize("layer", [ft.Embedding(6, 2), ft.EmbeddingBag(6, 2, mode="sum"), ft.EmbeddingBag(6, 2, mode="max")])
def test_rows_that_an_optimizer_owns_have_sparse_gradients(layer):
    ids, optimizer = torch.tensor([[4, 1, 4]]), Optimizer()
    layer(ids).sum().backward()
    dense = layer.weight.grad
    layer.weight.grad = None
    tables.own_rows(layer.weight, optimizer)
    assert not tables.is_looked_up(layer.weight)
    layer(ids).sum().backward()
    assert tables.is_looked_up(layer.weight)
    of_bags = dense.any(dim=1).nonzero().flatten().tolist()  # of maxima one row may have all
    listed = [4, 1, 4] if isinstance(layer, ft.Embedding) else of_bags
    assert layer.weight.grad._indices().tolist() == [listed]
    assert torch.equal(layer.weight.grad.to_dense(), dense)
    (layer(ids).sum() + layer.weight.sum()).backward()
    assert torch.equal(layer.weight.grad, 2 * dense + 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (5, 1), (1 << 12, 1 << 9)])
def test_memory_that_goes_into_large_pages_stays_what_it_is(shape, dtype):
    """Of any size, and where strides of axes of one element say nothing."""
    weight = nn.Parameter(torch.randn(shape).to(dtype))
    strided = torch.empty_strided(shape, (shape[1], 1 if shape[1] > 1 else 0), dtype=dtype).copy_(weight.detach())
    place, values = weight.data_ptr(), weight.detach().clone()
    for tensor in (weight, strided, weight[::2], torch.empty(shape, device="meta")):
        tables.in_large_pages(tensor)
    assert weight.data_ptr() == place
    assert torch.equal(weight, values)
