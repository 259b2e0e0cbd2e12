"""python -m fuzz_files: mutated files in processes of their own, so that a crash is a fault."""

from __future__ import annotations

import argparse
import mmap
import resource
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

from .run import run

PER_PROCESS = 20_000
MOST_MEMORY = 8 << 30  # bytes of address space: what a header claims must not be allocated


def child(arguments: argparse.Namespace) -> int:
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    with open(arguments.now, "r+b") as file, mmap.mmap(file.fileno(), 8) as now:
        return run(arguments.seed, range(arguments.first, arguments.first + arguments.n), Path("build/fuzz-files"), now)


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzz_files", description=__doc__)
    parser.add_argument("--n", type=int, default=10_000, help="files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the number of the first")
    parser.add_argument("--now", help="a file for the number that is running; in this process")
    arguments = parser.parse_args()
    if arguments.now is not None:
        return child(arguments)
    status, first, end = 0, arguments.first, arguments.first + arguments.n
    with tempfile.NamedTemporaryFile() as now:
        now.write(bytes(8))
        now.flush()
        while first < end:
            n = min(PER_PROCESS, end - first)
            command = [sys.executable, "-X", "faulthandler", "-m", "fuzz_files", f"--now={now.name}"]
            found = subprocess.run([*command, f"--n={n}", f"--seed={arguments.seed}", f"--first={first}"], check=False).returncode
            if found < 0:
                (at,) = struct.unpack("<q", Path(now.name).read_bytes())
                print(f"SEED={arguments.seed} CASE={at}: killed by signal {-found}", flush=True)
                first = at + 1
            else:
                first += n
            status |= int(found != 0)
    return status


if __name__ == "__main__":
    sys.exit(main())
