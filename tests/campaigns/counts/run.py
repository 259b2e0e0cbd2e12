"""The cases, run so that callgrind can tell them apart: a call of getppid is where it cuts.

python -m counts.run
"""

from __future__ import annotations

import itertools
import os

from . import cases

N_CALLS = 5
WARM_UP = 3


def names() -> list[str]:
    """The cases in the order in which they run."""
    return [name for name, _ in _all()]


def _all() -> itertools.chain[tuple[str, cases.Call]]:
    return itertools.chain(cases.short_calls(), cases.kernels())


def _measure(call: cases.Call) -> None:
    for _ in range(WARM_UP):
        call()
    os.getppid()
    for _ in range(N_CALLS):
        call()
    os.getppid()


def main() -> None:
    os.getppid()  # what came before ends here
    _measure(int)  # a call that does nothing: the cost of counting
    for _, call in _all():
        _measure(call)


if __name__ == "__main__":
    main()
