"""Rows of a table in a file, from the page cache or the disk; and of one that processes share."""

from __future__ import annotations

import functools
import itertools
import mmap
import os
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ... import Embedding
from ..timing import Array, Call, Ready, ready_call
from .base import OURS, Contender, Inputs

LookUp = Callable[[Array], Array]


def _drop_from_page_cache(path: str) -> None:
    """Drop a file from the page cache, which works only while no process has it mapped."""
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def _ready(map_file: Callable[[str], LookUp], inputs: Inputs) -> Ready:
    """A look-up; a cold one has a new mapping in each call, made before the clock starts."""
    path, ids = inputs.path, inputs.ids
    if not inputs.is_cold:
        look_up = map_file(path)
        return ready_call(lambda k: look_up(ids[k]))

    def seconds(batches: Sequence[int]) -> float:
        elapsed = 0.0
        for batch in batches:
            _drop_from_page_cache(path)
            look_up = map_file(path)
            began = time.perf_counter()
            result = look_up(ids[batch])
            elapsed += time.perf_counter() - began
            del result, look_up
        return elapsed / len(batches)

    return Ready(lambda k: (np.asarray(map_file(path)(ids[k])),), seconds)


def _ours(path: str) -> LookUp:
    return Embedding.open(path)


def _memmap(path: str, is_random: bool = False) -> LookUp:
    table: Any = np.load(path, mmap_mode="r")
    if is_random:
        table._mmap.madvise(mmap.MADV_RANDOM)
    return lambda ids: np.take(table, ids, axis=0)


MAPPED = (
    Contender(OURS, "Embedding.open", functools.partial(_ready, _ours)),
    Contender("numpy", "take of a memmap", functools.partial(_ready, _memmap)),
    Contender("numpy", "take of a memmap, MADV_RANDOM", functools.partial(_ready, functools.partial(_memmap, is_random=True))),
)


def mapped_answer(inputs: Inputs) -> tuple[Array]:
    """Rows of the table that was written to the file."""
    return (inputs.wte[inputs.ids[0]],)


# ---- shared tables ----

# Writes the rows that are there, so that the answer stays what it is.
_TRAINER = """
import sys, numpy as np, fastembed as fe
fe.set_num_threads(1)
table = fe.Embedding.attach(sys.argv[1]).snapshot()
layer = fe.Embedding.from_pretrained(table)
layer.share(sys.argv[1], replace=True)
batches = np.random.default_rng(0).integers(0, len(table), (16, int(sys.argv[2])))
rows = table[batches]
while True:
    for k in range(16):
        layer.set_rows(batches[k], rows[k])
"""
_numbers = itertools.count()


def _private(inputs: Inputs) -> Call:
    layer = Embedding.from_pretrained(inputs.wte).eval()
    return lambda k: layer(inputs.ids[k])


def _attached(inputs: Inputs, has_trainer: bool) -> Call:
    """A shared table; with a process that writes its rows all the time, in batches of 8,192."""
    name = f"bench-{os.getpid()}-{next(_numbers)}"
    layer = Embedding.from_pretrained(inputs.wte)
    shared, table = layer.share(name), Embedding.attach(name)
    if not has_trainer:
        weakref.finalize(table, _remove, shared, layer)
    else:
        shared.close()
        script = f"import sys; sys.path[:] = {sys.path!r}{_TRAINER}"
        trainer = subprocess.Popen([sys.executable, "-c", script, name, "8192"])
        weakref.finalize(table, _end, trainer, str(shared.path))
        while table.generation == 1:
            if trainer.poll() is not None:
                raise RuntimeError(f"the trainer ended with status {trainer.returncode}")
            time.sleep(0.01)
    return lambda k: table(inputs.ids[k])


def _remove(shared: Any, layer: Embedding) -> None:
    """The layer is kept until then, since sharing ends with it."""
    shared.remove()


def _end(trainer: subprocess.Popen[bytes], path: str) -> None:
    trainer.kill()
    trainer.wait()
    os.unlink(path)


_PRIVATE = (
    Contender("itself", "a private Embedding", _private),
    Contender("numpy", "take of a private table", lambda inputs: lambda k: np.take(inputs.wte, inputs.ids[k], axis=0)),
)
SHARED = (Contender(OURS, "Embedding.attach", lambda inputs: _attached(inputs, False)), *_PRIVATE)
# The trainer is at work while the private tables are read, too.
SHARED_BESIDE = (Contender(OURS, "Embedding.attach, of what is trained", lambda inputs: _attached(inputs, True)), *_PRIVATE)
