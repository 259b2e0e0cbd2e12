"""Mixed work for a long time: memory stays flat within 1 MB once each kind of work has come up.

Three measures, none of which counts what is free: resident memory, after malloc has given back what
it can; what of malloc's memory is in use; and Python's small objects.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import random
import sys
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from differential import run as differential
from fuzz_files import run as files
from fuzz_files import seeds
from writing import calls

import fastembed as fe

LIMIT = 1 << 20  # bytes
_ROUNDS = 100  # the least before the first reading
_INTERNED = 1 << 17
_CACHED, _OF_EACH = 1024, 7  # NumPy keeps so many freed blocks of each number of bytes below that


class _Info(ctypes.Structure):
    """glibc's struct mallinfo2."""

    _names = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    _fields_ = [(name, ctypes.c_size_t) for name in _names]


class Reading(NamedTuple):
    """How much memory this process has: bytes that are resident, bytes in use, small objects."""

    resident: int
    in_use: int
    objects: int

    @classmethod
    def now(cls) -> Reading:
        gc.collect()
        libc = ctypes.CDLL(None)
        libc.malloc_trim(ctypes.c_size_t(0))
        libc.mallinfo2.restype = _Info
        info, pages = libc.mallinfo2(), int(Path("/proc/self/statm").read_text().split()[1])
        return cls(pages * os.sysconf("SC_PAGE_SIZE"), info.uordblks + info.hblkhd, sys.getallocatedblocks())


def _call(case: tuple[str, str, str], folder: Path) -> None:
    name, kind, optimizer = case
    subject = calls.made(kind, optimizer, folder)
    calls.CALLS[name].call(subject, calls.CALLS[name].prepare(subject))
    subject.close()


def _read(chosen: seeds.Seed, content: bytes, folder: Path) -> None:
    for _ in files.check(chosen, content, folder):
        pass


def warm_up(folder: Path, made: list[seeds.Seed]) -> None:
    """What takes memory once, in this order: the stack; Python's table of interned strings, which
    grows when its places have been used up, those of freed strings too; NumPy's freed blocks;
    threads; the code of each kind of call.
    """
    json.loads("[" * 900 + "]" * 900)
    for k in range(_INTERNED):
        sys.intern(f"interned {k}")
    for size in range(_CACHED):
        [np.empty(size, np.uint8) for _ in range(_OF_EACH)]
    with fe.threads(8):
        fe.gather(np.zeros((1000, 64)), np.zeros(100_000, np.int64))
    for case in calls.cases():
        _call(case, folder / "called")
    for seed in made:
        _read(seed, (seed.folder / seed.name).read_bytes(), folder / "read")


def work(seed: int, number: int, folder: Path, made: list[seeds.Seed]) -> None:
    """A round: cases of every op, mutated files, and a call that writes."""
    rng = random.Random(f"{seed} {number}")
    ops, states = differential.chosen(""), ("default",)
    for _ in range(100):
        _, case, by = differential.make(seed, rng.randrange(10**9), ops, states)
        found = differential.check(case, by)
        if found is not None:
            raise AssertionError(f"{case.title}: {found}")
    for _ in range(3):
        _read(*files.inputs(seed, rng.randrange(10**9), made), folder / "read")
    _call(rng.choice(calls.cases()), folder / "called")


def run(minutes: float, seed: int, folder: Path, first_minutes: float = 1.0, n_first: int = _ROUNDS) -> int:
    """1 if memory grew by more than the limit after the first minutes and rounds."""
    warnings.simplefilter("ignore")
    made, begun, number = seeds.make(folder / "seeds"), time.monotonic(), 0
    warm_up(folder, made)
    readings: list[Reading] = []
    while time.monotonic() - begun < 60 * minutes or not readings:
        work(seed, number, folder, made)
        number += 1
        if number >= n_first and time.monotonic() - begun >= 60 * first_minutes and (not readings or number % 50 == 0):
            readings.append(Reading.now())
            print(f"round {number:,}: {_shown(readings[-1], readings[0])}", flush=True)
    most = Reading(*map(max, zip(*readings, strict=True)))
    print(f"{number:,} rounds in {minutes} minutes: at most {_shown(most, readings[0])}")
    return int(max(most.resident - readings[0].resident, most.in_use - readings[0].in_use) > LIMIT)


def _shown(now: Reading, first: Reading) -> str:
    resident, in_use = (f"{a / 1e6:.2f} MB ({(a - b) / 1e6:+.2f})" for a, b in zip(now[:2], first[:2], strict=True))
    return f"{resident} resident, {in_use} in use, {now.objects:,} ({now.objects - first.objects:+,}) small objects"
