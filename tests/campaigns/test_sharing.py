"""Many threads on one layer, forks, exits and a soak, in short; and that faults would be seen."""

import threading
import types

import numpy as np
import pytest
from common import needs_c
from sharing import processes, shared_tables, soak, threads

pytestmark = [needs_c, pytest.mark.uninstrumented]


def test_many_threads_on_one_layer(tmp_path, capsys):
    assert threads.run(2.0, 0, tmp_path) == 0, capsys.readouterr().out


def test_a_torn_row_is_seen(tmp_path, monkeypatch):
    """A step that writes the halves of rows one after the other, without the lock.

    It waits for as many look-ups as there are readers, and one more, which begins after the first
    half.
    """
    look_up, looked_up = threads._look_up, threading.Semaphore(0)

    def counted(*arguments):
        found = look_up(*arguments)
        looked_up.release()
        return found

    def step(subject):
        subject.layer.weight[:, :5] += 1
        while looked_up.acquire(blocking=False):
            pass
        for _ in range(threads.N_READERS + 1):
            assert looked_up.acquire(timeout=600)
        subject.layer.weight[:, 5:] += 1

    monkeypatch.setattr(threads, "_look_up", counted)
    monkeypatch.setattr(threads.Uniform, "step", step)
    faults, _ = threads.run_for(0.2, 0, None, "float32", "SGD")
    assert faults["a look-up returns a row of two steps"] > 0


@pytest.mark.fork
def test_forks_and_exits(capsys):
    assert processes.run(1, 1) == 0, capsys.readouterr().out


def test_a_script_that_fails_or_hangs_is_seen():
    assert "status 1" in processes._run("raise SystemExit('x')", 0, 60)
    assert "did not end" in processes._run("import time; time.sleep(60)", 0, 1)


def test_memory_that_grows_is_seen(tmp_path, capsys, monkeypatch):
    """A round takes a second of a clock of this test's own."""
    kept, clock = [], types.SimpleNamespace(seconds=0)
    clock.monotonic = lambda: clock.seconds

    def work(*_):
        clock.seconds += 1
        if is_growing:
            kept.append(np.ones(100_000))

    monkeypatch.setattr(soak, "time", clock)
    monkeypatch.setattr(soak, "warm_up", lambda *_: None)
    monkeypatch.setattr(soak, "work", work)
    for is_growing in (True, False):
        assert soak.run(2.0, 0, tmp_path, 0.1, 50) == is_growing
        assert capsys.readouterr().out.count(" resident") == 3  # after 50 rounds and 100, and the most


def test_a_round_of_the_soak(tmp_path):
    made = soak.seeds.make(tmp_path / "seeds")
    soak.work(0, 0, tmp_path, made)


def test_a_shared_table_with_kills():
    n_read, n_steps, n_kills, faults = shared_tables.run(400_000, 2, 5, 100_000, n_least_kills=2)
    assert not faults
    assert n_read >= 300_000
    assert n_steps > 0
    assert n_kills >= 2


def test_a_torn_row_of_a_shared_table_is_seen():
    assert "a torn row" in shared_tables.run(1 << 60, 1, 6, 1, "write_halves")[3][0]


@pytest.mark.uninstrumented
def test_memory_of_processes_that_read_a_shared_table():
    n_bytes = 32 << 20  # containers often have 64 MB of shared memory
    for added, _ in shared_tables.memory(n_bytes, 2):
        assert added * 1024 < n_bytes // 10  # small buffers, and code that is loaded by the first call
