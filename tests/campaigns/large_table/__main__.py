"""python -m large_table FOLDER: a large file is written there, read at random, and removed."""

import argparse
import sys
from pathlib import Path

from .check import run


def main():
    parser = argparse.ArgumentParser(prog="large_table", description=__doc__)
    parser.add_argument("folder", type=Path, help="on the disk that is to be measured")
    parser.add_argument("--gigabytes", type=float, default=40.0)
    parser.add_argument("--seconds", type=float, default=60.0, help="of reads at random")
    parser.add_argument("--turns", type=int, default=6, help="of the plain loop and the table")
    parser.add_argument("--search", action="store_true", help="search the whole file, too")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    return 1 if run(**vars(arguments)) else 0


if __name__ == "__main__":
    sys.exit(main())
