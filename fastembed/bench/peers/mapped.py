"""Rows of a table in a file, from the page cache or the disk; and of one that processes share."""

from __future__ import annotations

import concurrent.futures
import functools
import itertools
import mmap
import os
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from ... import DiskTable, Embedding, open_shards, reference
from ...io.disk import page_cache
from ..timing import Array, Call, Ready, ready_call
from .base import OURS, Contender, Inputs
from .hashed.ngram import FP8_ROW, N_BLOCK, N_COLS, decode_rows, level_of_bytes, power_of_bytes

LookUp = Callable[[Array], Array]


def _ready(map_file: Callable[[str], LookUp], inputs: Inputs) -> Ready:
    """A look-up; a cold one has a new mapping in each call, made before the clock starts.

    Of a cold one the bytes that came from the disk are counted, and those that it left in the page
    cache. The file is dropped from that while no process has it mapped.
    """
    path, ids = inputs.path, inputs.ids
    if not inputs.is_cold:
        look_up = map_file(path)
        for batch in ids:  # what is kept in memory, is
            look_up(batch)
        return ready_call(lambda k: look_up(ids[k]))

    taken: dict[str, list[int]] = {"read_from_disk": [], "left_in_page_cache": []}

    def seconds(batches: Sequence[int]) -> float:
        elapsed = 0.0
        for batch in batches:
            page_cache.drop(Path(path))
            look_up = map_file(path)
            before, began = page_cache.n_bytes_read(), time.perf_counter()
            result = look_up(ids[batch])
            elapsed += time.perf_counter() - began
            after, n_left = page_cache.n_bytes_read(), page_cache.n_bytes_cached(Path(path))
            if before is not None and after is not None:
                taken["read_from_disk"].append(after - before)
            if n_left is not None:
                taken["left_in_page_cache"].append(n_left)
            del result, look_up
        return elapsed / len(batches)

    def bytes_of_file() -> dict[str, float]:
        return {name: fmean(counts) for name, counts in taken.items() if counts}

    return Ready(lambda k: (np.asarray(map_file(path)(ids[k])),), seconds, bytes_of_file)


def _ours(path: str) -> LookUp:
    return Embedding.open(path)


def _memmap(path: str, is_random: bool = False) -> LookUp:
    table: Any = np.load(path, mmap_mode="r")
    if is_random:
        table._mmap.madvise(mmap.MADV_RANDOM)
    return lambda ids: np.take(table, ids, axis=0)


MAPPED = (
    Contender(OURS, "Embedding.open", functools.partial(_ready, _ours)),
    Contender("numpy", "take of a memmap", functools.partial(_ready, _memmap)),
    Contender("numpy", "take of a memmap, MADV_RANDOM", functools.partial(_ready, functools.partial(_memmap, is_random=True))),
)


# ---- FP8 rows in a safetensors file: elements, then a scale for each 32 of them ----


@functools.cache
def _values() -> Array:
    """What each byte of float8_e4m3fn stands for, by the reference."""
    rows = [[byte, 127] for byte in range(256)]
    return np.array(reference.formats.decode(rows, None, "float8_e4m3fn", 1, False, 1), np.float32).reshape(-1)


def _decoded(rows: Array) -> Array:
    scales = np.ldexp(np.float32(1), rows[..., N_COLS:].astype(np.int32) - 127)
    return _values()[rows[..., :N_COLS]] * np.repeat(scales, N_BLOCK, -1)


def _disk_table(path: str, engine: str = "auto") -> LookUp:
    return DiskTable(path, embedding_dim=N_COLS, format="float8_e4m3fn", cache_bytes=64 << 20, engine=engine)


def _place(path: str) -> tuple[int, tuple[int, ...]]:
    tensor = open_shards(path).tensors["rows"]
    return tensor.start, tensor.shape


def _mapped_rows(path: str) -> Array:
    start, shape = _place(path)
    table = np.memmap(path, np.uint8, "c", start, shape)
    table._mmap.madvise(mmap.MADV_RANDOM)  # type: ignore[attr-defined]
    return table


def _numpy_rows(path: str) -> LookUp:
    table = _mapped_rows(path)
    return lambda ids: _decoded(np.take(table, ids, axis=0))


@functools.cache
def _compiled_loop() -> Any:
    import numba

    return numba.njit(decode_rows)


def _serial_rows(path: str) -> LookUp:
    """A compiled loop that comes upon each page by itself, as an engine in C reads its mapping."""
    table, values, loop = np.asarray(_mapped_rows(path)), (level_of_bytes(), power_of_bytes()), _compiled_loop()

    def look_up(ids: Array) -> Array:
        out = np.empty((len(ids), N_COLS), np.float32)
        loop(table, ids, *values, out)
        return out

    look_up(np.zeros(1, np.int64))  # it is compiled before the clock starts
    return look_up


