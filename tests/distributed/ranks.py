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
DEADLINE = 4.0  # seconds, of the ranks
LIMIT = 60.0  # seconds, of a run

# Open MPI refuses to run as root, and to run more ranks than there are processors, unless told so.
_AS_ROOT = {f"{what}_ALLOW_RUN_AS_ROOT{more}": "1" for what in ("OMPI", "PRTE") for more in ("", "_CONFIRM")}
_OPTIONS = {"openmpi": ["--oversubscribe"], "mpich": []}


class Ended(NamedTuple):
    """A run that is over: what its ranks said, and the error output of all."""

    said: list[dict[str, Any]]
    errors: str
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


def run(transport: str, size: int, *job: Any, options: Sequence[str] = ()) -> Ended:
    """Run a job in ``size`` ranks; ``options`` are those of mpiexec."""
    python = python_of(transport)
    assert python is not None
    command = [python, __file__, transport, *map(str, job)]
    paths = [ROOT, ROOT / "tests/distributed"]
    env = {**os.environ, **_AS_ROOT, "PYTHONPATH": os.pathsep.join(map(str, paths)), "FASTEMBED_NUM_THREADS": "1"}
    start = time.monotonic()
    if transport == "gloo":
        store = subprocess.run(["mktemp", "-u"], capture_output=True, text=True, check=True).stdout.strip()
        own = {"WORLD_SIZE": str(size), "STORE": store, "OMP_NUM_THREADS": "1"}
        children = [_start(command, {**env, **own, "RANK": str(rank)}) for rank in range(size)]
    else:
        launcher = Path(python).with_name("mpiexec")
        children = [_start([str(launcher), *_OPTIONS[transport], *options, "-n", str(size), *command], env)]
    outputs = [_output(child, start + LIMIT) for child in children]
    said = [json.loads(line) for out, _ in outputs for line in out.splitlines() if line.startswith("{")]
    status = max((abs(child.returncode) for child in children), default=0)
    return Ended(
        sorted(said, key=lambda line: line["rank"]), "\n".join(err for _, err in outputs), time.monotonic() - start, status
    )


def _start(command: list[str], env: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _output(child: subprocess.Popen[str], end: float) -> tuple[str, str]:
    try:
        return child.communicate(timeout=max(end - time.monotonic(), 0.1))
    except subprocess.TimeoutExpired:
        child.kill()
        return child.communicate()


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


JOBS = {"train": train}


def main(transport: str, job: str, *arguments: str) -> None:
    group = group_of(transport)
    found = JOBS[job](group, *arguments)
    # One write of a whole line: the ranks' lines must not be mixed.
    os.write(1, (json.dumps({"rank": group.rank, **found}) + "\n").encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
