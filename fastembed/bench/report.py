"""The output of a run: a text table, JSON, a plot, and sentences on what is faster where."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Sequence
from typing import Any

from .. import show_config
from .peers import OURS, PEERS, version
from .suite import COPY, TOLERANCES, CaseResult, Entry, Plan, WorkloadResult, threads_text
from .workloads import WORKLOADS

_MEMORY_BYTES = 16 << 20  # from so many bytes of a call on, memory is what limits it


def versions() -> dict[str, str | None]:
    """The installed version of each peer; None for one that is absent."""
    return {peer: version(peer) for peer in PEERS}


def machine() -> dict[str, Any]:
    """The processor, the system and fastembed's configuration."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            model = next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), model)
    except OSError:
        pass
    return {"processor": model, "processors": os.cpu_count(), "system": platform.platform(), "fastembed": show_config()}


def listing() -> str:
    """The workloads, and the peers with their versions."""
    lines = ["workloads:"]
    for workload in WORKLOADS.values():
        named = " (minutes: only if named)" if workload.takes_minutes else "" if workload.is_usual else " (only if named)"
        lines.append(f"  {workload.id:<36} {workload.what}{named}")
    lines += ["peers:"]
    lines += [f"  {peer:<22} {number or 'absent'}" for peer, number in versions().items()]
    return "\n".join(lines)


# Numbers


def _time(seconds: float) -> str:
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}" if seconds * factor < 1_000 else f"{seconds * factor:,.0f} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def _copy_seconds(case: CaseResult) -> float | None:
    """The time of a copy of as many bytes, if these are too many for the caches of a core."""
    copies = case.timed(COPY) if (case.n_bytes or 0) >= _MEMORY_BYTES else []
    return copies[0].median if copies else None


def _entry_numbers(entry: Entry, case: CaseResult) -> dict[str, Any]:
    """An entry with the numbers that are derived from its times."""
    numbers: dict[str, Any] = {"peer": entry.peer, "way": entry.way, "status": entry.status, "detail": entry.detail}
    if entry.status != "ok" or not entry.seconds:
        return numbers
    ours, copy = case.ours(), _copy_seconds(case)
    numbers |= {"seconds": entry.seconds, "median": entry.median, "min": min(entry.seconds), "max": max(entry.seconds)}
    if case.n_bytes is not None and copy is not None:
        numbers |= {"gb_per_s": case.n_bytes / entry.median * 1e-9, "percent_of_copy": 100 * copy / entry.median}
    if ours is not None and entry.peer != COPY:
        numbers["ratio"] = entry.median / ours.median
    return numbers | {f"bytes_{name}": n_bytes for name, n_bytes in entry.bytes_of_file.items()}


def as_json(results: Sequence[WorkloadResult], plan: Plan) -> dict[str, Any]:
    """All results of a run, as objects that `json` can write."""
    return {
        "machine": machine(),
        "peers": versions(),
        "runs": plan.runs,
        "quick": plan.quick,
        "tolerances_of_peers": {dtype: {"relative": r, "absolute": a} for dtype, (r, a) in TOLERANCES.items()},
        "workloads": [
            {
                "id": result.id,
                "what": result.what,
                "shows": result.shows,
                "threads": result.n_threads,
                "cases": [
                    {
                        "case": case.label,
                        "bytes": case.n_bytes,
                        "contenders": [_entry_numbers(entry, case) for entry in case.entries],
                    }
                    for case in result.cases
                ],
                "summary": summary(result, plan),
            }
            for result in results
        ],
        "verdict": verdict(results, plan),
    }


# Sentences


def summary(result: WorkloadResult, plan: Plan) -> list[str]:
    """A workload's results in sentences; of a quick run, whose times mean little, only faults."""
    sentences = [
        f"{entry.name} is {entry.status} in {case.label}: {entry.detail}"
        for case in result.cases
        for entry in case.entries
        if entry.status in ("WRONG", "failed")
    ]
    if plan.quick:
        return sentences
    if result.shows == "wins":
        compared = [case for case in result.cases if case.ours() and case.best_peer()]
        won = sum(_ratio(case) >= 1 for case in compared)
        sentences.append(f"fastembed wins {won} of {len(compared)} draws against the best of its peers in each")
    elif result.shows == "growth":
        sentences += _growth(result)
    else:
        sentences += [_comparison(case) for case in result.cases]
    return sentences


def _ratio(case: CaseResult) -> float:
    """The best peer's time over ours; infinite if either is missing."""
    ours, peer = case.ours(), case.best_peer()
    return math.inf if ours is None or peer is None else peer.median / ours.median


def _comparison(case: CaseResult) -> str:
    ours, peer = case.ours(), case.best_peer()
    if ours is None or peer is None:
        return f"{case.label}: no peer to compare with"
    ratio = peer.median / ours.median
    if ratio < 1:
        return f"fastembed LOSES in {case.label}: {peer.name} takes {ratio:.2f} of its time"
    return f"fastembed is {ratio:.2f} times as fast as the best peer, {peer.name}, in {case.label}"


def _growth(result: WorkloadResult) -> list[str]:
    """How much the cost per id, or per touched row, varies with size."""
    sentences = []
    for series in dict.fromkeys(case.series for case in result.cases):
        costs = [(case.size, ours.median / case.per) for case in result.cases if case.series == series and (ours := case.ours())]
        if costs:
            ratio = max(cost for _, cost in costs) / min(cost for _, cost in costs)
            shown = ", ".join(f"{cost * 1e9:.1f} ns at {size:,}" for size, cost in costs)
            unit = "id" if series == "ids" else "touched row"
            sentences.append(f"cost per {unit} over {series}: {shown}; the highest is {ratio:.2f} times the lowest")
    return sentences


