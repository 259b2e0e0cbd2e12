"""Each byte of a small checkpoint, record and journal is changed in turn: found, or harmless."""

import os
import zlib

import numpy as np
import pytest
from mapped_tables import D, V, leave_journal, optimizer_of, train

import fastembed as fe
from fastembed import checkpoint
from fastembed.checkpoint import CheckpointError
from fastembed.io.atomic import beside
from fastembed.io.mapped import record

pytestmark = pytest.mark.on_reference

FLIPS = (0x01, 0x20, 0xFF)
OTHER_NAMES = 28  # texts that changes make of fastembed_crc32: two of each letter, one of each digit


def changed_files(path):
    """The file with each byte changed in turn; in the end it is as before."""
    whole = path.read_bytes()
    with open(path, "r+b", buffering=0) as file:
        for at, byte in enumerate(whole):
            for changed in (*(byte ^ flip for flip in FLIPS), byte):
                file.seek(at)
                file.write(bytes([changed]))
                if changed != byte:
                    yield


def n_unseen(path, read, expected):
    """How many changes are not found; they must be harmless."""
    n = 0
    for _ in changed_files(path):
        try:
            found = read()
        except CheckpointError:
            continue
        assert found == expected
        n += 1
    assert read() == expected
    return n


def test_a_checkpoint(tmp_path):
    path = tmp_path / "c"
    arrays = {"weight": np.arange(6, dtype="f4").reshape(3, 2), "flags": np.array([True, False]), "n": np.array(3)}
    checkpoint.save(path, arrays, {"note": "mine", "step": 3})

    def read():
        tensors, description = checkpoint.load(path)
        return {name: (str(array.dtype), array.shape, array.tobytes()) for name, array in tensors.items()}, description

    assert n_unseen(path, read, read()) <= OTHER_NAMES


def test_a_state(tmp_path):
    path = tmp_path / "s"
    layer = fe.Embedding(3, 2, rng=0)
    checkpoint.save_state(path, {"layer": layer.state_dict(), "step": 3})

    def read():
        state = checkpoint.load_state(path)
        return state["layer"]["weight"].tobytes(), state["step"]

    assert n_unseen(path, read, read()) <= OTHER_NAMES


def test_statistics(tmp_path):
    path = tmp_path / "c"
    checkpoint.save(path, {"weight": np.arange(6.0).reshape(3, 2)})
    assert n_unseen(path, lambda: checkpoint.statistics(path), checkpoint.statistics(path)) <= OTHER_NAMES


def test_a_record(tmp_path):
    path = tmp_path / "t"
    with fe.Embedding.create(path, (V, D), rng=1) as layer:
        train(layer, optimizer_of("SparseAdam", layer), range(2))
    expected = record.read(path)
    spaces = beside(path, "optimizer.json").read_bytes().count(b" ") + beside(path, "optimizer.json").read_bytes().count(b"\n")
    assert n_unseen(beside(path, "optimizer.json"), lambda: record.read(path), expected) <= spaces * len(FLIPS)


def test_a_journal(tmp_path):
    path = tmp_path / "t"
    layer = fe.Embedding.create(path, (V, D), rng=1)
    layer.set_rows([1, 2, 5], 7.0)
    expected = zlib.crc32(layer.weight.tobytes())
    leave_journal(layer)
    layer.storage.close()

    def read():
        with fe.Embedding.open(path) as layer:
            return zlib.crc32(layer.weight.tobytes())

    assert n_unseen(beside(path, "journal"), read, expected) == 0
    before = path.read_bytes()
    for _ in changed_files(beside(path, "journal")):  # nor does a writer use it
        with pytest.raises(CheckpointError):
            fe.Embedding.open(path, "r+")
    assert path.read_bytes() == before
    fe.Embedding.open(path, "r+").close()
    assert os.listdir(tmp_path) == ["t"]
