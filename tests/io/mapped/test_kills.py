"""A process that is killed in training leaves the state of a flush."""

import random
import signal
import subprocess
import sys

import pytest
from common import with_path
from mapped_tables import optimizer_of, state_in, state_of, train

import fastembed as fe

KILLED = """
import pathlib, sys
import fastembed as fe
from mapped_tables import optimizer_of, train
path, kind, end, every = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), 3
with fe.Embedding.open(path, "r+") as layer:
    optimizer = optimizer_of(kind, layer)
    step = optimizer.state_dict()["items"][0]["step"]
    print(f"ready {step}", flush=True)
    while step < end:
        train(layer, optimizer, [step])
        step += 1
        if step % every == 0:
            layer.flush()
            print(f"flushed {step}", flush=True)  # one write, which no kill cuts, also where Python does not buffer
"""


def run_and_kill(path, kind, end, delay=None):
    """The last step that a child said was flushed; it is killed after a delay, or after a flush."""
    command = [sys.executable, "-c", with_path(KILLED), str(path), kind, str(end)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    lines = [process.stdout.readline()]
    assert lines[0].startswith("ready")
    if delay is None:
        lines.append(process.stdout.readline())
    try:
        process.wait(delay or 0)
    except subprocess.TimeoutExpired:
        process.kill()
    assert process.wait() in (0, -signal.SIGKILL)
    lines += process.stdout.read().splitlines()
    process.stdout.close()
    return max(int(line.split()[1]) for line in lines)


def kill_often(path, kind, n_kills):
    rng = random.Random(kind)
    expected = fe.Embedding(400, 16, rng=1)
    like, at = optimizer_of(kind, expected), 0
    fe.Embedding.create(path, (400, 16), rng=1).close()
    for delay in [*(0.08 * rng.random() for _ in range(n_kills - 1)), None]:
        said = run_and_kill(path, kind, 10**9, delay)
        found = state_in(path, kind)
        assert said <= found[2] <= said + 3  # one more may have been complete, and not said
        assert found[2] % 3 == 0
        train(expected, like, range(at, found[2]))
        at = found[2]
        assert found == state_of(expected, like)
        assert state_in(path, kind, "r") == found[:1]
    assert at > 0
    run_and_kill(path, kind, at + 7, 600)
    train(expected, like, range(at, at + 7))
    assert state_in(path, kind) == state_of(expected, like)


@pytest.mark.on_reference
@pytest.mark.uninstrumented
@pytest.mark.parametrize("kind", ["SparseAdam", pytest.param("Adam", marks=pytest.mark.slow_on_reference)])
def test_kills_leave_the_last_flush(path, kind):
    kill_often(path, kind, 5)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["SparseAdam", "Adam"])
def test_a_hundred_kills(path, kind):
    kill_often(path, kind, 100)
