"""``bench``: the plan of a run, its output and its files."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from .. import plots
from .._messages import first_few, shown
from .._threads import get_num_threads
from .outputs import output_files
from .streams import Output, UsageError, report

if TYPE_CHECKING:
    from ..bench.suite import Plan, WorkloadResult
    from .outputs import OutputFile


def run_benchmarks(arguments: argparse.Namespace, out: Output) -> None:
    from .. import bench  # imported by this command alone, so that the others start faster

    if arguments.list:
        out.show(bench.listing())
        return
    plan = bench.Plan(
        _known("workload", arguments.workloads or bench.USUAL, bench.WORKLOADS),
        _known("peer", arguments.peers, bench.PEERS),
        _thread_counts(arguments.threads),
        arguments.runs or (3 if arguments.quick else 11),
        arguments.quick,
    )
    if arguments.plot is not None:
        plots.check_path("--plot", arguments.plot, (".png",))
    files = output_files({"--json": arguments.json, "--plot": arguments.plot}, {}, force=arguments.force)
    results: list[WorkloadResult] = []
    try:
        results.extend(bench.run(plan, report))  # one by one: those that are over stay
    except KeyboardInterrupt:
        out.say("interrupted: this is of the workloads that were over")
        _show(results, plan, files, out)
        raise
    _show(results, plan, files, out)
    wrong = bench.wrong_answers(results)
    if wrong:
        raise UsageError(f"fastembed gave no right answer in {first_few(wrong)}")


def _show(results: Sequence[WorkloadResult], plan: Plan, files: Mapping[str, OutputFile], out: Output) -> None:
    """The table and the files of a run."""
    from .. import bench

    out.say(bench.as_text(results, plan))
    writers = {"--json": bench.write_json, "--plot": bench.write_plot}
    for option, file in files.items():
        file.write(partial(writers[option], results, plan))
        for kept in file.kept:
            out.say(f"{file.path} was there: the old file is {kept}")


def _known(kind: str, names: Sequence[str], known: Iterable[str]) -> list[str]:
    """The names without repeats; "all" stands for every known name."""
    every = list(known)
    for name in names:
        if name not in (*every, "all"):
            raise UsageError(f"unknown {kind} {shown(name)}; there are: {first_few(every)} (see --list)")
    return list(dict.fromkeys(every if "all" in names else names))


def _thread_counts(words: Sequence[str]) -> list[int]:
    most = get_num_threads()
    counts = []
    for word in words:
        if word != "all" and not (word.isascii() and word.isdigit() and len(word) <= 4 and 1 <= int(word) <= 1024):
            raise UsageError(f"--threads must be numbers from 1 to 1024, or all, got {shown(word)}")
        counts.append(most if word == "all" else int(word))
    return list(dict.fromkeys(counts))
