"""What the tests of the layers over PyTorch share."""

import importlib.util

import pytest


@pytest.fixture(params=["own look-ups", "PyTorch's for short calls"])
def every_size(request, monkeypatch):
    """Both ways of a short call: as a long one, and by PyTorch's op."""
    functional = pytest.importorskip(
        "fastembed.adapters.torch.functional", reason="PyTorch is not installed", exc_type=ImportError
    )
    if request.param == "own look-ups":
        monkeypatch.setattr(functional, "SMALL", -1)


@pytest.fixture
def one_thread():
    """Threads of two pools on a few numbers would wait for each other."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def rows_of_small_tables(monkeypatch):
    """The optimisers take small tables, and a few rows, as they take large ones and many."""
    if importlib.util.find_spec("torch") is not None:
        monkeypatch.setattr("fastembed.adapters.torch.optim.RowSteps._small", 0)
        monkeypatch.setattr("fastembed.adapters.torch.optim.RowSteps._few", -1)
