"""Layers in the workers of a DataLoader, and in two processes of DistributedDataParallel."""

import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import fastembed.adapters.torch as ft  # noqa: E402


class Rows(torch.utils.data.Dataset):
    """Items are rows of a table, looked up in the worker: long enough for threads of both kinds."""

    def __init__(self, layer):
        self.layer = layer

    def __len__(self):
        return 6

    def __getitem__(self, index):
        with torch.no_grad():
            return self.layer((torch.arange(20_000) * (index + 1)) % 500)[-3:]


@pytest.mark.fork
@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_workers_that_are_forked(monkeypatch):
    monkeypatch.setattr(ft.functional, "SMALL", -1)
    data = Rows(ft.Embedding(500, 64))
    before = [data[i] for i in range(6)]
    loader = torch.utils.data.DataLoader(data, batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=600)
    assert all(torch.equal(item, expected) for item, expected in zip(loader, before, strict=True))


@pytest.mark.uninstrumented
@pytest.mark.parametrize(("gradient", "optimizers"), [("dense", "PyTorch's"), ("sparse", "PyTorch's"), ("sparse", "own")])
def test_two_processes_train_as_one(tmp_path, gradient, optimizers):
    """Each of two ranks takes half of the batch; gloo averages the gradients."""
    script = Path(__file__).with_name("two_ranks.py")
    ranks = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", script, str(rank), str(tmp_path / "meeting"), gradient, optimizers],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [rank.communicate(timeout=600)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], outputs
