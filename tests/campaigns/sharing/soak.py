"""Mixed work for a long time: resident memory stays flat within 1 MB after the first minute."""

from __future__ import annotations

import gc
import os
import random
import time
import warnings
from pathlib import Path

from differential import run as differential
from fuzz_files import run as files
from fuzz_files import seeds
from writing import subjects

LIMIT = 1 << 20  # bytes


def resident() -> int:
    """The resident memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def work(seed: int, number: int, folder: Path, made: list[seeds.Seed]) -> None:
    """A round: cases of every op, mutated files, and every call that writes."""
    rng = random.Random(f"{seed} {number}")
    ops, states = differential.chosen(""), ("default",)
    for _ in range(100):
        _, case, by = differential.make(seed, rng.randrange(10**9), ops, states)
        found = differential.check(case, by)
        if found is not None:
            raise AssertionError(f"{case.title}: {found}")
    for _ in range(3):
        chosen, content = files.inputs(seed, rng.randrange(10**9), made)
        for _ in files.check(chosen, content, folder / "work"):
            pass
    name, kind, optimizer = rng.choice(subjects.cases())
    (folder / f"{number}").mkdir()
    subject = subjects.Subject(kind, optimizer, folder / f"{number}" if kind == "mapped" else None)
    subjects.CALLS[name].call(subject, subjects.CALLS[name].prepare(subject))
    subject.close()


def run(minutes: float, seed: int, folder: Path, first_minutes: float = 1.0, limit: int = LIMIT) -> int:
    """1 if memory grew by more than the limit after the first minutes."""
    warnings.simplefilter("ignore")
    made, begun, least, number, most = seeds.make(folder / "seeds"), time.monotonic(), None, 0, 0
    while time.monotonic() - begun < 60 * minutes:
        work(seed, number, folder, made)
        number += 1
        if time.monotonic() - begun < 60 * first_minutes:
            continue
        if least is None or number % 50 == 0:
            gc.collect()
            now = resident()
            least, most = now if least is None else least, max(most, now)
    least = resident() if least is None else least
    grown = max(most, least) - least
    print(f"{number:,} rounds in {minutes} minutes: {least / 1e6:.1f} MB resident, {grown / 1e6:+.2f} MB at most since then")
    return int(grown > limit)
