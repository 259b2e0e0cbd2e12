"""Steps of small tables, which the optimisers over PyTorch leave to PyTorch."""

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from torch_draws.programs import N_ROWS, NAMES, WIDTH, assert_close, pair, train  # noqa: E402

import fastembed.adapters.torch as ft  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
torch.sparse.check_sparse_tensor_invariants.disable()  # said explicitly, PyTorch does not warn that it is off


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("n_extra", [0, 1])
@pytest.mark.parametrize("name", NAMES)
def test_small_tables_with_dense_gradients_are_left_to_pytorch(name, n_extra, generator, monkeypatch):
    monkeypatch.setattr(ft.optim.RowSteps, "_small", N_ROWS * WIDTH - n_extra)
    ours, theirs = pair(name, {"lr": 0.05})
    train((ours, theirs), generator, 3)
    assert ours.table.weight.grad.is_sparse == (name == "SparseAdam" or n_extra > 0)
    if n_extra:
        assert_close(ours, theirs)
    elif name != "SparseAdam":
        assert torch.equal(ours.table.weight, theirs.table.weight)


@pytest.mark.parametrize("is_bag", [False, True])
@pytest.mark.parametrize("is_small", [False, True])
@pytest.mark.parametrize("few", [-1, 1 << 15])
@pytest.mark.parametrize("name", ["SGD", "Adagrad", "SparseAdam"])
def test_a_few_sparse_rows_are_left_to_pytorch_too(name, few, is_small, is_bag, generator, monkeypatch):
    monkeypatch.setattr(ft.optim.RowSteps, "_small", N_ROWS * WIDTH if is_small else 0)
    monkeypatch.setattr(ft.optim.RowSteps, "_few", few)
    programs = pair(name, {"lr": 0.05}, is_bag)
    for program in programs:
        program.table.sparse = True
    ours, theirs = programs
    own_batches = own_steps_of(monkeypatch)
    train(programs, generator, 3)
    assert len(own_batches) == (3 if few < 0 else 0)
    assert_close(ours, theirs)
    monkeypatch.setattr(ft.optim.RowSteps, "_few", (1 << 15) - 1 - few)  # a larger batch, or a smaller one, goes on from there
    train(programs, generator, 2)
    goes_back = is_small and name != "SparseAdam"  # to PyTorch's steps
    assert len(own_batches) == (2 if few > 0 else 3 if goes_back else 5)
    assert_close(ours, theirs)


def own_steps_of(monkeypatch):
    """The number of rows of each step by rows, from now on."""
    numbers, take = [], ft.optim.RowSteps._take

    def counted(self, group, weight, ids, values):
        numbers.append(len(ids))
        take(self, group, weight, ids, values)

    monkeypatch.setattr(ft.optim.RowSteps, "_take", counted)
    return numbers


@pytest.mark.parametrize("few", [-1, 1 << 15])
@pytest.mark.parametrize("name", ["SGD", "Adagrad", "SparseAdam"])
def test_a_sparse_gradient_without_rows(name, few, generator, monkeypatch):
    monkeypatch.setattr(ft.optim.RowSteps, "_few", few)
    programs = pair(name, {"lr": 0.05})
    for program in programs:
        program.table.sparse, program.table.padding_idx = True, 4
        program.backward(torch.tensor([[4, 4]]))
        assert program.table.weight.grad._nnz() == 0
        program.step()
    train(programs, generator, 2)
    assert_close(*programs)
