"""The answers of docs/torch.md where PyTorch's are wrong."""

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from fastembed.adapters.torch.functional import embedding, embedding_bag  # noqa: E402


@pytest.fixture
def table():
    return torch.arange(6.0).reshape(6, 1).requires_grad_()


def gradient(result, table):
    result.sum().backward()
    return table.grad.to_dense().flatten().tolist()


@pytest.mark.parametrize(("mode", "part"), [("sum", 1), ("mean", 1 / 3)])
def test_gradients_of_bags_by_frequency(table, mode, part):
    result = embedding_bag(torch.tensor([[1, 1, 3]]), table, mode=mode, scale_grad_by_freq=True)
    assert gradient(result, table) == pytest.approx([0, part, 0, part, 0, 0])


def test_sparse_gradients_by_frequency(table):
    result = embedding(torch.tensor([1, 1, 3]), table, sparse=True, scale_grad_by_freq=True)
    assert gradient(result, table) == [0, 1, 0, 1, 0, 0]


def test_the_sparse_gradient_of_one_id(table):
    assert gradient(embedding(torch.tensor(4), table, sparse=True), table) == [0, 0, 0, 0, 1, 0]


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags_without_ids_and_tables_without_columns(table, mode):
    empty = embedding_bag(torch.empty(3, 0, dtype=torch.int64), table, mode=mode)
    assert empty.tolist() == [[0]] * 3
    assert gradient(empty, table) == [0] * 6
    assert embedding_bag(torch.tensor([[1, 2]]), torch.empty(6, 0), mode=mode).shape == (1, 0)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("offsets", [[0, 3, 2], [0, -1]])
def test_offsets_that_go_back(table, mode, offsets):
    with pytest.raises(ValueError, match="offset"):
        embedding_bag(torch.arange(5), table, torch.tensor(offsets), mode=mode)


@pytest.mark.parametrize(("mode", "last"), [("sum", 2), ("mean", 2), ("max", 2)])
def test_ids_behind_the_last_offset(table, mode, last):
    result = embedding_bag(torch.arange(5), table, torch.tensor([0, 2, 3]), mode=mode, include_last_offset=True)
    assert result[1].item() == last
    assert gradient(result, table)[2:] == [1, 0, 0, 0]


def test_sums_of_half_precision():
    table = torch.zeros(2, 1, dtype=torch.bfloat16, requires_grad=True)
    embedding(torch.zeros(5000, dtype=torch.int64), table).sum().backward()
    assert table.grad[0].item() == torch.tensor(5000.0).to(torch.bfloat16).item()
