"""python -m writing interrupts|kills|allocations"""

from __future__ import annotations

import argparse
import sys

from . import allocations, interrupts, kills


def main() -> int:
    parser = argparse.ArgumentParser(prog="writing", description=__doc__)
    parser.add_argument("campaign", choices=("interrupts", "kills", "allocations"))
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--calls", default="", help="only these, by name, with commas between")
    parser.add_argument("--optimizers", default="", help="only these")
    parser.add_argument("--place", help="of allocations: call, layer and optimiser with commas between, in this process")
    parser.add_argument("--first", type=int, default=1, help="of allocations: the first that fails")
    parser.add_argument("--now", help="of allocations: a file for the number of the one that fails")
    arguments = parser.parse_args()
    if arguments.campaign == "interrupts":
        return interrupts.run(arguments.n, arguments.seed, arguments.calls, arguments.optimizers)
    if arguments.campaign == "kills":
        return kills.run(arguments.n, arguments.seed, arguments.calls)
    if arguments.place:
        return allocations.walk(tuple(arguments.place.split(",")), arguments.first, arguments.now)
    return allocations.run(arguments.calls, arguments.optimizers)


if __name__ == "__main__":
    sys.exit(main())
