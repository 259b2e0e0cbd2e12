"""Each system call of each operation on files fails once: the old state or the new one is left."""

import os
import shutil
import sys

import numpy as np
import pytest
from failing import Failing, descriptors
from mapped_tables import D, V, leave_journal, optimizer_of, state_in, state_of, train

import fastembed as fe
from fastembed import checkpoint
from fastembed.io import atomic
from fastembed.io.mapped import file_lock

pytestmark = pytest.mark.on_reference

EVERY = {"open", "close", "write", "fsync", "replace", "unlink", "fchmod", "flock", "stat", "fstat"}  # of each flush
REMOVING = {"open", "close", "unlink", "rmdir", "stat", "fstat"}  # what removes a temporary folder
IGNORED = {"close"} if sys.version_info >= (3, 14) else set()  # by shutil.rmtree, which removes it all the same


@pytest.fixture
def failing(monkeypatch):
    monkeypatch.setattr(file_lock, "_N_TRIES", 2)
    return Failing(monkeypatch)


def trained(path, kind="SparseAdam", first=0):
    """A new table that is flushed after two steps, and has taken two more."""
    layer = fe.Embedding.create(path, (V, D), rng=1)
    optimizer = optimizer_of(kind, layer)
    train(layer, optimizer, range(2))
    layer.flush()
    flushed = state_of(layer, optimizer)
    train(layer, optimizer, range(2, 4))
    return layer, optimizer, flushed


@pytest.mark.parametrize(
    ("kind", "suffix"), [("Adam", ".safetensors"), pytest.param("SGD", ".npy", marks=pytest.mark.slow_on_reference)]
)
def test_a_flush_that_fails_anywhere(path, kind, suffix, failing):
    """The files hold the state of the last flush or of this one; the next flush succeeds."""
    path = path.with_suffix(suffix)
    layer, optimizer, last = trained(path, kind)
    seen = []
    for n in range(1, 1000):
        train(layer, optimizer, range(2 * n, 2 * n + 2))
        new, n_open = state_of(layer, optimizer), descriptors()
        has_failed = failing.runs(n, layer.flush)
        if has_failed is None:
            break
        assert has_failed
        assert descriptors() == n_open
        found = state_in(path, kind)
        assert found in (last, new)
        assert state_in(path, kind, "r") == found[:1]
        seen.append(found == new)
        assert state_of(layer, optimizer) == new
        train(layer, optimizer, [1000 + n])
        last = state_of(layer, optimizer)
        layer.flush()
        assert state_in(path, kind) == last
    assert failing.seen == EVERY | {"pwrite", "mmap"} | ({"pread"} if suffix == ".npy" else set())
    assert seen == sorted(seen)  # first those that fail before it counts
    assert 2 < sum(seen) < len(seen) - 2
    layer.close()
    assert state_in(path, kind) == new


def test_a_resize_that_fails_anywhere(tmp_path, failing):
    """The layer stays open, in its old state or the new one; the next flush writes it."""
    seen, resized = [], []
    for n in range(1, 1000):
        (tmp_path / f"{n}").mkdir()
        path = tmp_path / f"{n}" / "t"
        layer, optimizer, flushed = trained(path)
        now, new_n = state_of(layer, optimizer), V + 3 if n % 2 else V - 3
        has_failed = failing.runs(n, lambda layer=layer, new_n=new_n: layer.resize(new_n, new_rows=2.0))
        if has_failed is None:
            layer.close()
            break
        assert has_failed
        table = state_in(path, "SparseAdam")
        is_new = len(table[0]) == 4 * D * new_n
        seen.append(is_new)
        if is_new:
            n_kept = min(V, new_n) * D * 4
            assert table[0][:n_kept] == now[0][:n_kept]
            assert (np.frombuffer(table[0][n_kept:], "f4") == 2).all()
            assert table[2] == now[2]
        else:
            assert table == flushed
        assert state_in(path, "", "r") == table[:1]
        is_resized = len(layer.weight) == new_n
        assert is_resized or not is_new
        resized.append(is_resized)
        if not is_resized:
            assert state_of(layer, optimizer) == now
            layer.resize(new_n, new_rows=2.0)
        assert len(layer.weight) == new_n
        train(layer, optimizer, [4])
        new = state_of(layer, optimizer)
        layer.close()
        assert state_in(path, "SparseAdam") == new
    assert failing.seen == EVERY | {"ftruncate", "lseek", "mmap"}
    assert seen == sorted(seen)
    assert resized == sorted(resized)
    assert 3 < sum(seen) < sum(resized) < len(seen) - 3


@pytest.mark.slow_on_reference
def test_a_create_that_fails_anywhere(tmp_path, failing):
    n_open = descriptors()
    for n in range(1, 100):
        made = []
        path = tmp_path / f"{n}"
        has_failed = failing.runs(n, lambda path=path, made=made: made.append(fe.Embedding.create(path, (V, D), rng=1)))
        for layer in made:
            layer.close()
        if has_failed is None:
            break
        made = layer = None
        assert descriptors() == n_open
        assert set(os.listdir(tmp_path)) <= {path.name}
        if path.exists():  # whole
            fe.Embedding.open(path, "r+").close()
            os.unlink(path)
    assert {"open", "write", "ftruncate", "fsync", "replace", "mmap", "close", "unlink"} <= failing.seen


