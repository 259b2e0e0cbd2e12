"""The file, read at random beside a plain loop of io_uring, and searched: bits, rates, memory."""

import ctypes
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

import fastembed as fe

from .rows import N_COLS, ROW, bytes_of, write

PAGE = 4096
N_ROWS = 1536  # of a look-up: 64 tokens of 24
MEMORY = 500e6  # the most that the process may hold
_FORMAT = {"embedding_dim": N_COLS, "format": "float8_e4m3fn"}


def run(folder, gigabytes, seconds, turns, search, seed):
    """The number of faults: wrong bits, or more memory than is allowed."""
    n_rows = int(gigabytes * 1e9) // ROW
    with tempfile.TemporaryDirectory(dir=folder) as place:
        path = Path(place) / "table.safetensors"
        began = time.perf_counter()
        write(path, n_rows, lambda part: print(f"written: {part:.0%}", end="\r", flush=True))
        print(
            f"{n_rows:,} rows of {ROW} bytes, {path.stat().st_size / 1e9:.1f} GB, written in {time.perf_counter() - began:.0f} s"
        )
        with fe.DiskTable(path, cache_bytes=64 << 20, **_FORMAT) as table:
            n_faults = _random_reads(table, _plain_loop(place), path, seconds / turns / 2, turns, np.random.default_rng(seed))
            if search:
                n_faults += _search(table, np.random.default_rng(seed))
        return n_faults + _memory_faults()


def _plain_loop(folder):
    library = Path(folder) / "plain.so"
    source = Path(__file__).with_name("plain.c")
    subprocess.run(["cc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", source, "-o", library], check=True)
    return ctypes.CDLL(str(library)).read_pages


def _random_reads(table, read_pages, path, seconds, turns, rng):
    """Rows at random places and their pages, in turns; each row is compared."""
    file = os.open(path, os.O_RDONLY | os.O_DIRECT)
    start = path.stat().st_size - table.nbytes
    n_faults, rates = 0, []
    for _ in range(turns):
        n_looked_up, elapsed, end = 0, 0.0, time.perf_counter() + seconds
        while time.perf_counter() < end:
            ids = rng.integers(0, table.num_embeddings, N_ROWS)
            began = time.perf_counter()
            found = table(ids)
            elapsed += time.perf_counter() - began
            n_looked_up += N_ROWS
            n_faults += not _same(found, ids)
        pages = rng.integers(0, table.num_embeddings, n_looked_up) * ROW // PAGE + start // PAGE
        began = time.perf_counter()
        error = read_pages(file, pages.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(len(pages)))
        if error:
            raise OSError(-error, os.strerror(-error))
        rates.append((n_looked_up / elapsed, len(pages) / (time.perf_counter() - began)))
        print(f"{rates[-1][0]:,.0f} rows a second, decoded; the plain loop: {rates[-1][1]:,.0f} pages a second", flush=True)
    os.close(file)
    ratio = statistics.median(ours / plain for ours, plain in rates)
    print(f"the median of {turns} turns: {ratio:.2f} of the plain loop; {n_faults} look-ups with wrong bits")
    print(table.statistics())
    return n_faults


def _same(found, ids):
    expected = fe.PackedTable(bytes_of(ids), **_FORMAT)(np.arange(len(ids)))
    return np.array_equal(found.view(np.uint32), expected.view(np.uint32))


def _search(table, rng):
    """Whether the nearest row to each of two is the row itself; and how long that takes."""
    rows = rng.integers(0, table.num_embeddings, 2)
    began = time.perf_counter()
    found = table.nearest(rows, 1)
    elapsed = time.perf_counter() - began
    n_wrong = int((found.ids[:, 0] != rows).sum())
    print(f"searched in {elapsed:.0f} s, {table.nbytes / elapsed / 1e6:,.0f} MB a second; {n_wrong} of {len(rows)} are wrong")
    return n_wrong


def _memory_faults():
    with open("/proc/self/status", encoding="ascii") as file:
        (peak,) = (int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    print(f"the most memory of the process: {peak / 1e6:.0f} MB")
    return int(peak > MEMORY)
