"""python -m fuzz_vectors: what is wrong with how mutated files of vectors are read."""

import argparse
import faulthandler
import resource
import sys
import tempfile
from pathlib import Path

import vector_files

MOST_MEMORY = 8 << 30  # bytes of address space: what a file claims must not be allocated


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzz_vectors", description=__doc__)
    parser.add_argument("--n", type=int, default=10_000, help="files")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    with tempfile.TemporaryDirectory() as folder:
        found = vector_files.faults(Path(folder), arguments.seed, arguments.n)
    print(*found, f"{arguments.n} files, {len(found)} faults", sep="\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
