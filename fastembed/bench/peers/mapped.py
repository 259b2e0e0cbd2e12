"""Rows of a table in a file: warm, from the page cache; and cold, from the disk."""

from __future__ import annotations

import functools
import mmap
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ... import Embedding
from ..timing import Array, Ready, ready_call
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
