"""python -m differential: runs cases; SEED and CASE reproduce one."""

from __future__ import annotations

import argparse
import subprocess
import sys

from .run import run, run_one


def in_processes(arguments: argparse.Namespace) -> int:
    """Each process runs a part of the cases; 1 if one of them found a difference."""
    size, running = -(-arguments.n // arguments.jobs), []
    for first in range(arguments.first, arguments.first + arguments.n, size):
        n = min(size, arguments.first + arguments.n - first)
        command = [sys.executable, "-m", "differential", f"--n={n}", f"--seed={arguments.seed}", f"--first={first}"]
        command += [f"--fp-states={arguments.fp_states}", f"--ops={arguments.ops}", f"--most={arguments.most}"]
        running.append(subprocess.Popen(command))
    return max([process.wait() for process in running])


def main() -> int:
    parser = argparse.ArgumentParser(prog="differential", description=__doc__)
    parser.add_argument("--n", type=int, default=100_000, help="cases")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--case", type=int, help="run only the case of that number, and show it")
    parser.add_argument("--fp-states", choices=("default", "all"), default="default")
    parser.add_argument("--ops", default="", help="only these, by name, with commas between")
    parser.add_argument("--most", type=int, default=20, help="stop after so many differences")
    parser.add_argument("--jobs", type=int, default=1, help="processes, which share the cases")
    arguments = parser.parse_args()
    if arguments.case is not None:
        return run_one(arguments.seed, arguments.case, arguments.fp_states, arguments.ops)
    if arguments.jobs > 1:
        return in_processes(arguments)
    numbers = range(arguments.first, arguments.first + arguments.n)
    return run(arguments.seed, numbers, arguments.fp_states, arguments.ops, arguments.most)


if __name__ == "__main__":
    sys.exit(main())
