"""What Python and NumPy raise for want of memory becomes a MemoryError; other errors stay."""

import importlib
from pathlib import Path

import numpy as np
import pytest

import fastembed as fe
from fastembed import checkpoint
from fastembed._memory import memory_errors
from fastembed.io import checkpoint as io_checkpoint
from fastembed.io.mapped import journal, table
from fastembed.io.shared import publisher
from fastembed.tables import disk

pytestmark = pytest.mark.on_reference

LOST = [
    TypeError(f"stat: path should be string, bytes, os.PathLike or integer, not {type(Path()).__name__}"),
    RuntimeError("can't allocate read lock"),
    ValueError("[digital envelope routines] initialization error"),
    SystemError("error return without exception set"),
]


@pytest.mark.parametrize("error", LOST)
def test_a_lost_memory_error(tmp_path, monkeypatch, error):
    def without_memory(*_):
        raise error

    layer = fe.Embedding.create(tmp_path / "t", (3, 2), init=0)
    layer.set_rows([1], 1.0)
    monkeypatch.setattr(journal, "write", without_memory)
    with pytest.raises(MemoryError, match="no memory: ") as raised:
        layer.flush()
    assert raised.value.__cause__ is error
    monkeypatch.undo()
    layer.close()
    with fe.Embedding.open(tmp_path / "t") as layer:
        assert layer.weight.tolist() == [[0, 0], [1, 1], [0, 0]]


@pytest.mark.parametrize("name", ["optim", "load_vectors"])
def test_public_names_that_are_loaded_without_memory(monkeypatch, name):
    """Python has a lock for each module that is imported."""

    def without_memory(*_):
        raise error

    error = RuntimeError("can't allocate lock")
    monkeypatch.delitem(vars(fe), name, raising=False)
    monkeypatch.setattr(importlib, "import_module", without_memory)
    with pytest.raises(MemoryError, match="no memory: can't allocate lock"):
        getattr(fe, name)
    monkeypatch.undo()
    assert getattr(fe, name) is not None


@pytest.mark.parametrize(
    "error", [TypeError("not int"), ValueError("value"), RuntimeError("other"), RecursionError("deep"), OSError(5, "disk")]
)
def test_other_errors_stay(error):
    def raises():
        with memory_errors():
            raise error

    with pytest.raises(type(error)) as raised:
        raises()
    assert raised.value is error


@pytest.mark.parametrize("error", [SystemError("<ufunc 'add'> returned NULL without setting an exception"), KeyError("x")])
def test_arithmetic_without_memory(monkeypatch, error):
    def without_memory(*_):
        raise error

    layer = fe.Embedding(3, 2, rng=0)
    monkeypatch.setattr(np, "lexsort", without_memory)
    with pytest.raises(MemoryError if isinstance(error, SystemError) else KeyError) as raised:
        layer.nearest([0], 1)
    assert error in (raised.value, raised.value.__cause__)


def test_a_table_that_is_opened_without_memory_is_unlocked(tmp_path, monkeypatch):
    fe.Embedding.create(tmp_path / "t", (3, 2), init=0).close()

    class Full:
        def add(self, files):
            raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(table, "_open", Full())
        with pytest.raises(MemoryError) as raised:  # which keeps the files from being collected
            fe.Embedding.open(tmp_path / "t", "r+")
    fe.Embedding.open(tmp_path / "t", "r+").close()
    assert raised.value.__traceback__ is not None


def test_a_path_of_the_wrong_type_is_a_type_error():
    for call in (checkpoint.load, fe.Embedding.open):
        with pytest.raises(TypeError, match=r"path must be a str or an os\.PathLike, got 3"):
            call(3)


@pytest.mark.parametrize("error", LOST)
def test_files_without_memory(monkeypatch, tmp_path, error):
    """Of tables on disk, shared ones and saved layers."""

    def without_memory(*_):
        raise error

    layer = fe.Embedding(3, 2, rng=0)
    shared = layer.share(tmp_path / "shared")
    shared.close()
    monkeypatch.setattr(publisher, "inode_at", without_memory)
    monkeypatch.setattr(disk, "tensors_in", without_memory)
    monkeypatch.setattr(layer.storage, "is_at", without_memory)
    monkeypatch.setattr(io_checkpoint, "load_own", without_memory)
    calls = (
        shared.remove, lambda: fe.DiskTable(tmp_path / "t"), lambda: layer.save(tmp_path / "t"), lambda: fe.load(tmp_path / "t"),
    )  # fmt: skip
    for call in calls:
        with pytest.raises(MemoryError, match="no memory: "):
            call()
    monkeypatch.undo()
    shared.remove()
