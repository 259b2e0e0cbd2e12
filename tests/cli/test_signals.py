"""SIGINT, SIGTERM, SIGHUP: training is saved and goes on later to the bit; other commands end."""

import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
import time

import pytest
from running import run, status_of

from fastembed import checkpoint, cli
from fastembed.cli.watch import program
from fastembed.io import checkpoint as io_checkpoint
from fastembed.microgpt import GPT

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
each_signal = pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)


def raise_in(monkeypatch, number, *, at_call, of=GPT, name="loss"):
    """Let a signal come in the middle of a call of a method, and again in each that follows."""
    calls, method = [], getattr(of, name)

    def interrupted(*arguments, **options):
        calls.append(arguments)
        if len(calls) >= at_call:
            signal.raise_signal(number)
        return method(*arguments, **options)

    monkeypatch.setattr(of, name, interrupted)
    return calls


@each_signal
def test_training_is_saved_and_goes_on_to_the_bit(folder, monkeypatch, capsys, number):
    options = ["--steps", "12", "--n-layer", "2"]
    assert status_of(["train", "text", *options, "--out", "whole", "--losses", "whole.txt"]) == 0
    whole = capsys.readouterr().out
    with monkeypatch.context() as patched:
        calls = raise_in(patched, number, at_call=5)
        assert status_of(["train", "text", *options, "--out", "part", "--losses", "1.txt"]) == 128 + number
        assert len(calls) == 5
    shown = capsys.readouterr()
    assert f"interrupted by {number.name}, at step 5 of 12; checkpoint: part" in shown.err
    assert f"go on with: {program()} train --resume part --out part" in shown.out
    assert "sample" not in shown.out
    assert status_of(["train", "--resume", "part", "--out", "rest", "--losses", "2.txt"]) == 0
    assert (folder / "1.txt").read_text() + (folder / "2.txt").read_text() == (folder / "whole.txt").read_text()
    assert (folder / "rest").read_bytes() == (folder / "whole").read_bytes()
    assert capsys.readouterr().out.partition("sample")[2].replace(" rest", " whole") == whole.partition("sample")[2]


@each_signal
def test_signals_during_the_save_and_after_it(folder, monkeypatch, capsys, number):
    with monkeypatch.context() as patched:
        raise_in(patched, number, at_call=3, of=io_checkpoint, name="replacing")  # after one for each file of the trial
        assert status_of(["train", "text", "--steps", "2", "--out", "new"]) == 128 + number
    assert "at step 2 of 2; checkpoint: new" in capsys.readouterr().err
    assert checkpoint.load("new")[1]["step"] == 2
    with monkeypatch.context() as patched:
        raise_in(patched, number, at_call=3, name="sample")
        assert status_of(["train", "text", "--steps", "2", "--out", "newer"]) == 128 + number
    assert f"interrupted by {number.name}, at step 2 of 2; checkpoint: newer" in capsys.readouterr().err
    assert checkpoint.load("newer")[1]["step"] == 2


@each_signal
def test_signals_before_the_first_step_and_in_other_commands(folder, monkeypatch, capsys, number):
    before = sorted(os.listdir())
    with monkeypatch.context() as patched:
        raise_in(patched, number, at_call=1, of=GPT, name="__init__")
        assert status_of(["train", "text", "--out", "new"]) == 128 + number
    assert f"interrupted by {number.name}, nothing is saved" in capsys.readouterr().err
    with monkeypatch.context() as patched:
        raise_in(patched, number, at_call=4, name="sample")
        assert status_of(["sample", "model"]) == 128 + number
    assert capsys.readouterr().out.count("sample ") == 3
    assert sorted(os.listdir()) == before


