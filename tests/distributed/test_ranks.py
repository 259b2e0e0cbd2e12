"""Ranks as processes: Open MPI, MPICH (of `make test-mpi`) and gloo, each if it is there."""

import os
import shutil
import signal
import subprocess
import sys

import pytest
import ranks
from common import same_bits
from runs import local_state, table, train_lookups

import fastembed as fe
from fastembed import checkpoint

TRANSPORTS = ("openmpi", "mpich", "gloo")


def run(transport, size, *job, **options):
    if ranks.python_of(transport) is None:
        pytest.skip(f"{transport} is not installed: make test-mpi, or PyTorch")
    return ranks.run(transport, size, *job, **options)


@pytest.fixture(scope="module")
def undisturbed():
    """The digests of the whole run, by one process with a local layer."""
    layer = fe.Embedding.from_pretrained(table())
    opt = fe.optim.AdamW(layer, lr=0.01, weight_decay=0.1)
    train_lookups(layer, opt, range(200))
    return ranks.digests(local_state(layer, opt))


@pytest.mark.long
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_two_hundred_steps_of_adamw(transport, size, undisturbed):
    ended = run(transport, size, "train", 200)
    assert ended.status == 0, ended.others
    assert ended.said == [{"rank": rank, **undisturbed} for rank in range(size)]


each_message = pytest.mark.parametrize("exchange", range(5))  # call: agreement, ids, rows; backward: agreement, gradients


@pytest.mark.long
@each_message
def test_a_kill_over_gloo(exchange, tmp_path):
    """The others say so at once; a run of another number of ranks goes on."""
    ended = run("gloo", 3, "resumed", tmp_path / "saves", 25, 2, exchange, int(signal.SIGKILL))
    assert ended.status != 0
    assert [line["rank"] for line in ended.said] == [0, 1], ended.others
    for line in ended.said:
        assert "of ShardedEmbedding(53, 5" in line["error"]
        assert line["seconds"] < ranks.DEADLINE + 2
    assert any(line["peers"] == [2] for line in ended.said), ended.said
    assert_goes_on("gloo", tmp_path / "saves")


@pytest.mark.long
@each_message
@pytest.mark.parametrize("transport", ["openmpi", "mpich"])
def test_a_kill_over_mpi(transport, exchange, tmp_path):
    """Its mpiexec ends the others."""
    ended = run(transport, 3, "resumed", tmp_path / "saves", 25, 2, exchange, int(signal.SIGKILL))
    assert ended.status != 0
    assert ended.seconds < 30
    assert ended.said == []
    assert "signal 9" in ended.others.lower() or "signal: 9" in ended.others.lower()
    assert_goes_on(transport, tmp_path / "saves")


@pytest.mark.long
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_rank_that_stands_still(transport, tmp_path):
    """As behind a cut link: nobody is told. MPI ends it with the others."""
    ended = run(transport, 3, "resumed", tmp_path / "saves", 25, 1, 1, int(signal.SIGSTOP))
    assert ended.status != 0
    assert [line["rank"] for line in ended.said] == [0, 2], ended.others
    assert any(1 in line["peers"] for line in ended.said), ended.said
    assert all(line["seconds"] < ranks.DEADLINE + 2 for line in ended.said)
    assert_goes_on(transport, tmp_path / "saves")


@pytest.fixture
def namespaces():
    """Commands that start a process in each of two network namespaces, joined by a veth pair."""
    names, link = [f"fastembed-{os.getpid()}-{rank}" for rank in range(2)], "fe-veth"
    if os.name != "posix" or os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")
    made = subprocess.run(["ip", "netns", "add", names[0]], capture_output=True)
    if made.returncode:
        pytest.skip(f"no network namespaces here: {made.stderr.decode().strip()}")
    try:
        ip("netns", "add", names[1])
        ip("-n", names[0], "link", "add", link, "type", "veth", "peer", "name", link, "netns", names[1])
        for rank, name in enumerate(names):
            ip("-n", name, "addr", "add", f"10.77.0.{rank + 1}/24", "dev", link)
            ip("-n", name, "link", "set", link, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield [["ip", "netns", "exec", name] for name in names], {"GLOO_SOCKET_IFNAME": link}
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.mark.long
def test_two_network_namespaces(namespaces, undisturbed):
    within, variables = namespaces
    ended = run("gloo", 2, "train", 200, within=within, **variables)
    assert ended.said == [{"rank": rank, **undisturbed} for rank in range(2)], ended.others


@pytest.mark.long
def test_a_cut_link(namespaces, tmp_path):
    within, variables = namespaces
    ended = run("gloo", 2, "resumed", tmp_path / "saves", 25, 1, 1, "", within=within, **variables)
    assert [(line["rank"], line["peers"]) for line in ended.said] == [(0, [1]), (1, [0])], ended.others
    for line in ended.said:
        assert "no answer within the deadline" in line["error"]
        assert line["seconds"] < ranks.DEADLINE + 2
    assert_goes_on("gloo", tmp_path / "saves")


def assert_goes_on(transport, folder):
    """Two ranks end with the bits of a run that nothing disturbed."""
    layer = fe.Embedding.from_pretrained(table())
    opt = fe.optim.AdamW(layer, lr=0.01, weight_decay=0.1)
    train_lookups(layer, opt, range(25))
    ended = run(transport, 2, "resumed", folder, 25)
    expected = {"first": 10, **ranks.digests(local_state(layer, opt))}
    assert ended.said == [{"rank": rank, **expected} for rank in range(2)], ended.others


@pytest.mark.long
@pytest.mark.parametrize("transport", ["openmpi", "mpich"])
def test_train_of_the_command_line(transport, tmp_path):
    """Three ranks write the files of one process; an error of one ends all at once."""
    if ranks.python_of(transport) is None:
        pytest.skip(f"{transport} is not installed: make test-mpi")
    given = ["-m", "fastembed", "train", "--steps", "12", "--batch", "4", "--quiet"]
    files = ["--out", str(tmp_path / "three.safetensors"), "--losses", str(tmp_path / "three.txt")]
    three = ranks.mpiexec(transport, 3, *given, "--mpi", *files)
    assert three.returncode == 0, three.stderr
    alone = [*given, "--out", str(tmp_path / "one.safetensors"), "--losses", str(tmp_path / "one.txt")]
    subprocess.run([sys.executable, *alone], check=True, cwd=ranks.ROOT)
    assert (tmp_path / "three.txt").read_text() == (tmp_path / "one.txt").read_text()
    found, expected = (checkpoint.load(tmp_path / f"{name}.safetensors")[0] for name in ("three", "one"))
    assert all(same_bits(found[name], array) for name, array in expected.items())
    again = ranks.mpiexec(transport, 3, *given, "--mpi", *files)
    assert again.returncode != 0
    assert "three.safetensors" in again.stderr
    assert "rank 0: refused" in again.stderr
