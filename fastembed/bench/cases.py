"""The cases of each workload: sizes, inputs from a seed, and the bytes that a call has to move.

V, P: rows of the tables; C: columns; B, T: the shape of a batch of ids.
"""

from __future__ import annotations

import importlib.resources
import importlib.util
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .. import NgramHash, _checks, checkpoint
from . import peers
from .peers import Inputs
from .timing import Array

V, C, T, B = 50_257, 768, 1_024, 8  # GPT-2 small
_POOLED_IDS = 3_200_000  # the most ids in a pool of batches
_POOLED_BYTES = 256 << 20  # the most bytes in a pool of gradients


@dataclass(frozen=True)
class Case:
    """One size of a workload.

    Attributes
    ----------
    label : str
    inputs : Inputs
    n_bytes : int or None
        What one call has to move; None where that is not one number.
    calls : int
        Calls per run.
    per : int
        What the cost is divided by in workloads about growth (ids, or touched rows); else 1.
    series : str
        The line of a growth plot to which the case belongs.
    size : int
        Its place on that line.
    """

    label: str
    inputs: Inputs
    n_bytes: int | None = None
    calls: int = 1
    per: int = 1
    series: str = ""
    size: int = 0


def uniform(rng: np.random.Generator, n_rows: int, shape: tuple[int, ...]) -> Array:
    """Ids that are all equally likely."""
    return rng.integers(0, n_rows, shape)


def zipf(rng: np.random.Generator, n_rows: int, shape: tuple[int, ...]) -> Array:
    """Ids as frequent as words in text (Zipf-Mandelbrot): 1 / (k + 2.7) for the k-th rank.

    Which id has which rank is random, and drawn anew in each call, so that a pool of batches must
    be drawn in one call.
    """
    cumulative = np.cumsum(1.0 / (np.arange(n_rows) + 2.7))
    order = rng.permutation(n_rows)
    ranks = np.searchsorted(cumulative, rng.random(shape) * cumulative[-1], side="right")
    return order[np.minimum(ranks, n_rows - 1)]  # the product can round up to cumulative[-1]


def _table(rng: np.random.Generator, n_rows: int, width: int, dtype: Any = np.float32) -> Array:
    return rng.random((n_rows, width), dtype) - dtype(0.5)