def test_saves_come_in_time(folder, capsys, monkeypatch):
    steps, save = [], io_checkpoint.save

    def counted(path, tensors, description):
        steps.append(description["step"])
        if len(steps) == 3:
            raise OSError(28, "No space left on device", str(path))
        save(path, tensors, description)

    monkeypatch.setattr(io_checkpoint, "save", counted)
    losses = ["--losses", "losses"]
    assert status_of(["train", "text", "--steps", "10", "--save-every", "3", "--out", "new", *losses]) == 0
    assert steps == [0, 3, 6, 9, 10]  # the first is the trial
    assert "at step 6: cannot write new: No space left on device; training goes on" in capsys.readouterr().err
    assert not [name for name in os.listdir() if name.endswith((".tmp", ".bak"))]


@pytest.mark.uninstrumented
def test_a_kill_costs_the_steps_since_the_last_save(folder):
    options = ["--steps", "1000000", "--save-every", "50", "--out", "new", "--losses", "losses"]
    command = [sys.executable, "-m", "fastembed", "train", "text", *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr.readline().startswith(b"step   100 ")
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.stderr.close()
    step = checkpoint.load(folder / "new")[1]["step"]
    assert step >= 50
    assert step % 50 == 0
    assert len((folder / "losses").read_text().split()) in (step, step - 50)
    result = run("train", "--resume", "new", "--out", "new", "--stop-at", step + 1, cwd=folder)
    assert result.returncode == 0, result.stderr


@pytest.mark.uninstrumented
@each_signal
def test_a_process_is_ended_by_signals(folder, number):
    """As `timeout` does it, which sends two of them."""
    command = [sys.executable, "-m", "fastembed", "train", "text", "--steps", "1000000", "--out", "new"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr.readline().startswith("step   100 ")
    process.send_signal(number)
    process.send_signal(number)
    shown = process.communicate(timeout=300)[1]
    assert process.returncode == 128 + number
    assert f"interrupted by {number.name}, at step" in shown
    assert "Traceback" not in shown
    assert checkpoint.load(folder / "new")[1]["step"] >= 100


@pytest.mark.uninstrumented
@pytest.mark.fork
@pytest.mark.parametrize("key", [b"\x03", None], ids=["Ctrl-C", "hang-up"])
def test_a_terminal_interrupts_and_hangs_up(folder, key):
    pytest.importorskip("tqdm")
    pid, terminal = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        os.execv(sys.executable, [sys.executable, "-m", "fastembed", "train", "text", "--steps", "1000000", "--out", "new"])
    shown = b""
    while b"step/s" not in shown:  # that of the progress bar
        shown += os.read(terminal, 1 << 16)
    if key is not None:
        os.write(terminal, key)
        with contextlib.suppress(OSError):  # that is the end of the output
            while more := os.read(terminal, 1 << 16):
                shown += more
        assert b"interrupted by SIGINT, at step" in shown
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 128 + (signal.SIGHUP if key is None else signal.SIGINT)
    assert checkpoint.load(folder / "new")[1]["step"] > 0


@pytest.mark.uninstrumented
def test_nohup_is_respected(folder):
    command = ["nohup", sys.executable, "-m", "fastembed", "train", "text", "--steps", "1000", "--out", "new"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while "step   100 " not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=300)
    assert process.returncode == 0
    assert checkpoint.load(folder / "new")[1]["step"] == 1000


def test_waiting_for_a_text_can_be_interrupted(folder):
    os.mkfifo(folder / "fifo")
    command = [sys.executable, "-m", "fastembed", "train", "fifo"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with open(folder / "fifo", "w"):  # is open when the other end is
        while process.poll() is None:  # Python sees a signal just before a read that waits at the next signal
            process.send_signal(signal.SIGTERM)
            time.sleep(0.1)
        shown = process.communicate(timeout=300)
    assert (process.returncode, *shown) == (128 + signal.SIGTERM, "", "fastembed: interrupted by SIGTERM, nothing is saved\n")


def test_handlers_are_as_before_and_threads_have_none(folder):
    before = [signal.getsignal(number) for number in SIGNALS]
    status = []
    thread = threading.Thread(target=lambda: status.append(cli.main(["info", "model"])))
    thread.start()
    thread.join()
    assert status == [0]
    assert cli.main(["info", "model"]) == 0
    assert [signal.getsignal(number) for number in SIGNALS] == before
