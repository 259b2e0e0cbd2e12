"""What a run under coverage has measured: of each branch, whether it was taken."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path

import coverage

# (source, number of the line) -> whether each of its branches was taken, by what tells them apart.
Branches = dict[tuple[str, int], dict[tuple[str, int], bool]]


def of_c(report: Path) -> Branches:
    """Of gcovr's report. A function that is compiled for each dtype has branches of its own for
    each; one that is compiled for each instruction set has them once."""
    branches: Branches = defaultdict(dict)
    for file in json.loads(report.read_text())["files"]:
        for line in file["lines"]:
            taken = branches[file["file"], line["line_number"]]
            for branch in line["branches"]:
                key = line["function_name"], branch["branchno"]
                taken[key] = taken.get(key, False) or branch["count"] > 0
    return branches


def of_cython(measured: coverage.Coverage, root: Path) -> Branches:
    """Of the lines that were traced: that each has run, and that each `if` went on at two places.

    A loop is traced once, when it begins, and not each time that it goes on.
    """
    branches: Branches = defaultdict(dict)
    for path in sorted((root / "fastembed" / "_kernels").glob("*.pyx")):
        source, lines = path.relative_to(root).as_posix(), path.read_text().splitlines()
        _, statements, _, missing, _ = measured.analysis2(str(path))
        arcs = set(measured.get_data().arcs(str(path)) or ())
        for number in statements:
            taken = branches[source, number]
            taken["runs", 0] = number not in missing
            if re.match(r"\s*(if|elif) ", lines[number - 1]):
                taken["goes on at a second place", 1] = len({to for start, to in arcs if start == number}) > 1
    return branches
