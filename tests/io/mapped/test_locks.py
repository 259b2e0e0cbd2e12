"""Locks of mapped tables, and processes that share one."""

import multiprocessing
import subprocess
import sys

import pytest
from mapped_tables import D, V, optimizer_of, state_in, state_of, train

import fastembed as fe

pytestmark = pytest.mark.on_reference


def test_locks(path):
    with fe.Embedding.create(path, (V, D), rng=0) as layer:
        for mode in ("r", "r+"):
            with pytest.raises(BlockingIOError, match=f"cannot be opened with mode='{mode.replace('+', '.')}': it is open"):
                fe.Embedding.open(path, mode)
        layer.resize(V + 1)  # another file, and locked as well
        with pytest.raises(BlockingIOError):
            fe.Embedding.open(path)
    with fe.Embedding.open(path), fe.Embedding.open(path), pytest.raises(BlockingIOError):
        fe.Embedding.open(path, "r+")
    fe.Embedding.open(path, "r+").close()


def child(layer, optimizer, end):
    outcome = []
    train(layer, optimizer, [50])  # in memory of its own
    for use in (layer.flush, lambda: layer.resize(3), layer.close):
        try:
            use()
        except RuntimeError as error:
            outcome.append("which alone may write it" in str(error))
    end.send(outcome)
    end.recv()


@pytest.mark.fork
def test_a_forked_child_writes_nothing_and_locks_nothing(path):
    layer = fe.Embedding.create(path, (V, D), rng=0)
    optimizer = optimizer_of("SparseAdam", layer)
    train(layer, optimizer, range(2))
    expected, files = state_of(layer, optimizer), path.read_bytes()
    mine, its = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=child, args=(layer, optimizer, its))
    process.start()
    assert mine.recv() == [True, True, True]
    assert path.read_bytes() == files
    assert state_of(layer, optimizer) == expected
    layer.close()
    fe.Embedding.open(path, "r+").close()  # while the child lives
    mine.send(None)
    process.join()
    assert process.exitcode == 0
    assert state_in(path, "SparseAdam") == expected


def test_a_system_without_locks(monkeypatch):
    script = "import sys; sys.modules['fcntl'] = None; import fastembed as fe; fe.Embedding.open('x')"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "ImportError: mapped tables need fcntl" in result.stderr
