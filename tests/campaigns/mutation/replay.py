"""python -m mutation.replay FILE ISA: keeps in FILE what some thousand calls of the differential
campaign do, or where it is there already, compares them with it, up to the first that differs."""

from __future__ import annotations

import hashlib
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from common import outcome
from differential.case import as_bytes
from differential.run import chosen, make
from differential.surroundings import fp_states, surrounded

SEED, N_CASES, N_LARGE = 4, 2500, 60  # cases, and large ones on many threads


def digests(isa: str) -> Iterator[str]:
    """Of each case, what two calls with that instruction set did."""
    for ops, n in ((chosen(""), N_CASES), (chosen("threads"), N_LARGE)):
        for number in range(n):
            _, case, surroundings = make(SEED, number, ops, fp_states("default"))
            done = []
            for by in [by for by in surroundings if by.isa == isa][:2]:
                with surrounded(by):
                    done.append(as_bytes(outcome(case.ours)))
            yield hashlib.sha256(repr((done, case.unchanged())).encode()).hexdigest()


def main() -> int:
    kept, isa = Path(sys.argv[1]), sys.argv[2]
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    if not kept.exists():
        kept.write_text("\n".join(digests(isa)))
        return 0
    return int(any(a != b for a, b in zip(kept.read_text().split(), digests(isa), strict=True)))


if __name__ == "__main__":
    sys.exit(main())
