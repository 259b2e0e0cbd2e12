"""python -m branches: fails for a branch that no test takes and that the written list has not, and
for an entry of the list whose branches are all taken. An entry whose reason begins with "By chance"
may be either."""

from __future__ import annotations

import argparse
import fnmatch
import io
import sys
from pathlib import Path

import coverage
import written_list

from .measured import Branches, of_c, of_cython

ROOT = written_list.ROOT
Entry = tuple[str, ...]  # the source, the line, the functions
LIST = Path(__file__).parent / "exceptions.txt"


def summary(kind: str, branches: Branches) -> str:
    taken = [is_taken for of_line in branches.values() for is_taken in of_line.values()]
    return f"{kind}: {sum(taken):,} of {len(taken):,} branches taken ({100 * sum(taken) / len(taken):.2f} per cent)"


def unlisted(branches: Branches, known: set[Entry]) -> tuple[list[str], set[Entry]]:
    """Lines with a branch that is neither taken nor in the list; and the entries that were met."""
    found, met = [], set()
    for (source, number), taken in sorted(branches.items()):
        line, left = (ROOT / source).read_text().splitlines()[number - 1].strip(), []
        for name, which in sorted(branch for branch, is_taken in taken.items() if not is_taken):
            entries = {
                entry for entry in known if entry[0] == source and entry[1] in (line, "*") and fnmatch.fnmatchcase(name, entry[2])
            }
            met |= entries
            left += [] if entries else [f"{name} {which}"]
        if left:
            found.append(f"{source}:{number}: {line}\n    not taken: {', '.join(left)}")
    return found, met


def main() -> int:
    parser = argparse.ArgumentParser(prog="branches", description=__doc__)
    parser.add_argument("report", type=Path, help="of gcovr, as JSON")
    parser.add_argument("--rcfile", required=True, help="of coverage.py")
    arguments = parser.parse_args()
    blocks = written_list.read(LIST, 4)
    known, by_chance = ({block[:3] for block in blocks if block[3].startswith(start)} for start in ("", "By chance"))
    measured = coverage.Coverage(config_file=arguments.rcfile)
    measured.load()
    c, cython = of_c(arguments.report), of_cython(measured, ROOT)
    found, met = unlisted(c | cython, known)
    stale = [f"{LIST.name}: all branches are taken: {'; '.join(entry)}" for entry in sorted(known - met - by_chance)]
    print(*found, *stale, summary("C", c), summary("Cython, by lines", cython), sep="\n")
    percent = measured.report(include=["*.py"], file=io.StringIO())
    print(f"Python, without the benchmarks: {percent:.2f} per cent of lines and branches")
    print(f"{len(found)} lines with a branch that is not taken and not in the list, {len(known)} in it, {len(stale)} stale")
    return int(bool(found or stale))


if __name__ == "__main__":
    sys.exit(main())
