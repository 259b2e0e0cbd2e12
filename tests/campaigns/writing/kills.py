"""Processes that are killed as they save, share, flush, resize, add: the old state or the new.

The child is forked, which takes less time than a new interpreter, and goes on from the state that
is found. Each state of the files that is allowed is known from a twin in memory.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mapped_tables import optimizer_of, state_in, state_of, train

import fastembed as fe
from fastembed import checkpoint

_ROWS, _WIDTH, _SAVED = 40, 6, 20_000


def _filled(shape: tuple[int, int], k: int) -> Any:
    return np.full(shape, k, "f8")


# How a file of each kind is written with a number in all of its elements, and these are read.
SAVES: dict[str, tuple[Callable[[Path, int], None], Callable[[Path], list[Any]]]] = {
    "tensors": (
        lambda path, k: checkpoint.save(path, {"a": np.full(_SAVED, k), "b": np.array(k)}, "x"),
        lambda path: [*checkpoint.load(path)[0].values()],
    ),
    "packed": (
        lambda path, k: fe.PackedTable(_filled((_SAVED // 16, 16), k).view(np.uint8), 64, format="float16").save(path),
        lambda path: [fe.PackedTable.load(path).packed.view("f8")],
    ),
    "collection": (
        lambda path, k: fe.EmbeddingCollection({"a": _filled((_SAVED // 5, 5), k), "b": _filled((3, 2), k)}).save(path),
        lambda path: [layer.weight for layer in fe.load(path).tables.values()],
    ),
}


def _number(arrays: list[Any]) -> int:
    """The number that all elements of all arrays are."""
    numbers = np.unique(np.concatenate([array.reshape(-1) for array in arrays]))
    if len(numbers) != 1:
        raise AssertionError(f"the elements are of several changes: {numbers[:5]}")
    return int(numbers[0])


def _saves(path: Path, kind: str, first: int) -> None:
    for k in range(first, 10**9):
        SAVES[kind][0](path, k)


def _shares(path: Path, first: int) -> None:
    """Take a table over, publish rows and whole tables, end sharing; again and again."""
    layer = fe.Embedding.from_pretrained(np.full((_ROWS, _WIDTH), first, "f4"))
    for k in itertools.count(first, 3):
        with layer.share(path, replace=True) as shared:
            layer.set_rows(np.arange(len(layer.weight)), k + 1)
            layer.weight[...] = k + 2
            shared.publish()
            layer.resize(_ROWS + k % 2, new_rows=k + 2)
            layer.set_rows(np.arange(len(layer.weight)), k + 3)


def _shared(path: Path) -> int:
    with fe.Embedding.attach(path) as table:
        return _number([table.snapshot()])


def advance(layer: Any, optimizer: Any, how: str, k: int) -> None:
    """Change number k of a table: a step, and then what writes it to its file."""
    train(layer, optimizer, [k])
    n = len(layer.weight)
    if how == "flush":
        layer.flush()
    elif how == "resize":
        layer.resize(n + 3 if k % 3 else n - 5, new_rows=1.5)
    elif n > 2 * _ROWS:
        layer.vocabulary = None
        layer.resize(_ROWS)
    else:  # names are not in the files
        layer.vocabulary = [f"old {i}" for i in range(n)]
        layer.add_tokens([f"{k}", f"{k}b"])


class Tables:
    """The states that the files of a table may have, as a twin in memory goes through them."""

    def __init__(self, path: Path, how: str, kind: str) -> None:
        self.path, self.how, self.kind = path, how, kind
        self.twin = fe.Embedding(_ROWS, _WIDTH, rng=1)
        self.optimizer = optimizer_of(kind, self.twin)
        with fe.Embedding.create(path, (_ROWS, _WIDTH), rng=1) as layer:
            optimizer_of(kind, layer)
        self.states = [state_of(self.twin, self.optimizer)]

    def change(self, first: int) -> None:
        """Run by the child: one change after the other, from number ``first`` on."""
        with fe.Embedding.open(self.path, "r+") as layer:
            optimizer = optimizer_of(self.kind, layer)
            for k in range(first, 10**9):
                advance(layer, optimizer, self.how, k)

    def found(self) -> int:
        """The number of the change that the files hold; an error if they hold none of them."""
        state = state_in(self.path, self.kind)
        step = state[2]
        while len(self.states) <= step + 1:
            advance(self.twin, self.optimizer, self.how, len(self.states) - 1)
            self.states.append(state_of(self.twin, self.optimizer))
        if state != self.states[step]:
            raise AssertionError(f"{self.how} {self.kind}: the files hold no state of the run, at step {step}")
        if state_in(self.path, self.kind, "r")[0] != state[0]:
            raise AssertionError(f"{self.how} {self.kind}: a reader finds another table than a writer, at step {step}")
        return step


_TRAINED = "SparseAdam", "Adam"
KINDS = {"save": tuple(SAVES), "share": ("rows",), "flush": _TRAINED, "resize": _TRAINED, "add_tokens": _TRAINED}


def wait(delay: float) -> object:
    """Let the child work for so long."""
    return time.sleep(delay)


def kill_once(work: Callable[[int], None], first: int, delay: float) -> None:
    """Fork a child that works, and kill it after a delay."""
    child = os.fork()
    if child == 0:
        try:
            work(first)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)  # it never ends by itself
    wait(delay)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        raise AssertionError(f"the child ended by itself, with status {status}")


def _works(path: Path, how: str, kind: str) -> tuple[Callable[[int], None], Callable[[], int]]:
    """What a child does from some change on, and which change the files hold."""
    if how == "save":
        write, read = SAVES[kind]
        write(path, 0)
        return (lambda first: _saves(path, kind, first + 1)), (lambda: _number(read(path)))
    if how == "share":
        fe.Embedding.from_pretrained(np.zeros((_ROWS, _WIDTH), "f4")).share(path).close()
        return (lambda first: _shares(path, first)), (lambda: _shared(path))
    tables = Tables(path, how, kind)
    return tables.change, tables.found


def run_kind(how: str, kind: str, n: int, seed: int) -> bool:
    """Whether the files held the old state or the new one after each of n kills."""
    rng, at, moved = random.Random(f"{seed} {how} {kind}"), 0, 0
    with tempfile.TemporaryDirectory() as root:
        path = Path(root) / "in" / "t"
        path.parent.mkdir()
        work, found = _works(path, how, kind)
        for k in range(n):
            try:
                kill_once(work, at, 0.002 + 0.1 * rng.random())
                now = found()
            except Exception as error:
                print(f"SEED={seed} kill {k} of {how} {kind}: {error!r:.300}", flush=True)
                return False
            if now < at:
                print(f"SEED={seed} kill {k} of {how} {kind}: went back from {at} to {now}", flush=True)
                return False
            moved += now > at
            at = now
    print(f"{how} {kind}: {n:,} kills, {moved:,} after at least one change, {at:,} changes", flush=True)
    return True


def run(n: int, seed: int, names: str = "") -> int:
    """n kills of each kind; 1 if a file held neither the old state nor the new one."""
    warnings.simplefilter("ignore")
    fe.set_num_threads(1)  # a forked child has no other thread
    status = 0
    for how in names.split(",") if names else KINDS:
        for kind in KINDS[how]:
            status |= not run_kind(how, kind, n, seed)
    return int(status)
