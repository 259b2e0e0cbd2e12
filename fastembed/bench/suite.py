"""Runs workloads: sets up every contender, checks its answer, times it if the answer is right."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from .. import get_num_threads, set_num_threads
from .._messages import counted
from .cases import Case
from .peers import OURS, PEERS, Contender, set_threads
from .timing import Answer, Array, Ready, copy_limit, measure
from .workloads import USUAL, WORKLOADS, Workload

COPY = "copy"  # a contender that only copies memory: a speed limit, not a peer
# How far a peer's answer, which may sum in another order, may be from the expected one. That of
# fastembed must be equal to the bit.
TOLERANCES = {  # relative, absolute: of halves a few units in the last place
    "float16": (2.0**-8, 2.0**-8),
    "bfloat16": (2.0**-5, 2.0**-5),
    "float32": (1e-5, 1e-4),
    "float64": (1e-12, 1e-12),
}


@dataclass(frozen=True)
class Plan:
    """What to run.

    Attributes
    ----------
    workloads, peers : sequence of str
        Ids of workloads, and names of peers to compare with.
    threads : sequence of int
        Settings for workloads in which threads can matter; the others run with the last one.
    runs : int
    quick : bool
        Small sizes, to see that everything works.
    """

    workloads: Sequence[str] = USUAL
    peers: Sequence[str] = tuple(PEERS)
    threads: Sequence[int] = (1,)
    runs: int = 11
    quick: bool = False


@dataclass
class Entry:
    """One contender in one case.

    Its status is "ok", with times, or "absent", "WRONG" or "failed", with the reason in ``detail``.
    """

    peer: str
    way: str
    status: str = "ok"
    detail: str = ""
    seconds: list[float] = field(default_factory=list)
    bytes_of_file: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.peer} {self.way}"

    @property
    def median(self) -> float:
        return median(self.seconds)


@dataclass
class CaseResult:
    label: str
    n_bytes: int | None
    per: int
    series: str
    size: int
    entries: list[Entry]

    def timed(self, peer: str | None = None) -> list[Entry]:
        """The contenders that have times: those of one peer, or all but the copy."""
        kept = [entry for entry in self.entries if entry.status == "ok" and entry.seconds]
        return [entry for entry in kept if (entry.peer != COPY if peer is None else entry.peer == peer)]

    def ours(self) -> Entry | None:
        return next(iter(self.timed(OURS)), None)

    def best_peer(self) -> Entry | None:
        peers = [entry for entry in self.timed() if entry.peer != OURS]
        return min(peers, key=lambda entry: entry.median, default=None)


@dataclass
class WorkloadResult:
    id: str
    what: str
    shows: str
    n_threads: int
    cases: list[CaseResult]


def threads_text(n_threads: int) -> str:
    """A number of threads in words."""
    return counted(n_threads, "thread")


def fault(answer: Answer, expected: Answer, exact: bool) -> str:
    """What is wrong with an answer; empty if it is right."""
    if len(answer) != len(expected):
        return f"{len(answer)} arrays where {len(expected)} are expected"
    for got, want in zip(answer, expected, strict=True):
        got = got.astype(want.dtype) if got.dtype.kind == "f" and not exact else got  # Python's floats are float64
        if got.shape != want.shape or got.dtype != want.dtype:
            return f"{got.dtype} of shape {got.shape} where {want.dtype} of shape {want.shape} is expected"
        n_wrong = sum(_n_wrong(*blocks, exact) for blocks in _blocks(got, want))
        if n_wrong:
            return f"{n_wrong:,} of {want.size:,} numbers are not those expected"
    return ""


def _blocks(got: Array, want: Array) -> Iterator[tuple[Array, Array]]:
    """Pieces of two arrays, so that comparing large ones takes little memory."""
    flat_got, flat_want, n = got.reshape(-1), want.reshape(-1), 1 << 22
    for first in range(0, flat_want.size, n):
        yield flat_got[first : first + n], flat_want[first : first + n]


def _n_wrong(got: Array, want: Array, exact: bool) -> int:
    """The number of elements that differ in any bit (`exact`), or by more than the tolerance."""
    if exact:
        unsigned = f"u{want.itemsize}"
        return int(np.count_nonzero(got.view(unsigned) != want.view(unsigned)))
    relative, absolute = TOLERANCES[str(want.dtype)]
    wide = np.promote_types(want.dtype, np.float32)
    return int(np.count_nonzero(~np.isclose(got.astype(wide), want.astype(wide), rtol=relative, atol=absolute)))


def _set_up(contender: Contender, case: Case, expected: Answer) -> tuple[Entry, Ready | None]:
    """A contender with a right answer, or the reason why it is not timed."""
    entry = Entry(contender.peer, contender.way)
    try:
        ready = contender.ready(case.inputs)
        wrong = fault(ready.answer(0), expected, contender.peer == OURS)
    except (ImportError, OSError) as error:  # OSError: a shared library that the peer needs is missing
        entry.status, entry.detail = "absent", _one_line(error)
    except Exception as error:
        entry.status, entry.detail = "failed", _one_line(error)
    else:
        if not wrong:
            return entry, ready
        entry.status, entry.detail = "WRONG", wrong
    return entry, None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def run_case(workload: Workload, case: Case, plan: Plan, n_threads: int) -> CaseResult:
    """Check, then time, every contender of one case."""
    expected = workload.answer(case.inputs)
    entries, ready = [], []
    for contender in workload.contenders:
        if contender.peer in (OURS, *plan.peers):
            entry, made = _set_up(contender, case, expected)
            entries.append(entry)
            if made is not None:
                ready.append((entry, made))
    if case.n_bytes is not None:
        entries.append(Entry(COPY, f"of as many bytes by {threads_text(n_threads)}"))
        ready.append((entries[-1], copy_limit(case.n_bytes, n_threads)))
    slow = workload.id == "import" or workload.takes_minutes
    once = slow and plan.quick
    times = measure(
        [made for _, made in ready],
        n_batches=len(case.inputs.ids),
        runs=1 if once else min(plan.runs, 3) if workload.takes_minutes else plan.runs,
        warmup=0 if once or workload.takes_minutes else 1 if plan.quick else 3,
        calls=min(case.calls, 10) if plan.quick else case.calls,
        untimed_call=not slow,
        rest=0.02 if n_threads > 1 and workload.threaded and not plan.quick else 0.0,  # OpenMP's threads spin for about 5 ms
    )
    for (entry, made), seconds in zip(ready, times, strict=True):
        entry.seconds, entry.bytes_of_file = seconds, made.bytes_of_file()
    return CaseResult(case.label, case.n_bytes, case.per, case.series, case.size, entries)


def run(plan: Plan, progress: Callable[[str], Any] = lambda text: None) -> Iterator[WorkloadResult]:
    """Run the workloads of a plan, each at every setting of threads where that matters.

    Parameters
    ----------
    plan : Plan
    progress : callable
        Called with a short text on what is being run.

    Yields
    ------
    WorkloadResult
        As soon as a workload is over.
    """
    before = get_num_threads()
    try:
        for name in plan.workloads:
            yield from _run_workload(WORKLOADS[name], plan, progress)
    finally:
        set_num_threads(before)


def _run_workload(workload: Workload, plan: Plan, progress: Callable[[str], Any]) -> list[WorkloadResult]:
    settings = plan.threads if workload.threaded else plan.threads[-1:]
    gc.collect()  # frees tables of the last workload that are part of reference cycles
    results = [WorkloadResult(workload.id, workload.what, workload.shows, n_threads, []) for n_threads in settings]
    for case in workload.cases(plan.quick):
        for result in results:
            progress(f"{workload.id}: {case.label}, {threads_text(result.n_threads)}")
            set_threads(result.n_threads, plan.peers)
            result.cases.append(run_case(workload, case, plan, result.n_threads))
    return results
