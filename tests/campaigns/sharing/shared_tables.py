"""A shared table with a trainer at full speed, readers that check each row, and kills of all."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import fastembed as fe
from fastembed.io.shared import leftovers

N_ROWS, N_COLS, N_GROUP, N_CALL = 512, 32, 8, 4096
_N_STEPS = 20  # at least, between two kills
_WAIT = 0.05  # seconds between two looks at the processes
_LONGEST = 600  # seconds without a row read, after which a reader is taken to hang


def train(name: str, seed: int) -> None:
    """Write rows of one number each, that only grows; those of the group have the same one.

    A trainer that was killed is followed by one that goes on from what it has published.
    """
    try:
        table = fe.Embedding.attach(name).snapshot()
    except FileNotFoundError:
        table = np.zeros((N_ROWS, N_COLS))
    check(table, table[:N_GROUP])
    layer, rng, group = fe.Embedding.from_pretrained(table), np.random.default_rng(seed), np.arange(N_GROUP)
    shared, opt, step = layer.share(name, replace=True), fe.optim.SGD(layer, lr=1.0), np.floor(table.max())
    halves = np.full((N_GROUP, N_COLS), -0.5)
    while True:
        step += 1
        rows = np.append(group, rng.integers(0, N_ROWS, rng.integers(1, 64)))
        layer.set_rows(rows, step)
        layer.backward(halves, group, optimizer=opt)
        if rng.random() < 0.001:
            shared.publish()


def write_halves(name: str, seed: int) -> None:
    """A fault: rows, but not those of the group, are written in halves, past the versions."""
    layer = fe.Embedding.from_pretrained(np.zeros((N_ROWS, N_COLS)))
    rows, step = layer.share(name)._open_segment().rows.rows[N_GROUP:], 0
    while True:
        step += 1
        rows[:, : N_COLS // 2] = step
        rows[:, N_COLS // 2 :] = step


def check(rows: np.ndarray, group: np.ndarray) -> None:
    if not (rows == rows[:, :1]).all():
        raise SystemExit(f"a torn row: {np.unique(rows[(rows != rows[:, :1]).any(1)][0])}")
    if not (group == group[0, 0]).all():
        raise SystemExit(f"a snapshot of several moments: {np.unique(group)}")


def read(name: str, seed: int, counts: str, place: int) -> None:
    """Look rows up and check them, and count the rows that were right."""
    rng, n_read, last = np.random.default_rng(seed), np.memmap(counts, np.int64), np.zeros(N_ROWS)
    table, group = fe.Embedding.attach(name, dtype="float64", num_embeddings=N_ROWS), np.arange(N_GROUP)
    while True:
        ids = rng.integers(0, N_ROWS, N_CALL) if rng.random() < 0.5 else rng.integers(0, N_GROUP, N_CALL)
        rows, at_once = table(ids), table.snapshot(group)
        check(rows, at_once)
        for found, numbers in ((rows, ids), (at_once, group)):
            if (found[:, 0] < last[numbers]).any():
                raise SystemExit("a row is older than it was")
            np.maximum.at(last, numbers, found[:, 0])
        n_read[place] += len(ids)


def run(
    n: int, n_readers: int, seed: int, n_per_kill: int, writer: str = "train", n_least_kills: int = 0
) -> tuple[int, int, int, list[str]]:
    """Read n rows beside a trainer, with a kill after up to that many, and after some steps.

    It goes on until there have been that many kills.

    (rows read, steps, kills, faults)
    """
    rng, name, faults = random.Random(seed), f"campaign-{os.getpid()}-{seed}", []
    with tempfile.TemporaryDirectory() as folder:
        counts = Path(folder) / "counts"
        np.zeros(n_readers, np.int64).tofile(counts)
        n_read, n_kills = np.memmap(counts, np.int64, "r"), 0
        calls = [f"{writer}({name!r}, {{}})", *(f"read({name!r}, {{}}, {str(counts)!r}, {k})" for k in range(n_readers))]
        processes = [_start(calls[0].format(seed))]
        try:
            _wait_for(name, processes[0])
            processes += [_start(call.format(rng.randrange(1 << 30))) for call in calls[1:]]
            progress, table = (time.monotonic(), 0), fe.Embedding.attach(name)
            next_kill, next_step = 0, _N_STEPS
            while (n_read.sum() < n or n_kills < n_least_kills) and not faults:
                time.sleep(_WAIT)
                faults += [_fault_of(process) for process in processes if process.poll() is not None]
                if n_read.sum() > progress[1]:
                    progress = time.monotonic(), int(n_read.sum())
                elif time.monotonic() - progress[0] > _LONGEST:
                    faults.append(f"no row was read for {_LONGEST} seconds")
                step = int(table(0)[0])
                if writer == "train" and not faults and n_read.sum() > next_kill and step > next_step:
                    next_kill, next_step = int(n_read.sum()) + rng.randrange(n_per_kill), step + _N_STEPS
                    k = rng.choice((0, 0, rng.randrange(len(calls))))
                    _kill(processes[k])
                    time.sleep(rng.choice((0, 0.3)))  # readers without a trainer
                    processes[k], n_kills = _start(calls[k].format(rng.randrange(1 << 30))), n_kills + 1
            return int(n_read.sum()), step, n_kills, faults
        finally:
            for process in processes:
                _kill(process)
            leftovers.remove(name)


def _start(call: str) -> subprocess.Popen[str]:
    script = f"import sys; sys.path[:] = {sys.path!r}\nfrom sharing import shared_tables\nshared_tables.{call}"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", script], **pipes, text=True)


def _kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        pipe.close()


def _wait_for(name: str, trainer: subprocess.Popen[str]) -> None:
    while not leftovers.path_of(name).exists():
        if trainer.poll() is not None:
            raise RuntimeError(_fault_of(trainer))
        time.sleep(0.01)


def _fault_of(process: subprocess.Popen[str]) -> str:
    return f"status {process.returncode}: {process.stderr.read().strip()[-500:]}"


def attach_and_read(name: str) -> None:
    """Say how much memory, in KiB, this process has to itself once all rows are read."""
    before = _own_memory()
    table = fe.Embedding.attach(name)
    out = np.empty((1 << 12, table.embedding_dim), table.dtype)
    for first in range(0, table.num_embeddings, len(out)):
        table(np.arange(first, min(first + len(out), table.num_embeddings)), out=out[: table.num_embeddings - first])
    print(_own_memory() - before, _field("smaps_rollup", "Pss"), flush=True)
    sys.stdin.read()


def _field(file: str, name: str) -> int:
    return sum(int(line.split()[1]) for line in Path(f"/proc/self/{file}").read_text().splitlines() if line.startswith(name))


def _own_memory() -> int:
    """KiB of pages that no other process has, and of page tables."""
    return _field("smaps_rollup", "Private") + _field("status", "VmPTE")


def memory(n_bytes: int, n_processes: int) -> list[tuple[int, int]]:
    """(memory added, proportional share) in KiB of processes that have read a shared table."""
    name, layer = f"campaign-{os.getpid()}", fe.Embedding.from_pretrained(np.zeros((n_bytes // 256, 64), np.float32))
    shared, found = layer.share(name), []
    processes = [_start(f"attach_and_read({name!r})") for _ in range(n_processes)]
    try:
        for process in processes:
            added, share = process.stdout.readline().split()
            found.append((int(added), int(share)))
        return found
    finally:
        for process in processes:
            _kill(process)
        shared.remove()


def main(n: int, seed: int) -> int:
    start = time.monotonic()
    n_read, n_steps, n_kills, faults = run(n, 2, seed, 5_000_000)
    for fault in faults:
        print(f"seed {seed}: {fault}")
    print(f"{n_read} rows read in {time.monotonic() - start:.0f} s, {n_steps} steps, {n_kills} kills: {len(faults)} faults")
    return min(len(faults), 1)


def main_of_memory(n_bytes: int = 1 << 31, n_processes: int = 8) -> int:
    found = memory(n_bytes, n_processes)
    for added, share in found:
        print(
            f"{added / 1024:.1f} MiB added, {added * 1024 / n_bytes:.2%} of the table; proportional share {share / 1024:.0f} MiB"
        )
    return int(max(added for added, _ in found) * 1024 > n_bytes // 100)
