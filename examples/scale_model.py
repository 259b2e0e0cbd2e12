"""The time of a step on any number of hosts, by a model that is fitted to measured runs.

    mpiexec -n 4 python examples/distributed_table.py --json runs.json     # and 1, 2 ranks ...
    taskset -c 0 mpiexec -n 2 python examples/distributed_table.py --json runs.json
    python examples/scale_model.py runs.json --fit-ranks 2   # the fit, then 8, 64 and 750 hosts

A step takes, for the rank with the most of it, if n ranks share what one processor does::

    n (a + b tokens + c (rows served + gradients added) + d messages + e bytes)

With p processors at work, n = ranks / (1 + g (p - 1)): each beyond the first does g times as much
as one alone, since ranks wait for each other, and share caches and memory. a to e and g come from
runs of at most --fit-ranks ranks, by least squares of relative errors; none may be negative. The
other runs show what the model is worth. What a rank has to do is not modelled: ids are drawn as in
the runs, and each gets its owner. On other hosts n is 1, d is --latency, and the time of the bytes
on the network, by --bandwidth, comes on top of e.
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

    tokens: int
    served: int
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
    served = asked.sum(axis=0) + given.sum(axis=0)
    own = np.arange(n_ranks)
    asked[own, own] = given[own, own] = 0
    of_row = 4 * n_cols
    received = of_row * asked.sum(axis=1) + 8 * asked.sum(axis=0) + (8 + of_row) * given.sum(axis=0)
    sent = of_row * asked.sum(axis=0) + 8 * asked.sum(axis=1) + (8 + of_row) * given.sum(axis=1)
    return Load(n_tokens, int(served.max()), MESSAGES * (n_ranks - 1), int(np.maximum(sent, received).max()))


def columns_of(found: Load, n_ranks: int, processors: int, gain: float) -> list[float]:
    """The factors of a to e."""
    busy = max(1.0, n_ranks / (1 + gain * (min(n_ranks, processors) - 1)))
    return [busy, *(busy * count for count in found)]


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
    parser.add_argument("--fit-ranks", type=int, default=2, metavar="N", help="fit to runs of at most N (default: %(default)s)")
    parser.add_argument("--plot", metavar="FILE", help="draw strong and weak scaling, measured and by the model")
    parser.add_argument("--latency", type=float, default=2e-6, help="seconds for a message on the network (default: %(default)s)")
    parser.add_argument("--bandwidth", type=float, default=1e10, help="bytes a second and host (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=8192, help="of each host in a step (default: %(default)s)")
    parser.add_argument("--columns", type=int, default=64)
    parser.add_argument("--parameters", type=float, default=1e12, help="of the table (default: %(default)s)")
    arguments = parser.parse_args()
    with open(arguments.runs, encoding="ascii") as file:
        runs = fastest([json.loads(line) for line in file])
    coefficients, of_model = show_fit(runs, arguments.fit_ranks)
    show_hosts(coefficients, arguments)
    if arguments.plot:
        draw(runs, of_model, arguments.plot)


def fastest(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of runs of one kind that which was disturbed the least."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for run in sorted(runs, key=lambda run: -run["seconds"]):
        found[run["ranks"], run["processors"], run["tokens"], run["exact"]] = run
    return [found[key] for key in sorted(found, key=lambda key: (key[0], -key[1], *key[2:]))]


def fit(runs: list[dict[str, Any]], is_fitted: Floats) -> tuple[Floats, float, Floats]:
    """The coefficients, the gain of a processor, and the seconds of all runs by the model."""
    loads = [load(run["ranks"], run["tokens"] // run["ranks"], run["rows"], run["columns"], run["exact"]) for run in runs]
    seconds = np.array([run["seconds"] for run in runs])

    def with_gain(gain: float) -> tuple[float, Floats, float, Floats]:
        counts = zip(loads, runs, strict=True)
        rows = np.array([columns_of(of_run, run["ranks"], run["processors"], gain) for of_run, run in counts])
        coefficients = fitted(rows[is_fitted], seconds[is_fitted])
        errors = rows @ coefficients / seconds - 1
        return float((errors[is_fitted] ** 2).sum()), coefficients, gain, rows @ coefficients

    return min((with_gain(gain) for gain in np.linspace(0, 1, 51)), key=lambda of_gain: of_gain[0])[1:]


def show_fit(runs: list[dict[str, Any]], most_ranks: int) -> tuple[Floats, Floats]:
    """Fit the model to some of the runs, and print it beside all; its coefficients and seconds."""
    is_fitted = np.array([run["ranks"] <= most_ranks for run in runs])
    found, gain, of_model = fit(runs, is_fitted)
    print("| ranks | processors | tokens in all | exact | measured, ms | model, ms | difference | |\n" + "|---" * 8 + "|")
    for run, expected, known in zip(runs, of_model, is_fitted, strict=True):
        of_run = f"| {run['ranks']} | {run['processors']} | {run['tokens']:,} | {'yes' if run['exact'] else 'no'}"
        times = f"{run['seconds'] * 1e3:.2f} | {expected * 1e3:.2f} | {expected / run['seconds'] - 1:+.0%}"
        print(f"{of_run} | {times} | {'fitted' if known else 'not seen by the fit'} |")
    a, b, c, d, e = found * 1e9
    print(f"\na = {a:,.0f} ns, b = {b:.0f} ns, c = {c:.0f} ns, d = {d:,.0f} ns, e = {e:.2f} ns, g = {gain:.2f}\n")
    return found, of_model


def draw(runs: list[dict[str, Any]], of_model: Floats, path: str) -> None:
    """Tokens a second by the number of ranks: of one batch that they share, and of one for each."""
    from matplotlib.figure import Figure

    figure = Figure((9, 4), layout="constrained")
    of_one = min(run["tokens"] for run in runs)
    for axes, title, of_rank in zip(figure.subplots(1, 2, sharey=True), ("strong", "weak"), (False, True), strict=True):
        for exact, colour in ((True, "tab:blue"), (False, "tab:orange")):
            chosen = {
                run["ranks"]: (run["tokens"] / run["seconds"], run["tokens"] / expected)
                for run, expected in zip(runs, of_model, strict=True)
                if run["exact"] is exact and run["tokens"] == of_one * (run["ranks"] if of_rank else 1) and run["processors"] > 1
            }
            for k, (label, style) in enumerate((("measured", "o-"), ("model", "x:"))):
                rates = [chosen[n][k] for n in sorted(chosen)]
                axes.plot(sorted(chosen), rates, style, color=colour, label=f"exact={exact}, {label}")
        axes.set(title=f"{title} scaling", xlabel="ranks", ylabel="tokens a second", xticks=(1, 2, 4), ylim=(0, None))
        axes.legend()
    figure.savefig(path)


def show_hosts(coefficients: Floats, arguments: argparse.Namespace) -> None:
    """Print what to expect of more hosts, with one rank each."""
    n_rows = int(arguments.parameters / arguments.columns)
    a, b, c, _, e = coefficients
    print("| hosts | exact | parameters a host | MB sent a host | step, ms | of it the network | tokens a second |")
    print("|---|---|---|---|---|---|---|")
    for n_hosts, exact in itertools.product((1, 8, 64, 750), (True, False)):
        found = load(n_hosts, arguments.tokens, n_rows, arguments.columns, exact)
        network = found.messages * arguments.latency + found.n_bytes / arguments.bandwidth
        step = a + b * found.tokens + c * found.served + e * found.n_bytes + network
        print(
            f"| {n_hosts} | {exact} | {arguments.parameters / n_hosts:.1e} | {found.n_bytes / 1e6:.2f} | {step * 1e3:.2f} "
            f"| {network / step:.0%} | {n_hosts * arguments.tokens / step:,.0f} |"
        )


if __name__ == "__main__":
    main()