@pytest.mark.slow_on_reference
def test_a_close_that_fails_anywhere(tmp_path, failing):
    """What is not flushed can be flushed again; nothing stays locked."""
    for n in range(1, 1000):
        path = tmp_path / f"{n}" / "t"
        path.parent.mkdir()
        layer, optimizer, _ = trained(path)
        new = state_of(layer, optimizer)
        has_failed = failing.runs(n, layer.close)
        layer.close()
        optimizer = None
        with fe.Embedding.open(path, "r+") as layer:
            assert state_of(layer, optimizer_of("SparseAdam", layer)) == new
        assert not [name for name in os.listdir(path.parent) if name.endswith((".lock", ".new", ".journal"))]
        if has_failed is None:
            break
    assert n > 20


@pytest.mark.slow_on_reference
@pytest.mark.parametrize(("mode", "options"), [("r", {}), ("r", {"snapshot": True}), ("r+", {})])
@pytest.mark.parametrize("is_torn", [False, True])
def test_an_open_that_fails_anywhere(tmp_path, failing, mode, options, is_torn):
    """Also of a table with the journal of a flush that did not end."""
    path, left = tmp_path / "in" / "t", tmp_path / "left"
    path.parent.mkdir()
    layer, optimizer, _ = trained(path)
    new = state_of(layer, optimizer)
    if is_torn:
        leave_journal(layer)
        assert (path.parent / "t.journal").exists()
    else:
        layer.flush()
    shutil.copytree(path.parent, left)
    layer.close()
    n_open = descriptors()
    for n in range(1, 1000):
        shutil.rmtree(path.parent)
        shutil.copytree(left, path.parent)
        opened = []
        has_failed = failing.runs(n, lambda opened=opened: opened.append(fe.Embedding.open(path, mode, **options)))
        for layer in opened:
            layer.close()
        if has_failed is None:
            break
        opened = layer = None
        assert descriptors() == n_open
        with fe.Embedding.open(path, mode, **options) as layer:
            assert layer.weight.tobytes() == new[0]
        assert state_in(path, "SparseAdam") == new
        layer = None
    assert n > 5


@pytest.mark.slow_on_reference
def test_a_save_that_fails_anywhere(tmp_path, failing):
    path = tmp_path / "c"
    checkpoint.save(path, {"a": np.zeros(9)}, "old")
    n_open, seen = descriptors(), []
    for n in range(1, 1000):
        has_failed = failing.runs(n, lambda: checkpoint.save(path, {"a": np.ones(9), "b": np.ones(2)}, "new"))
        if has_failed is None:
            break
        left = [tmp_path / name for name in os.listdir(tmp_path) if name != "c"]
        assert not left or failing.failed in REMOVING
        for folder in left:
            shutil.rmtree(folder)
        assert has_failed or left or failing.failed in IGNORED
        assert descriptors() == n_open
        tensors, description = checkpoint.load(path)
        assert (description, tensors["a"].sum(), len(tensors)) in (("old", 0, 1), ("new", 9, 2))
        seen.append(description)
        checkpoint.save(path, {"a": np.zeros(9)}, "old")
    assert failing.seen == {"open", "write", "chmod", "fsync", "close", "replace", "mkdir", "rmdir", "stat", "fstat"}
    assert seen == sorted(seen, reverse=True)
    assert set(seen) == {"old", "new"}
    for n in range(1, 10):
        if failing.runs(n, lambda: checkpoint.load(path)) is None:
            break
    assert n > 2


@pytest.mark.slow_on_reference
def test_a_replacement_with_a_backup_that_fails_anywhere(tmp_path, failing):
    """The file is the old one or the new one, and so is a backup that is there already."""
    path, backup = tmp_path / "c", tmp_path / "backup"

    def replace():
        with atomic.replacing(path, backup) as temporary, open(temporary, "xb") as file:
            file.write(b"new")

    n_open, seen = descriptors(), []
    for n in range(1, 1000):
        for file, content in ((path, b"old"), (backup, b"older")):
            file.unlink(missing_ok=True)  # the backup may be a link to the other
            file.write_bytes(content)
        has_failed = failing.runs(n, replace)
        if has_failed is None:
            break
        assert descriptors() == n_open
        found = path.read_bytes(), backup.read_bytes()
        assert found in ((b"old", b"older"), (b"old", b"old"), (b"new", b"old"))
        left = [tmp_path / name for name in os.listdir(tmp_path) if name not in ("c", "backup")]
        assert not left or failing.failed in REMOVING
        for folder in left:
            shutil.rmtree(folder)
        assert has_failed or left or failing.failed in {"link", *IGNORED}  # without a link it is copied
        seen.append(found)
    assert failing.seen == {"open", "write", "chmod", "fsync", "close", "replace", "link", "mkdir", "rmdir", "stat", "fstat"}
    assert (path.read_bytes(), backup.read_bytes()) == (b"new", b"old")
    assert set(seen) == {(b"old", b"older"), (b"old", b"old"), (b"new", b"old")}
