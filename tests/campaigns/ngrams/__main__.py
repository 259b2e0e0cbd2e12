"""python -m ngrams: rows of n-grams against the formulas."""

import argparse
import sys

from .check import run


def main():
    parser = argparse.ArgumentParser(prog="ngrams", description=__doc__)
    parser.add_argument("--n", type=int, default=10_000_000, help="n-grams")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    return 1 if run(arguments.n, arguments.seed) else 0


if __name__ == "__main__":
    sys.exit(main())
