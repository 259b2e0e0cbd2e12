"""Readers and a writer on one layer from many threads: what is promised of their calls.

A row that is looked up with the layer's lock held, or copied, is the row after some step, never a
mixture of two. Without the lock, rows can be of the middle of a step, but are numbers. A call that
fails says so with ValueError or IndexError; in the end the layer holds what a twin that one thread
trained holds.
"""

from __future__ import annotations

import collections
import copy
import pickle
import random
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fastembed as fe

V, D = 64, 33
ROWS = V - 16  # rows that a resize never removes
N_READERS = 4
ALLOWED = (ValueError, IndexError)


class Uniform:
    """A layer whose rows are constant: every step adds the same to each element of a row.

    A row with two values was read while it was written.
    """

    def __init__(self, path: Path | None, dtype: str, optimizer: str) -> None:
        start = np.repeat(np.arange(float(V))[:, None], D, 1)
        if path is None:
            self.layer = fe.Embedding.from_pretrained(start.astype(dtype))
        else:
            self.layer = fe.Embedding.create(path, (V, D), dtype, init=lambda first, end: start[first:end])
        self.optimizer = getattr(fe.optim, optimizer)(self.layer, lr=0.125)
        self.n_steps = 0

    def step(self) -> None:
        """The next step; its batch depends on its number alone."""
        rng = np.random.default_rng(self.n_steps)
        ids = rng.integers(0, ROWS, 40)
        gradients = np.repeat(rng.integers(-2, 3, (40, 1)), D, 1).astype(np.float32)
        self.layer.backward(gradients, ids, optimizer=self.optimizer)
        self.n_steps += 1


def torn(rows: Any) -> bool:
    return bool((rows != rows[:, :1]).any())


def _look_up(subject: Uniform, rng: random.Random) -> str | None:
    with subject.layer.lock:
        rows = subject.layer(np.array(rng.choices(range(ROWS), k=50)))
    return "a look-up returns a row of two steps" if torn(rows) else None


def _look_up_beside_steps(subject: Uniform, rng: random.Random) -> str | None:
    rows = subject.layer(np.array(rng.choices(range(ROWS), k=50)))
    return None if np.isfinite(rows).all() else "a look-up returns what is no number"


def _copied(subject: Uniform, rng: random.Random) -> str | None:
    if rng.random() < 0.5:
        copied = copy.deepcopy(subject.layer)
    else:
        with subject.layer.lock:
            copied = pickle.loads(pickle.dumps(subject.layer))
    return "a copy holds a row of two steps" if torn(copied.weight[:ROWS]) else None


def _searched(subject: Uniform, rng: random.Random) -> str | None:
    ids = subject.layer.nearest(rng.randrange(ROWS), 1, "l2").ids
    return None if 0 <= ids[0] < V + 16 else f"a search returns row {ids[0]}"


def _resized(subject: Uniform, rng: random.Random) -> str | None:
    subject.layer.resize(rng.randint(ROWS, V + 16))
    return None


def _loaded(subject: Uniform, rng: random.Random) -> str | None:
    subject.layer.load_state_dict({"other": np.zeros(3)}, strict=False)
    subject.layer.flush()
    return None


def _threads(subject: Uniform, rng: random.Random) -> str | None:
    fe.set_num_threads(rng.randint(1, 4))
    return None


def run_for(seconds: float, seed: int, path: Path | None, dtype: str, optimizer: str) -> tuple[collections.Counter[str], int]:
    """The faults that were found, and the number of calls."""
    subject, stop = Uniform(path, dtype, optimizer), threading.Event()
    faults: collections.Counter[str] = collections.Counter()
    n_calls = [0]
    look_ups = [_look_up, _look_up_beside_steps]
    actions: list[Callable[[Uniform, random.Random], str | None]] = [*look_ups * 6, _searched, _resized, _loaded, _threads]
    if path is None:
        actions.append(_copied)

    def read(number: int) -> None:
        rng = random.Random(f"{seed} {number}")
        while not stop.is_set():
            action = rng.choice(actions)
            n_calls[0] += 1
            try:
                found = action(subject, rng)
            except ALLOWED:
                found = None
            except BaseException as error:
                found = f"{action.__name__} raises {error!r:.200}"
            if found is not None:
                faults[found] += 1

    readers = [threading.Thread(target=read, args=(k,)) for k in range(N_READERS)]
    before = fe.get_num_threads()
    for reader in readers:
        reader.start()
    end, is_over = time.monotonic() + seconds, False
    while not is_over:
        subject.step()
        n_calls[0] += 1
        is_over = time.monotonic() >= end
    stop.set()
    for reader in readers:
        reader.join(600)
    if any(reader.is_alive() for reader in readers):
        faults["a reader hangs"] += 1
    fe.set_num_threads(before)
    twin = Uniform(None, dtype, optimizer)
    for _ in range(subject.n_steps):
        twin.step()
    if not np.array_equal(subject.layer.weight[:ROWS], twin.layer.weight[:ROWS]):
        faults["the table differs from that of one thread"] += 1
    subject.layer.storage.close()
    return faults, n_calls[0]


def run(seconds: float, seed: int, folder: Path) -> int:
    """Each kind for a share of the time; 1 if there was a fault."""
    warnings.simplefilter("ignore")
    kinds = [
        (is_mapped, dtype, name) for is_mapped in (False, True) for dtype in ("float32", "float16") for name in ("SGD", "AdamW")
    ]
    status = 0
    for k, (is_mapped, dtype, name) in enumerate(kinds):
        path = folder / f"t{k}" if is_mapped else None
        faults, n_calls = run_for(seconds / len(kinds), seed, path, dtype, name)
        status |= int(bool(faults))
        where = "mapped" if is_mapped else "in memory"
        print(f"{where} {dtype} {name}: {n_calls:,} calls, {sum(faults.values())} faults", flush=True)
        for fault, n in faults.most_common():
            print(f"{n:6} times {fault}")
    return status
