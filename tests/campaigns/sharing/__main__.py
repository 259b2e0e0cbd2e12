"""python -m sharing threads|processes|soak"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from . import processes, soak, threads


def main() -> int:
    parser = argparse.ArgumentParser(prog="sharing", description=__doc__)
    parser.add_argument("campaign", choices=("threads", "processes", "soak"))
    parser.add_argument("--minutes", type=float, default=1.0, help="of threads and soak")
    parser.add_argument("--n", type=int, default=20, help="interpreters")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.campaign == "threads":
            return threads.run(60 * arguments.minutes, arguments.seed, Path(folder))
        if arguments.campaign == "soak":
            return soak.run(arguments.minutes, arguments.seed, Path(folder))
        return processes.run(arguments.n, arguments.seed)


if __name__ == "__main__":
    sys.exit(main())
