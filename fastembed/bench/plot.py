"""The plot of a run.

Bars of each contender's time over ours; for workloads about growth, lines of cost against size.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from .peers import OURS
from .suite import CaseResult, WorkloadResult, threads_text

_COLOURS = {OURS: "tab:blue", "numpy": "tab:orange", "torch": "tab:red", "thinc": "tab:green", "numba": "tab:purple"}


def draw(results: Sequence[WorkloadResult], path: str | os.PathLike[str]) -> None:
    """Write a PNG file with one panel per workload and number of threads."""
    from matplotlib.figure import Figure

    shown = [result for result in results if any(case.ours() for case in result.cases)]
    n_columns = min(3, max(len(shown), 1))
    n_rows = max(-(-len(shown) // n_columns), 1)
    figure = Figure(figsize=(6.5 * n_columns, 3.6 * n_rows), layout="constrained")
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axis, result in zip(axes, shown, strict=False):
        axis.set_title(f"{result.id}, {threads_text(result.n_threads)}", fontsize=10)
        panel = _growth if result.shows == "growth" else _wins if len(result.cases) > 1 else _bars
        panel(axis, result)
    for axis in axes[len(shown) :]:
        axis.set_axis_off()
    figure.savefig(path, format="png", dpi=110)


def _bars(axis: Any, result: WorkloadResult) -> None:
    """Each contender's median over ours, with its spread; the longest time at the bottom."""
    (case,) = result.cases
    ours = case.ours()
    assert ours is not None
    entries = sorted(case.timed(), key=lambda entry: -entry.median)
    ratios = [entry.median / ours.median for entry in entries]
    spread = [
        [(entry.median - min(entry.seconds)) / ours.median for entry in entries],
        [(max(entry.seconds) - entry.median) / ours.median for entry in entries],
    ]
    colours = [_COLOURS.get(entry.peer, "tab:gray") for entry in entries]
    axis.barh([entry.name for entry in entries], ratios, xerr=spread, color=colours, ecolor="0.4")
    axis.axvline(1.0, color="0.3", linewidth=0.8)
    axis.set_xlabel("time over fastembed's")
    axis.tick_params(labelsize=7)
    if max(ratios) > 20:
        axis.set_xscale("log")


def _wins(axis: Any, result: WorkloadResult) -> None:
    """The best time of each peer over ours, case by case."""
    cases = [case for case in result.cases if case.ours()]
    for peer in dict.fromkeys(entry.peer for case in cases for entry in case.timed() if entry.peer != OURS):
        axis.plot(range(len(cases)), [_best(case, peer) for case in cases], ".-", label=peer, color=_COLOURS.get(peer))
    axis.axhline(1.0, color="0.3", linewidth=0.8)
    axis.set_yscale("log")
    axis.set_ylabel("time over fastembed's")
    if len(cases) <= 10:
        axis.set_xticks(range(len(cases)), [case.label for case in cases], rotation=20, fontsize=7)
    else:
        axis.set_xlabel("draw")
    axis.legend(fontsize=7)


def _best(case: CaseResult, peer: str) -> float:
    """A peer's best median over ours, NaN if it has none."""
    ours, entries = case.ours(), case.timed(peer)
    return min(entry.median for entry in entries) / ours.median if ours and entries else float("nan")


def _growth(axis: Any, result: WorkloadResult) -> None:
    """Cost of one id, or of one touched row, against size; ideally the line is flat."""
    for series in dict.fromkeys(case.series for case in result.cases):
        cases = [case for case in result.cases if case.series == series]
        for peer in dict.fromkeys(entry.peer for case in cases for entry in case.timed()):
            points = [(case.size, min(e.median for e in case.timed(peer)) / case.per) for case in cases if case.timed(peer)]
            style = "o-" if series == "ids" else "s--"
            unit = "per id, over ids" if series == "ids" else "per touched row, over table rows"
            xs, ys = [size for size, _ in points], [cost * 1e9 for _, cost in points]
            axis.plot(xs, ys, style, label=f"{peer} {unit}", color=_COLOURS.get(peer))
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_ylabel("ns")
    axis.legend(fontsize=7)