def verdict(results: Sequence[WorkloadResult], plan: Plan) -> list[str]:
    """A sentence for every case in which fastembed is slower; else one that says there is none."""
    if plan.quick:
        return ["a quick run shows that all works: its sizes are too small and its calls too few to compare times"]
    compared = [(result, case) for result in results for case in result.cases if _ratio(case) < math.inf]
    lost = [
        f"fastembed LOSES {result.id} at {threads_text(result.n_threads)}, {case.label}: "
        f"{peer.name} takes {_ratio(case):.2f} of its time"
        for result, case in compared
        if _ratio(case) < 1 and (peer := case.best_peer())
    ]
    if lost:
        return lost
    if not compared:
        return ["there was no peer to compare with"]
    return [f"fastembed is at least as fast as every peer in every case measured, {len(compared)} in all"]


def wrong_answers(results: Sequence[WorkloadResult]) -> list[str]:
    """The cases in which fastembed's own answer is wrong or missing."""
    return [
        f"{result.id}, {case.label}: {entry.detail}"
        for result in results
        for case in result.cases
        for entry in case.entries
        if entry.peer == OURS and entry.status != "ok"
    ]


# Text


def _absent(results: Sequence[WorkloadResult]) -> list[str]:
    """One line that names the peers that could not be set up; none if all could."""
    entries = [entry for result in results for case in result.cases for entry in case.entries]
    absent = {entry.peer: None for entry in entries if entry.status == "absent"}
    return [f"absent: {', '.join(absent)}"] if absent else []


def _rows(case: CaseResult, shows: str) -> list[str]:
    lines = [f"  {case.label}"]
    for entry in case.entries:
        if entry.status == "absent" or (entry.peer == COPY and _copy_seconds(case) is None):
            continue
        if not entry.seconds:
            lines.append(f"    {entry.name:<58} {entry.status}: {entry.detail}")
            continue
        numbers = _entry_numbers(entry, case)
        spread = f"{_time(numbers['min'])} .. {_time(numbers['max'])}"
        line = f"    {entry.name:<58} {_time(entry.median):>9}  {spread:<22}"
        line += f" {numbers['ratio']:7.2f} x" if "ratio" in numbers else 10 * " "
        if "gb_per_s" in numbers:
            line += f" {numbers['gb_per_s']:7.1f} GB/s {numbers['percent_of_copy']:5.0f} % of copy"
        for name, n_bytes in entry.bytes_of_file.items():
            line += f" {n_bytes / 1e6:8.2f} MB {name.replace('_', ' ')}"
        if shows == "growth":
            line += f" {entry.median / case.per * 1e9:8.2f} ns each"
        lines.append(line.rstrip())
    return lines


def as_text(results: Sequence[WorkloadResult], plan: Plan) -> str:
    """The table of a run: medians, their spread, each median over ours; a quick one's is short."""
    config = machine()
    lines = [
        f"{config['processor']}, {config['processors']} processors; {config['system']}",
        f"fastembed {config['fastembed']['version']} ({config['fastembed']['backend']}, {config['fastembed']['isa']}); "
        + ", ".join(f"{peer} {number}" for peer, number in versions().items() if number),
        *_absent(results),
    ]
    return "\n".join(
        [*lines, *(_short_rows(results, plan) if plan.quick else _all_rows(results, plan)), "", *verdict(results, plan)]
    )


def _short_rows(results: Sequence[WorkloadResult], plan: Plan) -> list[str]:
    """A line for each workload: fastembed's times, and how many answers of peers are right."""
    lines = [f"fastembed's medians of {plan.runs} runs, least .. most over cases and threads; peers with right answers"]
    for id in dict.fromkeys(result.id for result in results):
        of_one = [result for result in results if result.id == id]
        cases = [case for result in of_one for case in result.cases]
        times = sorted(ours.median for case in cases if (ours := case.ours()))
        peers = {entry.peer for case in cases for entry in case.timed()} - {OURS}
        line = f"  {id:<28} {_time(times[0])} .. {_time(times[-1])}" if times else f"  {id:<28} no time"
        lines.append(f"{line:<56} {len(peers)} peers")
        lines += [f"    => {sentence}" for sentence in dict.fromkeys(s for result in of_one for s in summary(result, plan))]
    return lines


def _all_rows(results: Sequence[WorkloadResult], plan: Plan) -> list[str]:
    lines = [
        f"median of {plan.runs} runs, least .. most, and the median over fastembed's (x): above 1 fastembed is faster",
    ]
    for result in results:
        lines += ["", f"{result.id} at {threads_text(result.n_threads)}: {result.what}"]
        for case in result.cases:
            lines += _rows(case, result.shows)
        lines += [f"  => {sentence}" for sentence in summary(result, plan)]
    return lines


# Files


def write_json(results: Sequence[WorkloadResult], plan: Plan, path: str | os.PathLike[str]) -> None:
    """Write all times of a run."""
    with open(path, "w", encoding="ascii") as file:
        file.write(json.dumps(as_json(results, plan), indent=1) + "\n")


def write_plot(results: Sequence[WorkloadResult], plan: Plan, path: str | os.PathLike[str]) -> None:
    """Draw a run."""
    from .plot import draw

    draw(results, path)