def _inputs(
    shape: tuple[int, ...],
    n_rows: int,
    width: int,
    *,
    draw: Any = uniform,
    dtype: Any = np.float32,
    backward: bool = False,
    seed: int = 0,
) -> Inputs:
    """Tables and a pool of batches of ids of ``shape``."""
    rng = np.random.default_rng(seed)
    n_ids = int(np.prod(shape))
    n_batches = min(max(_POOLED_IDS // n_ids, 4), 1_000)
    wte, wpe = _table(rng, n_rows, width, dtype), _table(rng, shape[-1], width, dtype)
    n_douts = min(max(_POOLED_BYTES // (n_ids * width * wte.itemsize), 2), 16) if backward else 0
    douts = [_table(rng, n_ids, width, dtype).reshape(*shape, width) for _ in range(n_douts)]
    return Inputs(wte, wpe, list(draw(rng, n_rows, (n_batches, *shape))), douts)


def is_small(inputs: Inputs) -> bool:
    """Whether the reference, which is pure Python, is fast enough to give the answer."""
    return inputs.wte.size + inputs.ids[0].size * inputs.wte.shape[1] <= 20_000


def _forward_bytes(inputs: Inputs) -> int:
    """What a forward moves: it reads rows, position table and ids, and writes the result."""
    n_rows = 2 * inputs.ids[0].size + inputs.ids[0].shape[-1]
    return n_rows * inputs.wte.shape[1] * inputs.wte.itemsize + inputs.ids[0].nbytes


def _backward_bytes(inputs: Inputs) -> int:
    """What a backward moves: it reads ``dout`` and the ids, and reads and writes each touched row.

    A row counts once however often its id occurs.
    """
    n_touched = len(np.unique(inputs.ids[0])) + inputs.ids[0].shape[-1]
    return inputs.douts[0].nbytes + 2 * n_touched * inputs.wte.shape[1] * inputs.wte.itemsize + inputs.ids[0].nbytes


def microgpt(ids: Sequence[int]) -> Callable[[bool], Iterator[Case]]:
    """microgpt's two tables, and the ids of one name."""

    def cases(quick: bool) -> Iterator[Case]:
        rng = np.random.default_rng(0)
        tables = _table(rng, 27, 16, np.float64), _table(rng, 8, 16, np.float64)
        yield Case("27 x 16 and 8 x 16, float64", Inputs(*tables, [np.array(ids, np.int64)]))

    return cases


def gpt2(draw: Any, backward: bool = False) -> Callable[[bool], Iterator[Case]]:
    """The tables and a batch of GPT-2 small."""

    def cases(quick: bool) -> Iterator[Case]:
        n_rows, width, shape = (2_000, 64, (2, 128)) if quick else (V, C, (B, T))
        inputs = _inputs(shape, n_rows, width, draw=draw, backward=backward)
        n_bytes = _backward_bytes(inputs) if backward else _forward_bytes(inputs)
        yield Case(f"V {n_rows:,}, C {width}, {shape[0]} x {shape[1]:,} ids, float32", inputs, n_bytes)

    return cases


def gpt2_without_bytes(draw: Any, backward: bool = False) -> Callable[[bool], Iterator[Case]]:
    """`gpt2` for work whose bytes are not one number."""

    def cases(quick: bool) -> Iterator[Case]:
        for case in gpt2(draw, backward)(quick):
            yield replace(case, n_bytes=None)

    return cases


def bags(quick: bool) -> Iterator[Case]:
    """Bags of the same size, with uniform ids."""
    yield from bags_of(uniform, 32)(quick)


def few_bags(bits: int | None) -> Callable[[bool], Iterator[Case]]:
    """Two bags of four ids; of a table that packing to so many bits does not change."""

    def cases(quick: bool) -> Iterator[Case]:
        inputs = _inputs((2, 4), 1_000, 64)
        if bits is not None:
            peers.round_to_levels(inputs.wte, bits)
        yield Case("V 1,000, C 64, 2 bags of 4, " + ("float32" if bits is None else f"{bits} bits"), inputs)

    return cases


def bags_of(draw: Any, n_ids: int) -> Callable[[bool], Iterator[Case]]:
    """Bags of ``n_ids`` each."""

    def cases(quick: bool) -> Iterator[Case]:
        n_rows, width, shape = (2_000, 64, (32, 16)) if quick else (1_000_000, 128, (4_096, n_ids))
        inputs = _inputs(shape, n_rows, width, draw=draw)
        n_bytes = (inputs.ids[0].size + shape[0]) * width * 4 + inputs.ids[0].nbytes
        yield Case(f"V {n_rows:,}, C {width}, {shape[0]:,} bags of {shape[1]}, float32", inputs, n_bytes)

    return cases


def halves(cases: Callable[[bool], Iterator[Case]]) -> Callable[[bool], Iterator[Case]]:
    """Those cases in float16, and in bfloat16 where ml_dtypes is installed."""

    def rounded(quick: bool) -> Iterator[Case]:
        for case in cases(quick):
            for name in ("float16", "bfloat16") if importlib.util.find_spec("ml_dtypes") else ("float16",):
                to, given = _checks.dtype(name), case.inputs
                douts = [dout.astype(to) for dout in given.douts]
                inputs = replace(given, wte=given.wte.astype(to), wpe=given.wpe.astype(to), douts=douts)
                yield replace(case, label=case.label.replace("float32", name), inputs=inputs, n_bytes=None)

    return rounded


def hashed(quick: bool) -> Iterator[Case]:
    """A table of the size that spaCy's pipelines have, and a large one.

    The ids are 64-bit numbers, as frequent as words in text.
    """
    for n_rows, width in ((500, 16),) if quick else ((5_000, 96), (1_000_000, 128)):
        n_ids, n_words = (256, 1_000) if quick else (8_192, 50_000)
        words = np.random.default_rng(1).integers(-(2**63), 2**63, n_words)
        inputs = _inputs((n_ids,), n_rows, width, draw=lambda rng, _, shape, words=words: words[zipf(rng, len(words), shape)])
        n_bytes = inputs.ids[0].nbytes + 5 * n_ids * width * 4
        yield Case(f"V {n_rows:,}, C {width}, {n_ids:,} ids of 64 bits, float32", inputs, n_bytes)


def searches(quick: bool) -> Iterator[Case]:
    """The gradients of a batch serve as queries.

    The bytes are known for one query alone: it reads the table once.
    """
    width = 16 if quick else 128
    for n_rows, n_queries in ((3_000, 1), (3_000, 20)) if quick else ((100_000, 1), (1_000_000, 1), (100_000, 100)):
        inputs = _inputs((n_queries,), n_rows, width, backward=True)
        n_bytes = inputs.wte.nbytes if n_queries == 1 else None
        yield Case(f"V {n_rows:,}, C {width}, {n_queries} queries, float32", inputs, n_bytes)


def packed_bags(bits: int) -> Callable[[bool], Iterator[Case]]:
    """Bags of a table that is quantised row by row."""

    def cases(quick: bool) -> Iterator[Case]:
        for case in bags(quick):
            ids, (n_rows, width) = case.inputs.ids[0], case.inputs.wte.shape
            peers.round_to_levels(case.inputs.wte, bits)
            n_bytes = ids.size * (width * bits // 8 + bits) + len(ids) * width * 4 + ids.nbytes
            yield replace(
                case, label=f"V {n_rows:,}, C {width}, {len(ids):,} bags of {ids.shape[1]}, {bits} bits", n_bytes=n_bytes
            )

    return cases


def mapped(quick: bool) -> Iterator[Case]:
    """A table in a file: warm, with every page in the page cache; and cold, on the disk alone."""
    n_rows, width, n_ids = (20_000, 16, 256) if quick else (1_000_000, 64, 8_192)
    inputs = _inputs((n_ids,), n_rows, width)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/table.npy"
        np.save(path, inputs.wte)
        with open(path, "rb") as file:  # the page cache drops only pages that are on the disk
            os.fsync(file.fileno())
        for is_cold in (False, True):
            label = f"V {n_rows:,}, C {width}, {n_ids:,} ids, float32, {'cold' if is_cold else 'warm'}"
            yield Case(label, replace(inputs, path=path, is_cold=is_cold))


def shared(quick: bool) -> Iterator[Case]:
    """A table beyond the caches, and one within them; few ids and many."""
    for n_rows, width in ((2_000, 16),) if quick else ((1_000_000, 64), (1_000_000, 16), (2_000, 64)):
        for n_ids in (16, 256) if quick else (1, 256, 8_192):
            inputs = _inputs((n_ids,), n_rows, width)
            yield Case(f"V {n_rows:,}, C {width}, {n_ids:,} ids, float32", inputs, calls=max(8_192 // n_ids, 1))


def ngram_disk(quick: bool) -> Iterator[Case]:
    """FP8 rows in a file, which the names select as text: 24 n-grams of each letter."""
    n_rows, n_tokens, n_batches = (20_000, 20, 4) if quick else (1_000_000, 256, 12)
    hash = NgramHash([3, 40503, 9176263, 2654435761], [[n_rows // 24] * 8] * 3, vocab_size=256, fill=0)
    text = np.frombuffer(importlib.resources.files("fastembed.data").joinpath("names.txt").read_bytes(), np.uint8)
    ids = hash(text[: n_tokens * n_batches]).reshape(n_batches, -1)
    rng = np.random.default_rng(0)
    table = rng.integers(0, 0x7F, (n_rows, peers.FP8_ROW), np.uint8)  # no NaN
    n_scales = peers.FP8_ROW // 33  # one for each 32 elements
    table[:, -n_scales:] = rng.integers(120, 134, (n_rows, n_scales))
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/table.safetensors"
        checkpoint.save(path, {"rows": table})
        for is_cold in (False, True):
            label = f"V {n_rows:,}, {peers.FP8_ROW} bytes a row, {ids.shape[1]:,} ids, {'cold' if is_cold else 'warm'}"
            yield Case(label, Inputs(table, ids=list(ids), path=path, is_cold=is_cold))


LONG_RUN_STEPS = 2_000


def long_run(quick: bool) -> Iterator[Case]:
    """One table, trained for LONG_RUN_STEPS steps."""
    n_rows, width, n_ids = (5_000, 8, 64) if quick else (1_000_000, 64, 8_192)
    inputs = _inputs((n_ids,), n_rows, width, draw=zipf, backward=True)
    yield Case(f"V {n_rows:,}, C {width}, {LONG_RUN_STEPS:,} steps of {n_ids:,} ids, float32", inputs)


def read_sizes(quick: bool) -> Iterator[Case]:
    """Batches from few ids to many, on GPT-2's tables."""
    n_rows, width = (2_000, 64) if quick else (V, C)
    for n_ids in (64, 1_024) if quick else (64, 256, 1_024, 4_096, 16_384, 65_536):
        n_tokens = min(n_ids, T)
        inputs = _inputs((n_ids // n_tokens, n_tokens), n_rows, width, draw=zipf)
        yield Case(f"{n_ids:,} ids", inputs, calls=max(8_192 // n_ids, 1))


def random_shapes(quick: bool) -> Iterator[Case]:
    """50 draws of V up to 100,000, C up to 2,048 and up to 65,536 ids, in arrays of up to 64 MB.

    Sizes are drawn on a logarithmic scale, so that small ones are as likely as large ones.
    """
    rng = np.random.default_rng(1)
    for k in range(4 if quick else 50):
        dtype = (np.float32, np.float64)[int(rng.integers(2))]
        width = int(2 ** rng.uniform(0, 11))
        max_rows = (64 << (10 if quick else 20)) // (width * np.dtype(dtype).itemsize)
        n_rows, n_ids = (max(int(min(limit, max_rows) ** rng.uniform(0.1, 1.0)), 1) for limit in (100_000, 65_536))
        n_tokens = int(min(n_ids, T) ** rng.uniform(0.0, 1.0))
        shape = n_ids // n_tokens, n_tokens
        draw = (uniform, zipf)[int(rng.integers(2))]
        label = f"V {n_rows:,}, C {width}, {shape[0]:,} x {n_tokens:,} {draw.__name__} ids, {np.dtype(dtype)}"
        inputs = _inputs(shape, n_rows, width, draw=draw, dtype=dtype, seed=k)
        yield Case(label, inputs, calls=max(8_192 // inputs.ids[0].size, 1))


def growth(backward: bool) -> Callable[[bool], Iterator[Case]]:
    """More and more ids, then larger and larger tables: uniform ids, 1,000 to a sequence.

    Rows have 16 columns, so that the largest table and the largest result fit into memory.
    """

    def cases(quick: bool) -> Iterator[Case]:
        width, n_tokens = 16, 1_000
        id_counts = (1_000, 10_000) if quick else (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
        row_counts = (5_000, 20_000) if quick else (50_000, 200_000, 1_000_000, 5_000_000, 20_000_000)
        n_rows, n_ids = (20_000, 10_000) if quick else (1_000_000, 100_000)
        for n in id_counts:
            inputs = _inputs((n // n_tokens, n_tokens), n_rows, width, backward=backward)
            yield Case(f"{n:,} ids, table of {n_rows:,} rows", inputs, calls=max(100_000 // n, 1), per=n, series="ids", size=n)
        for n in row_counts:
            inputs = _inputs((n_ids // n_tokens, n_tokens), n, width, backward=backward)
            n_touched = len(np.unique(inputs.ids[0]))
            yield Case(f"table of {n:,} rows, {n_ids:,} ids", inputs, per=n_touched, series="table rows", size=n)

    return cases


def no_tables(quick: bool) -> Iterator[Case]:
    """The one case of an import."""
    yield Case("fresh process", Inputs(ids=[np.empty(0, np.int64)]))
