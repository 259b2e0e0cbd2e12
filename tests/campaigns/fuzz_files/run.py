"""Runs mutated files through their readers; each has a number that reproduces it."""

from __future__ import annotations

import collections
import contextlib
import mmap
import os
import random
import shutil
import signal
import struct
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from . import mutate, readers, seeds

LIMIT = 30  # seconds of processor time that a reader may take
LONGEST = 600  # seconds by the clock, for one that only waits


class Hang(BaseException):
    """A reader took longer than `LIMIT` or `LONGEST`."""


def _hang(*_: object) -> None:
    raise Hang


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    with contextlib.ExitStack() as after:
        for timer, number, seconds in (
            (signal.ITIMER_PROF, signal.SIGPROF, LIMIT),
            (signal.ITIMER_REAL, signal.SIGALRM, LONGEST),
        ):
            after.callback(signal.signal, number, signal.signal(number, _hang))
            signal.setitimer(timer, seconds)
            after.callback(signal.setitimer, timer, 0)
        yield


def inputs(seed: int, number: int, made: list[seeds.Seed]) -> tuple[seeds.Seed, bytes]:
    """The seed file and the mutated content of that number."""
    rng = random.Random(f"{seed} {number}")
    chosen = rng.choice(made)
    return chosen, mutate.mutated(rng, chosen.kind, (chosen.folder / chosen.name).read_bytes())


def check(chosen: seeds.Seed, content: bytes, work: Path) -> Iterator[tuple[str, BaseException | None]]:
    """Each reader of the kind, with its fault or None; every one finds the files as they were."""
    for reader in readers.OF_KIND[chosen.kind]:
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(chosen.folder, work)
        (work / chosen.name).write_bytes(content)
        path = work / (chosen.given or chosen.name)
        try:
            with _limited():
                fault: BaseException | None = readers.fault_of(reader, path)
        except Hang as hang:
            fault = hang
        yield getattr(reader, "__name__", "").strip("_") + f" of {chosen.kind}", fault


def run(seed: int, numbers: Iterable[int], keep: Path | None = None, now: mmap.mmap | None = None) -> int:
    """Prints each fault with what reproduces it, and a summary; 1 if there was one.

    ``now`` holds the number that is running, for whoever finds this process dead.
    """
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    counts: collections.Counter[str] = collections.Counter()
    faults: collections.Counter[str] = collections.Counter()
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        made = seeds.make(Path(folder) / "seeds")
        for number in numbers:
            if now is not None:
                now[:8] = struct.pack("<q", number)
            chosen, content = inputs(seed, number, made)
            counts[chosen.kind] += 1
            for reader, fault in check(chosen, content, Path(folder) / "work"):
                if fault is None:
                    continue
                place = traceback.extract_tb(fault.__traceback__)[-1]
                faults[f"{reader}: {type(fault).__name__} in {os.path.basename(place.filename)}:{place.lineno}"] += 1
                print(f"SEED={seed} CASE={number} {reader}: {fault!r:.300}", flush=True)
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{seed}-{number}-{chosen.kind}").write_bytes(content)
    took = time.perf_counter() - begun
    for what, n in faults.most_common():
        print(f"{n:6} times {what}")
    by_kind = ", ".join(f"{kind} {n:,}" for kind, n in sorted(counts.items()))
    print(
        f"{sum(counts.values()):,} files ({by_kind}), {sum(faults.values())} faults, {sum(counts.values()) / took:,.0f} a second"
    )
    return int(bool(faults))
