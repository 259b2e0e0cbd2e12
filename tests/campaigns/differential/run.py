"""Runs cases one after the other, and says how many there were and which of them differed."""

from __future__ import annotations

import collections
import time
import warnings
from collections.abc import Callable, Iterable

import numpy as np
from common import outcome

from . import functions, layers, quantized, threads
from .case import Case, difference
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
    "table_statistics": (functions.table_statistics, 1),
    "quantized": (quantized.quantized, 2),
    "nearest": (quantized.nearest, 1),
    "layer": (layers.layer, 3),
    "threads": (threads.many, 0),
}


def chosen(names: str) -> list[str]:
    """The names of ops, each as often as it is to be drawn."""
    wanted = names.split(",") if names else [name for name, (_, weight) in OPS.items() if weight]
    return [name for name in wanted for _ in range(max(OPS[name][1], 1))]


def make(seed: int, number: int, ops: list[str], states: tuple[str, ...]) -> tuple[str, Case, Surroundings]:
    """The case of that number; what surrounds it, and which op it is of, change nothing else."""
    op = Draw(seed, number, "op").choice(ops)
    return op, OPS[op][0](Draw(seed, number, op)), draw_from(Draw(seed, number, "surroundings"), states)


def check(case: Case, by: Surroundings) -> str | None:
    """What differed; None if nothing."""
    with surrounded(by):
        got = outcome(case.ours)
    changed = case.unchanged()
    if changed:
        return changed
    return difference(case, got, outcome(case.reference))


def run(seed: int, numbers: Iterable[int], wanted_states: str = "default", names: str = "", most: int = 20) -> int:
    """Prints each difference with what reproduces it, and a summary; 1 if there was one."""
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    counts: collections.Counter[str] = collections.Counter()
    seconds: collections.Counter[str] = collections.Counter()
    n_differences, begun, ops, states = 0, time.perf_counter(), chosen(names), fp_states(wanted_states)
    for number in numbers:
        start = time.perf_counter()
        op, case, by = make(seed, number, ops, states)
        found = check(case, by)
        counts[op] += 1
        seconds[op] += time.perf_counter() - start
        if found is not None:
            n_differences += 1
            print(f"SEED={seed} CASE={number} OPS={op} {case.title}\n    {tuple(by)}\n    {found}", flush=True)
            if n_differences >= most:
                break
    took = time.perf_counter() - begun
    for op, n in sorted(counts.items()):
        print(f"{op:24} {n:9,} cases  {1e6 * seconds[op] / n:7.0f} us each")
    print(f"{sum(counts.values()):,} cases, {n_differences} differences, {sum(counts.values()) / took:,.0f} cases a second")
    return int(n_differences > 0)


def run_one(seed: int, number: int, wanted_states: str, names: str) -> int:
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    op, case, by = make(seed, number, chosen(names), fp_states(wanted_states))
    found = check(case, by)
    print(f"SEED={seed} CASE={number} {op}: {case.title}\n    {tuple(by)}\n    {found or 'no difference'}")
    return int(found is not None)
