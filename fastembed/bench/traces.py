"""Cases as in recommenders and in text: ids that repeat as they do there.

V: rows of a table; B: samples.
"""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from .cases import Case
from .peers import FP8_ROW, N_COLS, N_WORDS, WIDTH, Inputs
from .timing import Array

# MLPerf's DLRM-DCNv2 (training, reference implementation): rows of its 26 tables of 128 columns,
# and how many ids a sample has of each.
MLPERF_ROWS = (
    40_000_000, 39_060, 17_295, 7_424, 20_265, 3, 7_122, 1_543, 63, 40_000_000, 3_067_956, 405_282, 10, 2_209, 11_938, 155, 4,
    976, 14, 40_000_000, 40_000_000, 40_000_000, 590_152, 12_973, 108, 36,
)  # fmt: skip
MLPERF_IDS = (3, 2, 1, 2, 6, 1, 1, 1, 1, 7, 3, 8, 1, 6, 9, 5, 1, 1, 1, 12, 100, 27, 10, 3, 1, 1)

# Of the distinct rows in a batch of 65,536 ids of one table: the share of those that occur so often
# (Meta's published traces, github.com/facebookresearch/dlrm_datasets).
REUSE = (((1, 1), 0.473), ((2, 2), 0.152), ((3, 4), 0.139), ((5, 8), 0.112), ((9, 16), 0.072), ((17, 32), 0.032),
         ((33, 64), 0.011), ((65, 128), 0.009))  # fmt: skip


def reused(rng: np.random.Generator, n_rows: int, shape: tuple[int, ...]) -> Array:
    """Ids that repeat within each batch as in `REUSE`; which rows they are is uniform."""
    n_batches, n_ids = shape[0], int(np.prod(shape[1:]))
    shares = np.array([share for _, share in REUSE])
    kinds = rng.choice(len(REUSE), (n_batches, n_ids), p=shares / shares.sum())
    lows, highs = (np.array([ends[k] for ends, _ in REUSE]) for k in (0, 1))
    counts = rng.integers(lows[kinds], highs[kinds] + 1)
    rows = rng.integers(0, n_rows, (n_batches, n_ids))
    batches = [np.repeat(row, count)[:n_ids] for row, count in zip(rows, counts, strict=True)]
    return np.stack([rng.permutation(batch) for batch in batches]).reshape(shape)


def _many(tables: Sequence[Array], n_ids: Sequence[int], n_samples: int, n_batches: int, n_douts: int = 0) -> Inputs:
    """Batches of uniform ids in many tables, of each so many a sample."""
    rng = np.random.default_rng(1)
    ids = [
        np.concatenate([rng.integers(0, len(table), n_samples * n) for table, n in zip(tables, n_ids, strict=True)])
        for _ in range(n_batches)
    ]
    width = sum(table.shape[1] for table in tables)
    douts = [rng.standard_normal((n_samples, width), np.float32) for _ in range(n_douts)]
    return Inputs(ids=ids, douts=douts, tables=tables, lengths=np.repeat(np.array(n_ids, np.int64), n_samples))


def small_tables(quick: bool) -> Iterator[Case]:
    """1,000 tables that fit into the cache, one id of each: the overhead of a table."""
    rng, n_tables = np.random.default_rng(0), 20 if quick else 1_000
    for n_samples in (1, 16):
        tables = [rng.standard_normal((100, 16), np.float32) for _ in range(n_tables)]
        inputs = _many(tables, [1] * n_tables, n_samples, 100)
        yield Case(f"{n_tables:,} tables of 100 x 16, B {n_samples}, one id each, float32", inputs, calls=10)


def _mlperf_rows(scale: int) -> list[int]:
    return [max(n // scale, 1) for n in MLPERF_ROWS]


def _packed_table(rng: np.random.Generator, n_rows: int) -> Array:
    """Packed rows of 4 bits whose sums are exact, so that every order of sums gives one answer."""
    table = np.empty((n_rows, N_COLS // 2 + 4), np.uint8)
    n_block = 1 << 16
    for first in range(0, n_rows, n_block):  # block by block: 13.9 GB are all that there is room for
        table[first : first + n_block, :-4] = rng.integers(0, 256, (len(table[first : first + n_block]), N_COLS // 2), np.uint8)
    table[:, -4:] = np.array([2.0**-5, -0.25], np.float16).view(np.uint8)
    return table


def mlperf_packed(scale: int) -> Callable[[bool], Iterator[Case]]:
    """MLPerf's tables in 4 bits, their rows divided by ``scale``: 13.9 GB at 1."""

    def cases(quick: bool) -> Iterator[Case]:
        rng, divisor, n_samples = np.random.default_rng(0), 100_000 if quick else scale, 8 if quick else 2_048
        tables = [_packed_table(rng, n) for n in _mlperf_rows(divisor)]
        label = f"26 tables, {sum(map(len, tables)):,} rows (1 / {divisor:,}) of 128 in 4 bits, B {n_samples:,}, 214 ids each"
        yield Case(label, _many(tables, MLPERF_IDS, n_samples, 6))

    return cases


def mlperf_trained(scale: int) -> Callable[[bool], Iterator[Case]]:
    """MLPerf's tables in float32, their rows divided by ``scale``: 3.3 GB a contender at 32."""

    def cases(quick: bool) -> Iterator[Case]:
        rng, divisor, n_samples = np.random.default_rng(0), 100_000 if quick else scale, 8 if quick else 2_048
        tables = [rng.random((n, N_COLS), np.float32) - np.float32(0.5) for n in _mlperf_rows(divisor)]
        label = f"26 tables, {sum(map(len, tables)):,} rows (1 / {divisor:,}) of 128, B {n_samples:,}, 214 ids each, float32"
        yield Case(label, _many(tables, MLPERF_IDS, n_samples, 6, 2))

    return cases


def words_of_python(n_words: int) -> Array:
    """A text that every Python ships: the words of its library, numbered as they first occur."""
    numbers: dict[str, int] = {}
    words: list[int] = []
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        found = re.findall(r"\w+|[^\w\s]|\n", path.read_text(encoding="utf-8", errors="replace"))
        words += [numbers.setdefault(word, len(numbers)) for word in found]
        if len(words) >= n_words:
            break
    return np.resize(np.array(words, np.int64), n_words) % N_WORDS


def ngrams(quick: bool) -> Iterator[Case]:
    """Rows of FP8 that the words of a text select, a few and many at a time, in a table of 2 GB."""
    n_rows, n_batches = (5_000, 4) if quick else (7_600_000, 100)
    table = np.random.default_rng(0).integers(0, 256, (n_rows, FP8_ROW), np.uint8)
    table[:, :256] &= 0xF7  # no NaN
    table[:, 256:] &= 15
    table[:, 256:] += 112
    for n_tokens in (20,) if quick else (64, 2_048):
        ids = words_of_python(n_batches * n_tokens).reshape(n_batches, n_tokens)
        n_bytes = n_tokens * WIDTH * (FP8_ROW + 1_024)
        yield Case(
            f"V {n_rows:,}, 264 bytes a row, {n_tokens:,} tokens of text, 24 rows each", Inputs(wte=table, ids=list(ids)), n_bytes
        )
