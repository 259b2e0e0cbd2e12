"""Random runs of the optimisers over PyTorch, and the example's."""

import importlib.util
import re
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from torch_draws import steps  # noqa: E402

import fastembed as fe  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
torch.sparse.check_sparse_tensor_invariants.disable()  # said explicitly, PyTorch does not warn that it is off


def test_random_runs():
    """A short form of `make torch-draws`."""
    for case in range(30):
        steps.check_steps(0, case)


def test_the_example_trains_alike(capsys):
    path = Path(__file__).parents[3] / "examples" / "torch_drop_in.py"
    spec = importlib.util.spec_from_file_location("torch_drop_in", path)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    with fe.threads(1):
        example.main(["--short", "--threads", "1"])
    differences = re.findall(r"losses differ by at most (\S+)", capsys.readouterr().out)
    assert len(differences) == 4
    assert all(float(difference) < 1e-5 for difference in differences)


def test_a_wrong_step_is_found(monkeypatch):
    take = steps.ft.optim.RowSteps._take
    twice = lambda self, group, weight, ids, values: take(self, group, weight, ids, values * (1 + 1e-9))  # noqa: E731
    monkeypatch.setattr(steps.ft.optim.RowSteps, "_take", twice)
    with pytest.raises(AssertionError):
        [steps.check_steps(0, case) for case in range(20)]
