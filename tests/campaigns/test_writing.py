"""Writing calls that are disturbed, in short; and that a torn state would be seen."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from common import needs_c, with_path
from writing import allocations, calls, interrupts, subjects

from fastembed._kernels.backend import kernels

pytestmark = [needs_c, pytest.mark.uninstrumented]

ROOT = Path(__file__).parents[2]

needs_malloc = pytest.mark.skipif(
    sys.platform != "linux" or not shutil.which("cc") or "LD_PRELOAD" in os.environ, reason="a malloc is built and preloaded"
)


def run(script, environment=None):
    """The status and the output of a script in a process of its own."""
    command = [sys.executable, "-c", with_path(script)]
    found = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300)
    return found.returncode, found.stdout + found.stderr


def test_interrupts(capsys):
    assert interrupts.run(100, 0, optimizers="SparseAdam") == 0, capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:names of rows do not come into the file")
@pytest.mark.parametrize("name", calls.CALLS)
def test_no_python_code_runs_between_two_writes(monkeypatch, tmp_path, name):
    """There a handler of a signal would run, or an error be lost."""
    run_as_python = []

    def seen(frame, event, _):
        if event == "call":
            run_as_python.append(frame.f_code)

    class Watched(kernels.Commit):
        def run(self):
            write = super().run
            sys.setprofile(seen)
            try:
                write()
            finally:
                sys.setprofile(None)

    for case in calls.cases(name):
        subject = calls.made(*case[1:], tmp_path / "watched")
        prepared = calls.CALLS[name].prepare(subject)
        with monkeypatch.context() as patch:
            patch.setattr(kernels, "Commit", Watched)
            calls.CALLS[name].call(subject, prepared)
        subject.close()
        assert run_as_python == [], case


def test_a_call_that_an_interrupt_tears_is_seen(capsys, monkeypatch):
    def torn(subject, _):
        subject.layer.weight[0] += 1
        for _ in range(10**6):
            pass
        subject.layer.weight[1] += 1

    monkeypatch.setitem(calls.CALLS, "torn", subjects.Call(lambda subject: None, torn, ("Embedding",)))
    assert interrupts.run(5, 0, "torn", "Adam") == 1
    assert "torn Embedding Adam: torn: ['weight 0'] are neither" in capsys.readouterr().out


def test_going_on_with_other_bits_is_seen(capsys, monkeypatch):
    """The call changes what no state shows: which batch comes next."""

    def forgets(subject, _):
        for _ in range(10**6):
            pass
        next(subject.clock)

    monkeypatch.setitem(calls.CALLS, "forgets", subjects.Call(lambda subject: None, forgets, ("Embedding",)))
    monkeypatch.setattr(subjects.Trained, "later", lambda subject: {"next": next(subject.clock)})
    assert interrupts.run(3, 0, "forgets", "Adam") == 1
    assert "going on gives other bits of ['next']" in capsys.readouterr().out


@pytest.mark.fork
def test_kills():
    status, output = run("import sys; from writing import kills; sys.exit(kills.run(4, 0))")
    assert status == 0, output


@pytest.mark.fork
def test_a_save_that_a_kill_tears_is_seen():
    """The kill comes when half of the file is written, which the child says."""
    status, output = run(
        """
import os, signal, sys
from fastembed import checkpoint
from writing import kills
parent, save, (is_half, say) = os.getpid(), checkpoint.save, os.pipe()
def in_place(path, tensors, description):
    save(f"{path}.whole", tensors, description)
    whole = open(f"{path}.whole", "rb").read()
    with open(path, "wb") as file:
        file.write(whole[: len(whole) // 2])
        file.flush()
        if os.getpid() != parent:
            os.write(say, b"x")
            signal.pause()
        file.write(whole[len(whole) // 2 :])
checkpoint.save = in_place
kills.KINDS["save"] = ("tensors",)
kills.wait = lambda delay: os.read(is_half, 1)
sys.exit(kills.run(1, 0, "save"))
"""
    )
    assert status == 1
    assert "of save tensors: CheckpointError" in output


@needs_malloc
def test_each_allocation_of_a_call_fails():
    allocations.build()
    status, output = run(
        "import sys; from writing import allocations; sys.exit(allocations.walk(('set_rows', 'Embedding', 'Adam')))",
        allocations.environment(),
    )
    assert status == 0, output
    assert int(output.split("places 1 to ")[1].split(",")[0]) > 20


@needs_malloc
def test_a_call_that_an_allocation_tears_is_seen():
    allocations.build()
    status, output = run(
        """
import sys
from writing import allocations, calls, subjects
def torn(subject, _):
    subject.layer.weight[0] += 1
    subject.kept = bytearray(100_000)
    subject.layer.weight[1] += 1
calls.CALLS["torn"] = subjects.Call(lambda subject: None, torn, ("Embedding",))
sys.exit(allocations.walk(("torn", "Embedding", "Adam")))
""",
        allocations.environment(),
    )
    assert status == 1
    assert "torn: ['weight 0'] are neither" in output


@needs_malloc
def test_a_table_that_is_held_without_memory_is_freed_once():
    """Memory that is freed twice is found by what is allocated afterwards."""
    allocations.build()
    status, output = run(
        """
import ctypes, gc, json
import numpy as np
from fastembed._kernels.backend import kernels
gc.disable()
shim = ctypes.CDLL(None)
table = np.ones((12, 5), np.float32)
def hold(n):
    try:
        shim.fail_at(n)
        kernels.hold(table)
        shim.fail_at(0)  # no more
    except MemoryError as error:
        return error
for n in range(1, 8):
    error = hold(n)
    print(n, repr(error), flush=True)
    error = None
    for _ in range(6):
        [bytes(k) for k in range(3000)]
        json.dumps({str(k): [k, {"a": k}] for k in range(300)}, indent=1)
""",
        allocations.environment(),
    )
    assert status == 0, output
    assert output.count("MemoryError") >= 4
