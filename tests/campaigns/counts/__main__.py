"""make bench-count: the instructions of short calls and kernels, and what changed.

The calls run in one process under callgrind, which writes the instructions since the last file
before each call of getppid: `counts.run` calls it between the cases. The counts depend on the
compiler, Python and NumPy, which the kept file names, and on nothing else that changes between
two runs: one thread, a fixed seed of hashes, and AVX2, since callgrind knows no AVX-512.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import fastembed as fe

from .run import N_CALLS, names

KEPT = Path(__file__).with_name("counts.txt")
CHANGED = 0.01  # a smaller share is not shown: Python's dicts depend a little on addresses


def count() -> dict[str, int]:
    """The instructions of one call of each case."""
    with tempfile.TemporaryDirectory() as folder:
        tool = ["valgrind", "--tool=callgrind", "--quiet", f"--callgrind-out-file={folder}/out", "--dump-before=getppid"]
        settings = {"FASTEMBED_ISA": "avx2", "FASTEMBED_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
        subprocess.run([*tool, sys.executable, "-m", "counts.run"], env=os.environ | settings, check=True)
        files = sorted(Path(folder).glob("out.*"), key=lambda path: int(path.suffix[1:]))
        totals = [int(re.search(r"^(?:totals|summary): (\d+)", path.read_text(), re.MULTILINE)[1]) for path in files]
    # the first is what came before the cases; then of each case its preparation, and its calls
    calls = totals[2::2]
    empty = calls[0]
    return {name: (total - empty) // N_CALLS for name, total in zip(names(), calls[1:], strict=True)}


def versions() -> str:
    """What the counts depend on."""
    config = fe.show_config()
    return f"# {config['compiler']}, Python {sys.version.split()[0]}, NumPy {np.__version__}, avx2"


def kept() -> tuple[str, dict[str, int]]:
    """The versions and counts in the file; none without one."""
    if not KEPT.exists():
        return "", {}
    first, *lines = KEPT.read_text().splitlines()
    return first, {name: int(n) for n, name in (line.split(maxsplit=1) for line in lines)}


def changes(before: dict[str, int], after: dict[str, int]) -> list[str]:
    """A line for each case that is new, gone, or takes another number of instructions."""
    lines = [f"{'gone':>8}  {name}" for name in before if name not in after]
    for name, n in after.items():
        if name not in before:
            lines.append(f"{'new':>8}  {name}: {n:,}")
        elif abs(n - before[name]) > CHANGED * before[name]:
            lines.append(f"{n / before[name] - 1:+8.1%}  {name}: {before[name]:,} to {n:,}")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(prog="counts", description="Instructions of calls, and what changed.")
    parser.add_argument("--keep", action="store_true", help="write the counts to the file that later ones are compared with")
    arguments = parser.parse_args()
    (of_versions, before), after = kept(), count()
    if of_versions != versions():
        print(f"kept with   {of_versions}\ncounted with {versions()}")
    found = changes(before, after)
    print("\n".join(found) if found else f"none of {len(after)} counts changed by more than {CHANGED:.0%}")
    if arguments.keep:
        KEPT.write_text("\n".join([versions(), *(f"{n:>9} {name}" for name, n in after.items())]) + "\n")
    return 0 if arguments.keep or not found else 1


if __name__ == "__main__":
    sys.exit(main())
