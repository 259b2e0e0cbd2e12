"""Runs cases one after the other, and says how many there were and which of them differed."""

from __future__ import annotations

import collections
import time
import warnings
from collections.abc import Callable, Iterable

import numpy as np
from common import outcome

from . import functions, groups, layers, models, quantized, states, threads
from .case import Case, as_bytes, difference
from .draws import Draw
from .surroundings import Surroundings, draw_from, fp_states, surrounded

# How often each is drawn; 0: only by its name.
OPS: dict[str, tuple[Callable[[Draw], Case], int]] = {
    "gather": (functions.gather, 4),
    "gather_add": (functions.gather_add, 4),
    "scatter_add": (functions.scatter_add, 4),
    "gather_add_backward": (functions.gather_add_backward, 3),
    "embedding_bag": (functions.embedding_bag, 4),
    "embedding_bag_backward": (functions.embedding_bag_backward, 4),
    "hash_ids": (functions.hash_ids, 1),
    "row_grad": (functions.row_grad, 1),
    "losses": (functions.losses, 1),
    "table_statistics": (functions.table_statistics, 1),
    "quantized": (quantized.quantized, 2),
    "nearest": (quantized.nearest, 1),
    "ngrams": (models.ngrams, 1),
    "packed": (models.packed, 2),
    "layer": (layers.layer, 3),
    "collection": (groups.collection, 2),
    "skip_gram": (groups.skip_gram, 1),
    "states": (states.states, 1),
    "threads": (threads.many, 0),
}
CALLS = 6  # of each case, in other surroundings each: the reference takes longer than one of them


def chosen(names: str) -> list[str]:
    """The names of ops, each as often as it is to be drawn."""
    wanted = names.split(",") if names else [name for name, (_, weight) in OPS.items() if weight]
    return [name for name in wanted for _ in range(max(OPS[name][1], 1))]


def make(seed: int, number: int, ops: list[str], states: tuple[str, ...]) -> tuple[str, Case, list[Surroundings]]:
    """The case of that number; what surrounds it, and which op it is of, change nothing else."""
    op = Draw(seed, number, "op").choice(ops)
    return op, OPS[op][0](Draw(seed, number, op)), draw_from(Draw(seed, number, "surroundings"), states, CALLS)


def check(case: Case, surroundings: Iterable[Surroundings]) -> str | None:
    """What differed, and where; None if nothing.

    The reference is called once: a call whose bytes are those of the one before needs no other
    comparison.
    """
    expected, known = None, None
    for by in surroundings:
        with surrounded(by):
            got = outcome(case.ours)
        found = case.unchanged()
        if found is None and as_bytes(got) == known:
            continue
        expected = outcome(case.reference) if expected is None else expected
        found = found or difference(case, got, expected)
        if found is not None:
            return f"{tuple(by)}\n    {found}"
        known = as_bytes(got)
    return None


def run(seed: int, numbers: Iterable[int], wanted_states: str = "default", names: str = "", most: int = 20) -> int:
    """Prints each difference with what reproduces it, and a summary; 1 if there was one."""
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    counts: collections.Counter[str] = collections.Counter()
    seconds: collections.Counter[str] = collections.Counter()
    n_differences, begun, ops, states = 0, time.perf_counter(), chosen(names), fp_states(wanted_states)
    for number in numbers:
        start = time.perf_counter()
        op, case, surroundings = make(seed, number, ops, states)
        found = check(case, surroundings)
        counts[op] += 1
        seconds[op] += time.perf_counter() - start
        if found is not None:
            n_differences += 1
            print(f"SEED={seed} CASE={number} OPS={op} {case.title}\n    {found}", flush=True)
            if n_differences >= most:
                break
    took = time.perf_counter() - begun
    for op, n in sorted(counts.items()):
        print(f"{op:24} {n:9,} cases  {1e6 * seconds[op] / n:7.0f} us each")
    n, speed = sum(counts.values()), sum(counts.values()) / took
    print(
        f"{n:,} cases of {CALLS} calls, {n_differences} differences, {speed:,.0f} cases and {CALLS * speed:,.0f} calls a second"
    )
    return int(n_differences > 0)


def run_one(seed: int, number: int, wanted_states: str, names: str) -> int:
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    op, case, surroundings = make(seed, number, chosen(names), fp_states(wanted_states))
    found = check(case, surroundings)
    print(f"SEED={seed} CASE={number} {op}: {case.title}\n    {found or 'no difference'}")
    return int(found is not None)
