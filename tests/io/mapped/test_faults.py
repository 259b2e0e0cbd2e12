"""Flushes, resizes and creations that fail anywhere leave the old state or the new one."""

import builtins
import os

import numpy as np
import pytest
from mapped_tables import D, V, optimizer_of, state_in, state_of, train

import fastembed as fe
from fastembed.io import journal

pytestmark = pytest.mark.on_reference


class Failing:
    """Lets the n-th of the calls that write fail, and counts them."""

    def __init__(self, monkeypatch):
        self.left = -1
        self.n_calls = 0
        for name in ("fsync", "replace", "pwrite", "unlink", "open", "fchmod"):
            monkeypatch.setattr(os, name, self.wrapped(getattr(os, name)))
        monkeypatch.setattr(builtins, "open", self.wrapped(open))
        monkeypatch.setattr(journal, "_write_at", self.torn(journal._write_at))

    def wrapped(self, call):
        def failing(*arguments, **options):
            self.n_calls += 1
            self.left -= 1
            if self.left == 0:
                raise OSError(28, "No space left on device")
            return call(*arguments, **options)

        return failing

    def torn(self, call):
        """Half of what was to be written is, before it fails."""

        def failing(descriptor, data, offset):
            self.n_calls += 1
            self.left -= 1
            if self.left == 0:
                call(descriptor, data[: len(data) // 2], offset)
                raise OSError(5, "Input/output error")
            return call(descriptor, data, offset)

        return failing


@pytest.mark.parametrize("kind", ["SparseAdam", "Adam"])
def test_a_flush_that_fails_anywhere(path, kind, monkeypatch):
    """The files hold the state of the last flush or of this one; the next flush succeeds."""
    layer = fe.Embedding.create(path, (V, D), rng=1)
    optimizer = optimizer_of(kind, layer)
    train(layer, optimizer, range(2))
    layer.flush()
    failing, last, seen = Failing(monkeypatch), state_of(layer, optimizer), []
    for n in range(1, 1000):
        train(layer, optimizer, range(2 * n, 2 * n + 2))
        new = state_of(layer, optimizer)
        failing.left = n
        try:
            layer.flush()
        except OSError:
            failing.left = -1
            found = state_in(path, kind)
            assert found in (last, new)
            assert state_in(path, kind, "r") == found[:1]
            seen.append(found == new)
            assert state_of(layer, optimizer) == new
            train(layer, optimizer, [1000 + n])
            new = state_of(layer, optimizer)
            layer.flush()
        else:
            failing.left = -1
            break
        last = new
        assert state_in(path, kind) == last
    assert n > 15
    assert seen == sorted(seen)  # first those that fail before it counts
    assert 2 < sum(seen) < len(seen) - 2
    layer.close()
    assert state_in(path, kind) == new


def test_a_resize_that_fails_anywhere(tmp_path, monkeypatch):
    failing, seen = Failing(monkeypatch), []
    for n in range(1, 1000):
        (tmp_path / f"{n}").mkdir()
        path = tmp_path / f"{n}" / "t"
        layer = fe.Embedding.create(path, (V, D), rng=1)
        optimizer = optimizer_of("SparseAdam", layer)
        train(layer, optimizer, range(2))
        layer.flush()
        flushed = state_of(layer, optimizer)
        train(layer, optimizer, range(2, 4))
        now, failing.left = state_of(layer, optimizer), n
        new_n = V + 3 if n % 2 else V - 3
        try:
            layer.resize(new_n, new_rows=2.0)
        except OSError:
            failing.left = -1
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
            if not layer.storage.is_closed:  # nothing was decided: go on
                assert state_of(layer, optimizer) == now
                layer.resize(new_n, new_rows=2.0)
                assert len(layer.weight) == new_n
                train(layer, optimizer, [4])
            layer.close()
            state_in(path, "SparseAdam")
        else:
            failing.left = -1
            layer.close()
            break
    assert n > 20
    assert seen == sorted(seen)
    assert 3 < sum(seen) < len(seen) - 3


def test_a_create_that_fails_anywhere(tmp_path, monkeypatch):
    failing = Failing(monkeypatch)
    for n in range(1, 100):
        failing.left = n
        try:
            layer = fe.Embedding.create(tmp_path / f"{n}", (V, D), rng=1)
        except OSError:
            assert set(os.listdir(tmp_path)) <= {f"{n}"}
            failing.left = -1
            if (tmp_path / f"{n}").exists():  # whole
                fe.Embedding.open(tmp_path / f"{n}", "r+").close()
                os.unlink(tmp_path / f"{n}")
        else:
            break
    failing.left = -1
    layer.close()
    assert n > 3
