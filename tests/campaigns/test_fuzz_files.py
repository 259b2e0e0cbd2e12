"""Mutated files, in short; each bit of small files flipped; and that a fault would be seen."""

import contextlib

import numpy as np
import pytest
from fuzz_files import readers, run, seeds

import fastembed as fe
from fastembed import checkpoint
from fastembed.checkpoint import CheckpointError

pytestmark = pytest.mark.on_reference

SEED = 2


@pytest.fixture
def seed_files(tmp_path):
    return {seed.kind: seed for seed in seeds.make(tmp_path)}


def test_two_hundred_mutated_files(capsys):
    assert run.run(SEED, range(200)) == 0, capsys.readouterr().out


@pytest.mark.parametrize("fault", [RuntimeError("x"), ValueError("x"), KeyError("x"), BlockingIOError(11, "x")])
def test_a_reader_that_raises_something_else_is_seen(capsys, monkeypatch, fault):
    def raising(path):
        raise fault

    monkeypatch.setitem(readers.OF_KIND, "plain", (raising,))
    assert run.run(SEED, range(40)) == 1
    assert f"raising of plain: {fault!r}" in capsys.readouterr().out


def test_a_reader_that_hangs_is_seen(seed_files, capsys, monkeypatch):
    def hanging(path):
        while True:
            pass

    monkeypatch.setattr(run, "LIMIT", 1)
    monkeypatch.setitem(readers.OF_KIND, "plain", (hanging,))
    number = next(n for n in range(100) if run.inputs(SEED, n, list(seed_files.values()))[0].kind == "plain")
    assert run.run(SEED, [number]) == 1
    assert "Hang" in capsys.readouterr().out


def flips(seed):
    """The seed's file with each byte in turn changed, in one bit and in all."""
    path = seed.folder / seed.name
    whole = path.read_bytes()
    for at in range(len(whole)):
        for mask in (1 << at % 8, 0xFF):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ mask]) + whole[at + 1 :])
            yield at
    path.write_bytes(whole)


def test_each_byte_of_a_journal(seed_files):
    """A changed journal is never replayed."""
    seed = seed_files["journal"]
    table = (seed.folder / "t").read_bytes()
    for _ in flips(seed):
        for mode in ("r", "r+"):
            with pytest.raises(CheckpointError, match="is not a journal of t, or is damaged"):
                fe.Embedding.open(seed.folder / "t", mode)
    assert (seed.folder / "t").read_bytes() == table


def test_each_byte_of_a_checkpoint(seed_files):
    """An error that says so; or tensors of the same sizes, of which a few elements differ."""
    seed = seed_files["plain"]
    path = seed.folder / seed.name
    sizes = sorted(array.nbytes for array in checkpoint.load(path)[0].values())
    for _ in flips(seed):
        with contextlib.suppress(CheckpointError):
            assert sorted(array.nbytes for array in checkpoint.load(path)[0].values()) == sizes


def test_each_byte_of_a_record(seed_files):
    """An error that says so, or a table that can be read."""
    seed = seed_files["record"]
    expected = np.array(fe.Embedding.open(seed.folder / "t").weight)
    for _ in flips(seed):
        with contextlib.suppress(CheckpointError), fe.Embedding.open(seed.folder / "t", "r+") as layer:
            assert np.array_equal(layer.weight, expected)
