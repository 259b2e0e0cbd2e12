"""What a rank runs as a process, and how the processes of a run are started.

    python ranks.py TRANSPORT JOB [ARGUMENT ...]

Each rank prints one line of JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
DEADLINE = 8.0  # seconds, of the ranks
LIMIT = 60.0  # seconds, of a run
REST = 15.0  # seconds of the ranks that are left when one has ended

# Open MPI refuses to run as root, and to run more ranks than there are processors, unless told so.
_AS_ROOT = {f"{what}_ALLOW_RUN_AS_ROOT{more}": "1" for what in ("OMPI", "PRTE") for more in ("", "_CONFIRM")}
_OPTIONS = {"openmpi": ["--oversubscribe"], "mpich": []}


class Ended(NamedTuple):
    """A run that is over: what its ranks said, and all other output."""

    said: list[dict[str, Any]]
    others: str
    seconds: float
    status: int


@cache
def python_of(transport: str) -> str | None:
    """The interpreter whose environment has the transport, or None."""
    if transport == "gloo":
        for python in (sys.executable, str(ROOT / ".venv-bench/bin/python")):
            if os.path.exists(python) and subprocess.run([python, "-c", "import torch"], capture_output=True).returncode == 0:
                return python
        return None
    python = ROOT / ".venv-mpi" / transport / "bin/python"
    return str(python) if python.exists() else None


def mpiexec(transport: str, size: int, *command: str) -> subprocess.CompletedProcess[str]:
    """``mpiexec -n size python command``."""
    python = python_of(transport)
    assert python is not None
    start = [str(Path(python).with_name("mpiexec")), *_OPTIONS[transport], "-n", str(size), python]
    env = {**os.environ, **_AS_ROOT, "PYTHONPATH": str(ROOT), "FASTEMBED_NUM_THREADS": "1"}
    return subprocess.run([*start, *command], env=env, capture_output=True, text=True, timeout=LIMIT)


def run(transport: str, size: int, *job: Any, within: Sequence[Sequence[str]] = (), **variables: str) -> Ended:
    """Run a job in ``size`` ranks; with gloo ``within`` are commands that start each one's."""
    python = python_of(transport)
    assert python is not None
    command = [python, __file__, transport, *map(str, job)]
    paths = [ROOT, ROOT / "tests/distributed"]
    env = {**os.environ, **_AS_ROOT, "PYTHONPATH": os.pathsep.join(map(str, paths)), "FASTEMBED_NUM_THREADS": "1", **variables}
    start = time.monotonic()
    if transport == "gloo":
        store = subprocess.run(["mktemp", "-u"], capture_output=True, text=True, check=True).stdout.strip()
        own = {"WORLD_SIZE": str(size), "STORE": store, "OMP_NUM_THREADS": "1"}
        starts = within or [[]] * size
        children = [_start([*starts[rank], *command], {**env, **own, "RANK": str(rank)}) for rank in range(size)]
    else:
        launcher = Path(python).with_name("mpiexec")
        children = [_start([str(launcher), *_OPTIONS[transport], "-n", str(size), *command], env)]
    _wait(children, start + LIMIT)
    outputs = [child.communicate() for child in children]
    lines = [line for out, err in outputs for line in (out + err).splitlines()]
    said = sorted((json.loads(line) for line in lines if line.startswith("{")), key=lambda line: line["rank"])
    status = max(abs(child.returncode) for child in children)
    others = "\n".join(line for line in lines if not line.startswith("{"))
    return Ended(said, others, time.monotonic() - start, status)


def _start(command: list[str], env: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _wait(children: list[subprocess.Popen[str]], end: float) -> None:
    """Wait for all, which say little enough for a pipe; kill those that stand still."""
    has_ended = False
    while any(child.poll() is None for child in children) and time.monotonic() < end:
        if not has_ended and any(child.poll() is not None for child in children):
            has_ended, end = True, min(end, time.monotonic() + REST)
        time.sleep(0.05)
    for child in children:
        child.kill()


# ---- in a rank ----


def group_of(transport: str) -> Any:
    from fastembed import distributed

    if transport != "gloo":
        return distributed.mpi(deadline=DEADLINE)
    import torch.distributed

    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    torch.distributed.init_process_group("gloo", init_method=f"file://{os.environ['STORE']}", rank=rank, world_size=size)
    return distributed.gloo(deadline=DEADLINE)


def digests(state: dict[str, Any]) -> dict[str, str]:
    return {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in state.items()}


def train(group: Any, steps: str) -> dict[str, Any]:
    """Exact AdamW."""
    from runs import sharded, share, train_lookups, whole_state

    import fastembed as fe

    layer = sharded(group, partition="hash")
    opt = fe.optim.AdamW(layer, lr=0.01, weight_decay=0.1)
    train_lookups(layer, opt, range(int(steps)), share(group.rank, group.size))
    return digests(whole_state(layer, opt))


def disturb(group: Any, victim: str, after: str, number: str) -> None:
    """Let one rank get a signal in its exchange number ``after``, counted from now.

    Without a number of a signal its link is cut.
    """
    left = int(after)
    exchange = group._transport.exchange

    def counted(*arguments: Any) -> None:
        nonlocal left
        if group.rank == int(victim) and left == 0:
            if number:
                os.kill(os.getpid(), int(number))
            else:
                subprocess.run(["ip", "link", "set", os.environ["GLOO_SOCKET_IFNAME"], "down"], check=True)
        left -= 1
        exchange(*arguments)

    group._transport.exchange = counted


def resumed(group: Any, folder: str, end: str, *disturbance: str) -> dict[str, Any]:
    """Exact AdamW, from the last checkpoint on, with one every 10 steps; disturbed after step 14.

    What a rank raises is what it says.
    """
    from runs import sharded, share, train_lookups, whole_state

    import fastembed as fe
    from fastembed import distributed

    layer = sharded(group, partition="hash")
    opt = fe.optim.AdamW(layer, lr=0.01, weight_decay=0.1)
    saves = distributed.Checkpoints(folder, group, {"emb": layer}, opt)
    first = saves.load() if os.path.exists(folder) else 0
    group.barrier()
    start = time.monotonic()
    try:
        for step in range(first, int(end)):
            if disturbance and step == 14:
                disturb(group, *disturbance)
                start = time.monotonic()
            train_lookups(layer, opt, range(step, step + 1), share(group.rank, group.size))
            if step % 10 == 9:
                saves.save(step + 1)
    except distributed.PeerError as error:
        return {"error": str(error), "peers": list(error.peers), "seconds": time.monotonic() - start}
    return {"first": first, **digests(whole_state(layer, opt))}


JOBS = {"train": train, "resumed": resumed}


def main(transport: str, job: str, *arguments: str) -> None:
    group = group_of(transport)
    found = JOBS[job](group, *arguments)
    # One write of a whole line: the ranks' lines must not be mixed.
    os.write(1, (json.dumps({"rank": group.rank, **found}) + "\n").encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
