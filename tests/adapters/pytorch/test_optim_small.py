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


@pytest.mark.parametrize("few", [0, 1 << 15])
@pytest.mark.parametrize("name", ["SGD", "Adagrad", "SparseAdam"])
def test_a_few_sparse_rows_of_small_tables_are_left_to_pytorch_too(name, few, generator, monkeypatch):
    monkeypatch.setattr(ft.optim.RowSteps, "_small", N_ROWS * WIDTH)
    monkeypatch.setattr(ft.optim, "_FEW", few)
    programs = pair(name, {"lr": 0.05})
    for program in programs:
        program.table.sparse = True
    train(programs, generator, 3)
    ours, theirs = programs
    has_table = hasattr(ours.table._parameters["weight"], "_fastembed_table")
    assert has_table == (few == 0)
    assert_close(ours, theirs)
    train(programs, generator, 2)
    monkeypatch.setattr(ft.optim, "_FEW", (1 << 15) - few)  # a larger batch, or a smaller one, goes on from there
    train(programs, generator, 2)
    assert_close(ours, theirs)