def _torch_rows(path: str) -> LookUp:
    import torch

    table = torch.from_numpy(_mapped_rows(path))

    def look_up(ids: Array) -> Array:
        rows = table.index_select(0, torch.from_numpy(ids))
        elements = rows[:, :N_COLS].view(torch.float8_e4m3fn).to(torch.float32)
        scales = torch.exp2(rows[:, N_COLS:].to(torch.float32) - 127)
        blocks = elements.view(len(ids), -1, N_BLOCK) * scales[:, :, None]
        return blocks.view(len(ids), -1).numpy()

    return look_up


def _pread_rows(path: str, n_threads: int = 16) -> LookUp:
    """One pread for each distinct row, by threads of Python."""
    start, _ = _place(path)
    file = open(path, "rb", buffering=0)  # noqa: SIM115 - it is open as long as the look-up is there
    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
    pool = concurrent.futures.ThreadPoolExecutor(n_threads)

    def look_up(ids: Array) -> Array:
        distinct, places = np.unique(ids, return_inverse=True)
        offsets = (distinct * FP8_ROW + start).tolist()
        read = b"".join(pool.map(lambda at: os.pread(file.fileno(), FP8_ROW, at), offsets, chunksize=64))
        return _decoded(np.frombuffer(read, np.uint8).reshape(-1, FP8_ROW))[places]

    return look_up


NGRAM_DISK = (
    Contender(OURS, "DiskTable", functools.partial(_ready, _disk_table)),
    Contender(OURS, "DiskTable, threads of pread", functools.partial(_ready, functools.partial(_disk_table, engine="pread"))),
    Contender("numba", "one loop over a mapping, a row after the other", functools.partial(_ready, _serial_rows)),
    Contender("numpy", "take of a memmap, decoded", functools.partial(_ready, _numpy_rows)),
    Contender("torch", "index_select of mapped bytes, decoded", functools.partial(_ready, _torch_rows)),
    Contender("python", "os.pread in 16 threads, decoded by NumPy", functools.partial(_ready, _pread_rows)),
)


def ngram_disk_answer(inputs: Inputs) -> tuple[Array]:
    """Rows of the table that was written to the file, decoded by NumPy."""
    return (_decoded(inputs.wte[inputs.ids[0]]),)


def mapped_answer(inputs: Inputs) -> tuple[Array]:
    """Rows of the table that was written to the file."""
    return (inputs.wte[inputs.ids[0]],)


# ---- shared tables ----

# Writes the rows that are there, so that the answer stays what it is.
_TRAINER = """
import sys, numpy as np, fastembed as fe
fe.set_num_threads(1)
table = fe.Embedding.attach(sys.argv[1]).snapshot()
layer = fe.Embedding.from_pretrained(table)
layer.share(sys.argv[1], replace=True)
batches = np.random.default_rng(0).integers(0, len(table), (16, int(sys.argv[2])))
rows = table[batches]
while True:
    for k in range(16):
        layer.set_rows(batches[k], rows[k])
"""
_numbers = itertools.count()


def _private(inputs: Inputs) -> Call:
    layer = Embedding(*inputs.wte.shape, dtype=str(inputs.wte.dtype), std=0.0).eval()  # its memory is what layers have
    layer.set_rows(np.arange(len(inputs.wte)), inputs.wte)
    return lambda k: layer(inputs.ids[k])


def _attached(inputs: Inputs, has_trainer: bool) -> Call:
    """A shared table; with a process that writes its rows all the time, in batches of 8,192."""
    name = f"bench-{os.getpid()}-{next(_numbers)}"
    layer = Embedding.from_pretrained(inputs.wte)
    shared, table = layer.share(name), Embedding.attach(name)
    if not has_trainer:
        weakref.finalize(table, _remove, shared, layer)
    else:
        shared.close()
        script = f"import sys; sys.path[:] = {sys.path!r}{_TRAINER}"
        trainer = subprocess.Popen([sys.executable, "-c", script, name, "8192"])
        weakref.finalize(table, _end, trainer, str(shared.path))
        while table.generation == 1:
            if trainer.poll() is not None:
                raise RuntimeError(f"the trainer ended with status {trainer.returncode}")
            time.sleep(0.01)
    return lambda k: table(inputs.ids[k])


def _remove(shared: Any, layer: Embedding) -> None:
    """The layer is kept until then, since sharing ends with it."""
    shared.remove()


def _end(trainer: subprocess.Popen[bytes], path: str) -> None:
    trainer.kill()
    trainer.wait()
    os.unlink(path)


_PRIVATE = (
    Contender("itself", "a private Embedding", _private),
    Contender("numpy", "take of a private table", lambda inputs: lambda k: np.take(inputs.wte, inputs.ids[k], axis=0)),
)
SHARED = (Contender(OURS, "Embedding.attach", lambda inputs: _attached(inputs, False)), *_PRIVATE)
# The trainer is at work while the private tables are read, too.
SHARED_BESIDE = (Contender(OURS, "Embedding.attach, of what is trained", lambda inputs: _attached(inputs, True)), *_PRIVATE)
