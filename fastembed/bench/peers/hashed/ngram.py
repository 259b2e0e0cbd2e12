"""Hashed n-grams of a text, whose rows of FP8 are decoded to float32.

A row has 256 elements of e4m3fn and a ue8m0 scale for each 32 of them, 264 bytes. A token has 24
rows: 8 for its last 2, 3 and 4 tokens.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .... import NgramHash, PackedNgramEmbedding, PackedTable
from ...timing import Answer, Array, Call
from ..base import OURS, Inputs, contender

N_HEADS, N_COLS, N_BLOCK = 8, 256, 32
FP8_ROW = N_COLS + N_COLS // N_BLOCK  # bytes
WIDTH = 3 * N_HEADS  # rows of a token
_MULTIPLIERS = (1_313_137, 8_765_431, 5_550_007, 2_222_239)
N_WORDS = 1 << 20  # the most different tokens: no product exceeds 64 bits


def _sizes(n_rows: int) -> Array:
    """Of all heads, each another one, and all rows or nearly so."""
    return n_rows // WIDTH - np.arange(WIDTH).reshape(3, N_HEADS)


def _offsets(n_rows: int) -> Array:
    ends = np.cumsum(_sizes(n_rows))
    return np.concatenate([[0], ends[:-1]]).reshape(3, N_HEADS)


def _rows(tokens: Array, n_rows: int) -> Array:
    """The rows of each token in NumPy, shape (T, 24)."""
    padded = np.concatenate([np.zeros(3, np.int64), tokens])
    mix, found = tokens * _MULTIPLIERS[0], []
    for k, (sizes, offsets) in enumerate(zip(_sizes(n_rows), _offsets(n_rows), strict=True), 1):
        mix = mix ^ padded[3 - k : len(padded) - k] * _MULTIPLIERS[k]
        found.append(mix[:, None] % sizes + offsets)
    return np.concatenate(found, 1)


def level_of_bytes() -> Array:
    """The value of each byte as e4m3fn."""
    bytes_of = np.arange(256)
    exponents, fractions = bytes_of >> 3 & 15, bytes_of & 7
    sizes = np.where(exponents == 0, np.ldexp(fractions, -9), np.ldexp(fractions + 8, exponents - 10))
    sizes[bytes_of & 127 == 127] = np.nan
    return np.where(bytes_of < 128, sizes, -sizes).astype(np.float32)


def power_of_bytes() -> Array:
    """The value of each byte as ue8m0; none of the benchmark's is NaN."""
    return np.ldexp(1.0, np.arange(256).clip(0, 254) - 127).astype(np.float32)


def ngram_answer(inputs: Inputs) -> Answer:
    """NumPy's rows of the hashes, and their elements from tables of all bytes."""
    rows = inputs.wte[_rows(inputs.ids[0], len(inputs.wte))]
    elements = level_of_bytes()[rows[..., :N_COLS]] * np.repeat(power_of_bytes()[rows[..., N_COLS:]], N_BLOCK, axis=-1)
    return (elements.reshape(len(elements), -1),)


@contender(OURS, "PackedNgramEmbedding, out=")
def _ours(inputs: Inputs) -> Call:
    sizes = _sizes(len(inputs.wte))
    hash = NgramHash(_MULTIPLIERS, sizes, vocab_size=N_WORDS, fill=0)
    layer = PackedNgramEmbedding(hash, PackedTable(inputs.wte, N_COLS, format="float8_e4m3fn"))
    ids, out = inputs.ids, np.full((len(inputs.ids[0]), WIDTH * N_COLS), 0.0, np.float32)
    return lambda k: layer(ids[k], out=out)


@contender("numpy", "hash, take, levels of all bytes")
def _numpy(inputs: Inputs) -> Call:
    table, ids, levels, powers = inputs.wte, inputs.ids, level_of_bytes(), power_of_bytes()
    out = np.full((len(ids[0]) * WIDTH, N_COLS // N_BLOCK, N_BLOCK), 0.0, np.float32)

    def call(k: int) -> Array:
        rows = np.take(table, _rows(ids[k], len(table)).reshape(-1), axis=0)
        np.take(levels, rows[:, :N_COLS].reshape(out.shape), out=out, mode="clip")
        np.multiply(out, powers[rows[:, N_COLS:], None], out=out)
        return out.reshape(len(ids[k]), -1)

    return call


@contender("torch", "hash, index_select, view(float8_e4m3fn)")
def _torch(inputs: Inputs) -> Call:
    import torch

    table, powers = torch.from_numpy(inputs.wte), torch.from_numpy(power_of_bytes())
    ids = [torch.from_numpy(batch) for batch in inputs.ids]
    sizes, offsets = (torch.from_numpy(of(len(inputs.wte))) for of in (_sizes, _offsets))

    def call(k: int) -> Any:
        padded, found = torch.nn.functional.pad(ids[k], (3, 0)), []
        mix = ids[k] * _MULTIPLIERS[0]
        for n in range(3):
            mix = mix ^ padded[2 - n : len(padded) - n - 1] * _MULTIPLIERS[n + 1]
            found.append(mix[:, None] % sizes[n] + offsets[n])
        rows = torch.index_select(table, 0, torch.cat(found, 1).view(-1))
        elements = rows[:, :N_COLS].view(torch.float8_e4m3fn).to(torch.float32).view(len(rows), -1, N_BLOCK)
        scales = torch.index_select(powers, 0, rows[:, N_COLS:].reshape(-1).to(torch.int64)).view(len(rows), -1, 1)
        return (elements * scales).view(len(ids[k]), -1)

    return call


def decode_rows(table: Array, rows: Array, of_elements: Array, of_scales: Array, out: Array) -> None:
    """A loop that numba compiles, as an engine in C has it."""
    for i in range(len(rows)):
        row = table[rows[i]]
        for block in range(N_COLS // N_BLOCK):
            scale = of_scales[row[N_COLS + block]]
            for d in range(block * N_BLOCK, (block + 1) * N_BLOCK):
                out[i, d] = of_elements[row[d]] * scale


@contender("numba", "one loop, a row after the other")
def _numba(inputs: Inputs) -> Call:
    import numba

    look_up = numba.njit(decode_rows)
    table, ids, values = inputs.wte, inputs.ids, (level_of_bytes(), power_of_bytes())
    out = np.full((len(ids[0]) * WIDTH, N_COLS), 0.0, np.float32)

    def call(k: int) -> Array:
        look_up(table, _rows(ids[k], len(table)).reshape(-1), *values, out)
        return out.reshape(len(ids[k]), -1)

    return call


NGRAM = (_ours, _torch, _numba, _numpy)
