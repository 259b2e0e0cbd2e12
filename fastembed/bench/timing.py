"""Timing: contenders take turns in one process, each on a batch that it has not seen before."""

from __future__ import annotations

import functools
import gc
import glob
import itertools
import time
import timeit
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Answer = tuple[Array, ...]
Call = Callable[[int], Any]

_ROTATION = 256 << 20  # the most bytes that copies read from, so that it fits into a small machine


@dataclass(frozen=True)
class Ready:
    """A contender that is set up for one case.

    Attributes
    ----------
    answer : callable
        The arrays that batch ``k`` gives. Called once, before any timing, with zeroed buffers.
    seconds : callable
        The time of one call, averaged over the batches whose numbers are given.
    bytes_of_file : callable, optional
        What a timed call took of a file, by name, averaged over all so far.
    """

    answer: Callable[[int], Answer]
    seconds: Callable[[Sequence[int]], float]
    bytes_of_file: Callable[[], dict[str, float]] = dict


def ready_call(call: Call) -> Ready:
    """A contender that is a function of a batch's number; what it returns is its answer.

    A single call's result is freed after the clock has stopped.
    """

    def answer(batch: int) -> Answer:
        result = call(batch)
        return tuple(map(np.asarray, result if isinstance(result, tuple) else (result,)))

    def seconds(batches: Sequence[int]) -> float:
        if len(batches) == 1:
            began = time.perf_counter_ns()
            result = call(batches[0])
            elapsed = time.perf_counter_ns() - began
            del result
        else:
            began = time.perf_counter_ns()
            for batch in batches:
                call(batch)
            elapsed = time.perf_counter_ns() - began
        return elapsed / len(batches) * 1e-9

    return Ready(answer, seconds)


def ready_steps(step: Call, tables: Callable[[], Answer], n_batches: int, n_checked: int, warmup: int = 0) -> Ready:
    """A contender that goes on training: its answer is the tables after ``n_checked`` steps.

    Before the first timed call it takes ``warmup`` more steps.
    """
    timed, n_warmup_left = ready_call(step), warmup

    def answer(batch: int) -> Answer:
        for k in range(n_checked):
            step((batch + k) % n_batches)
        return tables()

    def seconds(batches: Sequence[int]) -> float:
        nonlocal n_warmup_left
        for k in range(n_warmup_left):
            step((batches[0] + 1 + k) % n_batches)
        n_warmup_left = 0
        return timed.seconds(batches)

    return Ready(answer, seconds)


def ready_run(train: Callable[[], Answer]) -> Ready:
    """A contender that trains from the beginning in each call.

    The run that gives its answer is timed, and is the first result, as a run takes minutes.
    """
    timed: list[float] = []

    def answer(batch: int) -> Answer:
        began = time.perf_counter()
        result = train()
        timed.append(time.perf_counter() - began)
        return result

    def seconds(batches: Sequence[int]) -> float:
        if not timed:
            answer(0)
        return timed.pop()

    return Ready(answer, seconds)


def ready_statement(statement: str, names: Mapping[str, Any], number: int = 20_000) -> Ready:
    """A contender that is an expression, too short to be timed through a function call.

    Its names are local variables of the timed loop.
    """
    scope = {"names": dict(names)}
    setup = "; ".join(f"{name} = names[{name!r}]" for name in names)
    timer = timeit.Timer(statement, setup, globals=scope)

    def answer(batch: int) -> Answer:
        return (np.asarray(eval(statement, dict(names))),)

    def seconds(batches: Sequence[int]) -> float:
        return timer.timeit(number) / number

    return Ready(answer, seconds)


def measure(
    contenders: Sequence[Ready],
    *,
    n_batches: int,
    runs: int,
    warmup: int,
    calls: int = 1,
    rest: float = 0.0,
    untimed_call: bool = False,
) -> list[list[float]]:
    """Time contenders in turn.

    Parameters
    ----------
    contenders : sequence of Ready
    n_batches : int
        Size of the pool. Batches are dealt out one after another, so that no two calls share one
        within a pass over the pool.
    runs, warmup : int
        Timed rounds, and untimed rounds before them. Each round starts with another contender.
    calls : int
        Calls per contender and round, for work too short for one call.
    rest : float
        Seconds between two contenders, in which the last one's worker threads stop spinning.
    untimed_call : bool
        Whether a contender's timed calls follow one that is not timed, on a batch of its own. It
        wakes the contender's threads and replaces what the last contender left in caches and
        allocator, so that what is timed is one call of many, as in training.

    Returns
    -------
    list of list of float
        Seconds per call of each contender, one per run.
    """
    seconds: list[list[float]] = [[] for _ in contenders]
    batches = (k % n_batches for k in itertools.count())
    collecting = gc.isenabled()
    gc.disable()
    try:
        for turn in range(warmup + runs):
            for slot in range(len(contenders)):
                which = (slot + turn) % len(contenders)
                if rest:
                    time.sleep(rest)
                if untimed_call:
                    contenders[which].seconds([next(batches)])
                elapsed = contenders[which].seconds(list(itertools.islice(batches, calls)))
                if turn >= warmup:
                    seconds[which].append(elapsed)
    finally:
        if collecting:
            gc.enable()
    return seconds


def _last_cache() -> int:
    """Bytes of the largest cache of processor 0, at least 64 MB."""
    sizes = [64 << 20]
    for path in glob.glob("/sys/devices/system/cpu/cpu0/cache/index*/size"):
        with open(path, encoding="ascii") as file:
            text = file.read().strip()
        if text.endswith("K") and text[:-1].isdigit():
            sizes.append(int(text[:-1]) << 10)
    return max(sizes)


@functools.cache
def _copy_source() -> Array:
    """What copies read: twice the last-level cache, or _ROTATION if that is less."""
    return np.full(min(2 * _last_cache(), _ROTATION) // 8, 1.0)


def copy_limit(n_bytes: int, n_threads: int) -> Ready:
    """A plain copy by ``n_threads`` that moves ``n_bytes``, half of them read and half written.

    As a look-up does, it reads other memory in each call, and writes to one place.
    """
    source = _copy_source()
    n_items = min(max(n_bytes // 16, 1), source.size)
    target = np.full(n_items, 0.0)
    n_places = max((source.size - n_items) // n_items, 1)
    cuts = [n_items * k // n_threads for k in range(n_threads + 1)]
    pool = ThreadPoolExecutor(n_threads) if n_threads > 1 else None

    def call(batch: int) -> Array:
        first = batch % n_places * n_items
        part = source[first : first + n_items]
        if pool is None:
            np.copyto(target, part)
        else:
            parts = [(target[a:b], part[a:b]) for a, b in itertools.pairwise(cuts)]
            list(pool.map(lambda pair: np.copyto(*pair), parts))
        return target

    return ready_call(call)
