"""The time of a step on any number of hosts, by a model that is fitted to measured runs.

    mpiexec -n 4 python examples/distributed_table.py --json runs.json     # and 1, 2 ranks ...
    python examples/scale_model.py runs.json              # the fit, then 8, 64 and 750 hosts

A step takes, for the rank with the most of it::

    a + b (tokens + rows served + gradients added) + c messages + d bytes + e switches

Switches: how often it waits for a processor, if there are more ranks than processors. a to e come
from the runs, by least squares of relative errors, of which none may be negative. What a rank has
to do is not modelled: ids are drawn as in the runs, and each gets its owner. On other hosts c and d
are those of the network, which --latency and --bandwidth say.
"""

from __future__ import annotations

import argparse
import itertools
import json
from typing import Any, NamedTuple

import numpy as np
from distributed_table import batch

from fastembed.distributed.partition import partition

MESSAGES = 5  # of a step from each rank to each: two agreements, ids, rows, gradients
Floats = np.ndarray[Any, np.dtype[np.float64]]


class Load(NamedTuple):
    """What a step asks of the rank that has the most of it."""

    work: int
    messages: int
    n_bytes: int


def load(n_ranks: int, n_tokens: int, n_rows: int, n_cols: int, exact: bool, step: int = 3) -> Load:
    """Draw the ids of all ranks and count, as docs/scale.md has it."""
    of = partition("hash", n_rows, n_ranks)
    asked, given = np.zeros((2, n_ranks, n_ranks), np.int64)
    for rank in range(n_ranks):
        ids = batch(step, rank, n_tokens, n_rows)
        distinct = np.unique(ids)
        asked[rank] = np.bincount(of.place(distinct)[0], minlength=n_ranks)
        given[rank] = np.bincount(of.place(ids if exact else distinct)[0], minlength=n_ranks)
    work = n_tokens + asked.sum(axis=0) + given.sum(axis=0)
    own = np.arange(n_ranks)
    asked[own, own] = given[own, own] = 0
    of_row = 4 * n_cols
    received = of_row * asked.sum(axis=1) + 8 * asked.sum(axis=0) + (8 + of_row) * given.sum(axis=0)
    sent = of_row * asked.sum(axis=0) + 8 * asked.sum(axis=1) + (8 + of_row) * given.sum(axis=1)
    return Load(int(work.max()), MESSAGES * (n_ranks - 1), int(np.maximum(sent, received).max()))


def columns_of(found: Load, busy: float) -> list[float]:
    """The factors of a to e; ``busy``: ranks for each processor, if there are more."""
    return [busy, found.work * busy, found.messages * busy, found.n_bytes * busy, MESSAGES * (busy - 1)]


def fitted(rows: Floats, seconds: Floats) -> Floats:
    """Coefficients of at least 0 with the least squares of relative errors."""
    scaled, best, least = rows / seconds[:, None], np.zeros(rows.shape[1]), np.inf
    columns = range(rows.shape[1])
    for used in itertools.chain.from_iterable(itertools.combinations(columns, n + 1) for n in columns):
        found = np.zeros(len(columns))
        found[list(used)] = np.linalg.lstsq(scaled[:, used], np.ones(len(seconds)), rcond=None)[0]
        error = float(((scaled @ found - 1) ** 2).sum())
        if (found >= 0).all() and error < least:
            best, least = found, error
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", help="of examples/distributed_table.py --json, all on one machine")
    parser.add_argument("--processors", type=int, default=2, help="of that machine (default: %(default)s)")
    parser.add_argument("--latency", type=float, default=2e-6, help="seconds for a message on the network (default: %(default)s)")
    parser.add_argument("--bandwidth", type=float, default=1e10, help="bytes a second and host (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=8192, help="of each host in a step (default: %(default)s)")
    parser.add_argument("--columns", type=int, default=64)
    parser.add_argument("--parameters", type=float, default=1e12, help="of the table (default: %(default)s)")
    arguments = parser.parse_args()
    with open(arguments.runs, encoding="ascii") as file:
        runs = [json.loads(line) for line in file]
    coefficients = show_fit(runs, arguments.processors)
    show_hosts(coefficients, arguments)


def show_fit(runs: list[dict[str, Any]], processors: int) -> Floats:
    """Fit the model and print it beside the measurements."""
    loads = [load(run["ranks"], run["tokens"] // run["ranks"], run["rows"], run["columns"], run["exact"]) for run in runs]
    rows = np.array([columns_of(found, max(1.0, run["ranks"] / processors)) for found, run in zip(loads, runs, strict=True)])
    seconds = np.array([run["seconds"] for run in runs])
    found = fitted(rows, seconds)
    print("| ranks | tokens in all | exact | measured, ms | model, ms |\n|---|---|---|---|---|")
    for run, of_model in zip(runs, rows @ found, strict=True):
        print(f"| {run['ranks']} | {run['tokens']:,} | {run['exact']} | {run['seconds'] * 1e3:.2f} | {of_model * 1e3:.2f} |")
    a, b, c, d, e = found
    print(f"\na = {a * 1e6:.0f} us, b = {b * 1e9:.0f} ns, c = {c * 1e6:.1f} us, d = {d * 1e9:.2f} ns, e = {e * 1e6:.0f} us\n")
    return found


def show_hosts(coefficients: Floats, arguments: argparse.Namespace) -> None:
    """Print what to expect of more hosts, with one rank each."""
    n_rows = int(arguments.parameters / arguments.columns)
    a, b = coefficients[:2]
    print("| hosts | exact | parameters a host | MB sent a host | step, ms | of it the network | tokens a second |")
    print("|---|---|---|---|---|---|---|")
    for n_hosts, exact in itertools.product((1, 8, 64, 750), (True, False)):
        found = load(n_hosts, arguments.tokens, n_rows, arguments.columns, exact)
        network = found.messages * arguments.latency + found.n_bytes / arguments.bandwidth
        step = a + b * found.work + network
        print(
            f"| {n_hosts} | {exact} | {arguments.parameters / n_hosts:.1e} | {found.n_bytes / 1e6:.2f} | {step * 1e3:.2f} "
            f"| {network / step:.0%} | {n_hosts * arguments.tokens / step:,.0f} |"
        )


if __name__ == "__main__":
    main()
