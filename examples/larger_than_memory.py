"""Training a table that is larger than memory: it is in a mapped file, with its optimiser's state.

A batch reads and writes the rows that it names. The number is the memory that the process needs at
most, as a part of the table; the file has holes where no row was written.
"""

import argparse
import os
import re
import resource
import sys
import tempfile
from pathlib import Path

import numpy as np

import fastembed as fe

WIDTH = 64


def memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def peak() -> int:
    """The most memory that this process has needed, in bytes.

    On Linux getrusage counts that of the process which started this one, too.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main(size: int | None = None, steps: int = 200) -> float:
    n_rows = (2 * memory() if size is None else size) // (4 * WIDTH)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.safetensors"
        with fe.Embedding.create(path, (n_rows, WIDTH), init=0) as layer:
            optimizer = fe.optim.RowWiseAdagrad(layer, lr=0.1)
            targets = {}
            for _ in range(steps):
                ids = np.minimum(rng.zipf(1.2, 1024), n_rows) - 1
                wanted = np.where(ids % 2 == 0, 1.0, -1.0)[:, None]
                layer.backward(((layer(ids) - wanted) / len(ids)).astype(np.float32), optimizer=optimizer)
                targets |= dict(zip(ids.tolist(), wanted[:, 0].tolist(), strict=True))
        with fe.Embedding.open(path) as layer:
            ids = np.array(sorted(targets))
            signs = np.sign(layer(ids)[:, 0])
            assert (signs == [targets[i] for i in ids]).all()
        n_bytes, on_disk = n_rows * WIDTH * 4, path.stat().st_blocks * 512
    used = peak()
    print(f"a table of {n_bytes / 1e9:.1f} GB on a machine with {memory() / 1e9:.1f} GB of memory")
    print(f"{len(targets):,} rows were trained; {on_disk / 1e6:.1f} MB of the file are on the disk")
    print(f"the process needed {used / 1e6:.0f} MB, {used / n_bytes:.2%} of the table")
    return used / n_bytes


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, help="bytes of the table (default: twice the memory)")
    parser.add_argument("--steps", type=int, default=200, help="(default: %(default)s)")
    arguments = parser.parse_args()
    main(arguments.size, arguments.steps)
