"""Snapshots: the state of the last flush, whole, while another process trains the table."""

import subprocess
import sys
import threading

import numpy as np
import pytest
from common import same_bits, with_path
from mapped_tables import D, V, leave_journal, optimizer_of, train

import fastembed as fe
from fastembed._kernels import backend
from fastembed.io.mapped import mapping

pytestmark = pytest.mark.on_reference


def test_a_snapshot_is_the_last_flush(path):
    layer = fe.Embedding.create(path, (V, D), rng=1)
    optimizer = optimizer_of("SparseAdam", layer)
    train(layer, optimizer, range(2))
    layer.flush()
    flushed = layer.weight.copy()
    train(layer, optimizer, range(2, 4))
    with pytest.raises(BlockingIOError):
        fe.Embedding.open(path)
    snapshot = fe.Embedding.open(path, snapshot=True)
    assert same_bits(snapshot.weight, flushed)
    layer.flush()
    assert same_bits(snapshot.weight, flushed)
    assert same_bits(snapshot([3, 1]), flushed[[3, 1]])
    with fe.EmbeddingBag.open(path, snapshot=True) as bag:
        assert same_bits(bag.weight, layer.weight)
    with pytest.raises(ValueError, match="read-only"):
        snapshot.set_rows([1], 0.0)
    layer.resize(V + 1)
    with fe.Embedding.open(path, snapshot=True) as bigger:
        assert bigger.num_embeddings == V + 1
    layer.close()
    with fe.Embedding.open(path, "r+") as layer:  # a snapshot locks nothing
        layer.set_rows([1], 0.0)
    assert same_bits(snapshot.weight, flushed)
    snapshot.close()
    for mode, given, error in (("r+", True, ValueError), ("r", "x", TypeError)):
        with pytest.raises(error, match="snapshot"):
            fe.Embedding.open(path, mode, snapshot=given)
    with pytest.raises(FileNotFoundError):
        fe.Embedding.open(path.with_name("none"), snapshot=True)


def test_a_snapshot_has_the_flush_that_counts(path):
    layer = fe.Embedding.create(path, (V, D), rng=1)
    layer.set_rows([1, 5], 3.0)
    leave_journal(layer)
    with fe.Embedding.open(path, snapshot=True) as snapshot:
        assert same_bits(snapshot.weight, layer.weight)
    layer.storage.close()
    with fe.Embedding.open(path, snapshot=True) as snapshot:
        assert (snapshot.weight[[1, 5]] == 3).all()


@pytest.mark.skipif(backend.name != "c", reason="reads a whole table")
def test_holes_take_no_memory(tmp_path):
    fe.Embedding.create(tmp_path / "t", (50_000_000, 64), init=0).close()  # 12.8 GB
    with fe.Embedding.open(tmp_path / "t", "r+") as layer:
        layer.set_rows([49_999_999], 1.0)
    with fe.Embedding.open(tmp_path / "t", snapshot=True) as snapshot:
        assert snapshot([49_999_999, 0]).sum() == 64


WRITER = """
import os, sys
import fastembed as fe
os.fsync = lambda descriptor: None  # only kills are tried here, not power failures
with fe.Embedding.open(sys.argv[1], "r+") as layer:
    print("ready", flush=True)
    for number in range(10**9):
        layer.set_rows(range(layer.num_embeddings), float(number))
        layer.flush()
"""


def test_snapshots_while_a_process_flushes(path):
    """Every row has the number of its flush: a snapshot has one number, and it never goes back."""
    fe.Embedding.create(path, (3_000, 32), init=0).close()
    writer = subprocess.Popen([sys.executable, "-c", with_path(WRITER), str(path)], stdout=subprocess.PIPE)
    seen = []
    try:
        assert writer.stdout.readline() == b"ready\n"
        while len(set(seen)) < 20:
            with fe.Embedding.open(path, snapshot=True) as snapshot:
                (number,) = np.unique(snapshot.weight)
            seen.append(number)
    finally:
        writer.kill()
        writer.communicate()
    assert seen == sorted(seen)
    with fe.Embedding.open(path, snapshot=True) as snapshot:  # after the kill
        assert len(np.unique(snapshot.weight)) == 1


def test_a_flush_waits_for_a_snapshot(path, monkeypatch):
    layer = fe.Embedding.create(path, (V, D), rng=1)
    before = layer.weight.copy()
    layer.set_rows([1], 3.0)
    copy, flusher, blocks = mapping.in_memory, threading.Thread(target=layer.flush), []

    def slow(*arguments):
        flusher.start()
        flusher.join(0.1)
        blocks.append(flusher.is_alive())
        return copy(*arguments)

    monkeypatch.setattr(mapping, "in_memory", slow)
    snapshot = fe.Embedding.open(path, snapshot=True)
    flusher.join()
    assert blocks == [True]
    assert same_bits(snapshot.weight, before)
    layer.close()
