"""Shared tables in other processes: forked, spawned, unrelated, killed; and threads."""

import fcntl
import multiprocessing
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from common import look_up_twice, needs_c, with_path

import fastembed as fe
from fastembed.io.shared import segment


def layer_of(value, shape=(50, 8)):
    return fe.Embedding.from_pretrained(np.full(shape, value, "f4"))


@pytest.mark.fork
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_that_get_a_table(name, method):
    layer = layer_of(1)
    layer.share(name)
    mine, its = multiprocessing.Pipe()
    context = multiprocessing.get_context(method)
    process = context.Process(target=look_up_twice, args=(fe.Embedding.attach(name), its))
    process.start()
    its.close()  # so that a child that ends gives an EOFError here
    assert mine.recv() == 8
    layer.set_rows([7], 2.0)
    mine.send(None)
    assert mine.recv() == 16
    process.join()
    assert process.exitcode == 0


def test_an_unrelated_process(name):
    layer_of(3).share(name)
    script = f"import fastembed as fe; print(fe.Embedding.attach({name!r}).snapshot().sum())"
    result = subprocess.run([sys.executable, "-c", with_path(script)], capture_output=True, text=True, check=True)
    assert result.stdout == "1200.0\n"


@pytest.mark.fork
def test_a_forked_child_publishes_nothing_and_locks_nothing(name):
    layer = layer_of(1)
    shared, table = layer.share(name), fe.Embedding.attach(name)
    to_child, from_child = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        layer.set_rows([1], 9.0)  # in memory of its own
        for use in (shared.publish, shared.remove):
            try:
                use()
            except RuntimeError as error:
                os.write(from_child[1], b"y" if "which alone may write it" in str(error) else b"n")
        os.read(to_child[0], 1)
        os._exit(0)
    assert os.read(from_child[0], 1) + os.read(from_child[0], 1) == b"yy"
    assert (table.snapshot() == 1).all()
    layer.set_rows([2], 2.0)
    assert (table([2]) == 2).all()
    shared.close()
    layer_of(4).share(name, replace=True).close()  # while the child lives
    assert (table.snapshot() == 4).all()
    os.write(to_child[1], b"x")
    assert os.waitpid(child, 0)[1] == 0


def test_a_dropped_layer_ends_sharing(name):
    layer = layer_of(1)
    shared = layer.share(name)
    del layer
    with pytest.raises(ValueError, match=r"the layer of .* is gone"):
        shared.publish()
    del shared
    layer_of(2).share(name, replace=True)


def test_a_snapshot_and_a_trainer_wait_for_each_other(name, monkeypatch):
    """Who writes waits for a snapshot that holds the lock, but not for ever, and once only."""
    layer = layer_of(1)
    layer.share(name)
    table = fe.Embedding.attach(name)
    script = f"""
import fcntl, sys, time
file = open({str(segment.path_of(name))!r}, "rb")
fcntl.lockf(file, fcntl.LOCK_SH)
print("locked", flush=True)
sys.stdin.read()
"""
    arguments = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", script], **arguments) as process:
        assert process.stdout.readline() == "locked\n"
        monkeypatch.setattr(segment.Segment, "patience", 0.2)
        start = time.monotonic()
        layer.set_rows([1], 2.0)
        assert time.monotonic() - start >= 0.2
        assert (table([1]) == 2).all()
        assert not layer.storage.publisher._is_patient
        monkeypatch.setattr(segment.Segment, "patience", 3600.0)
        layer.set_rows([1], 3.0)  # does not wait again
        process.communicate()
    layer.set_rows([1], 4.0)
    assert layer.storage.publisher._is_patient
    assert (table([1]) == 4).all()


@needs_c
def test_a_snapshot_beside_a_trainer_that_always_writes(name, monkeypatch):
    layer = layer_of(0, (2000, 64))
    layer.share(name)
    script = f"""
import numpy as np, fastembed as fe
table = fe.Embedding.attach({name!r})
for _ in range(30):
    rows = table.snapshot()
    assert (rows == rows[0, 0]).all(), "two moments"
"""
    values, step, is_done = np.empty((2000, 64), "f4"), 0, threading.Event()
    with subprocess.Popen([sys.executable, "-c", with_path(script)]) as process:
        threading.Thread(target=lambda: (process.wait(), is_done.set())).start()
        while not is_done.is_set():
            step += 1
            values[:] = step
            layer.set_rows(np.arange(2000), values)
    assert process.returncode == 0


def test_a_snapshot_that_cannot_succeed(name, monkeypatch):
    layer_of(1).share(name)
    table = fe.Embedding.attach(name)

    class Changing:
        is_replaced, read_at_once = False, staticmethod(lambda *_: False)

    monkeypatch.setattr(table._segment, "rows", Changing())
    monkeypatch.setattr(segment, "_TIMEOUT", -3600)
    with pytest.raises(TimeoutError, match="is written so often that no snapshot of 50 rows succeeded"):
        table.snapshot()
    with open(table._segment.path, "r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
