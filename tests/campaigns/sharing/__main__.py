"""python -m sharing threads|processes|soak|tables|memory"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from . import processes, shared_tables, soak, threads


def main() -> int:
    parser = argparse.ArgumentParser(prog="sharing", description=__doc__)
    parser.add_argument("campaign", choices=("threads", "processes", "soak", "tables", "memory"))
    parser.add_argument("--minutes", type=float, default=1.0, help="of threads and soak")
    parser.add_argument("--n", type=int, default=20, help="interpreters, or rows of shared tables")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.campaign == "tables":
        return shared_tables.main(arguments.n, arguments.seed)
    if arguments.campaign == "memory":
        return shared_tables.main_of_memory()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.campaign == "threads":
            return threads.run(60 * arguments.minutes, arguments.seed, Path(folder))
        if arguments.campaign == "soak":
            return soak.run(arguments.minutes, arguments.seed, Path(folder))
        return processes.run(arguments.n, arguments.seed)


if __name__ == "__main__":
    sys.exit(main())
