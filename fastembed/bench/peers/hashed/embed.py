"""Hashed ids: each selects four rows of a table, which are summed."""

from __future__ import annotations

from typing import Any

import numpy as np

from .... import HashEmbedding
from ...timing import Answer, Array, Call
from ..base import OURS, Inputs, contender, sums_of_rows

_SEED = 7


def _fmix64(h: Array) -> Array:
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        h = (h ^ h >> np.uint64(33)) * np.uint64(factor)
    return h ^ h >> np.uint64(33)


def _rows(ids: Array, n_rows: int) -> Array:
    """MurmurHash3 of every id, in NumPy: shape (n_ids, 4)."""
    start = np.uint64(_SEED ^ 8)
    k = ids.view(np.uint64) * np.uint64(0x87C37B91114253D5)
    k = (k << np.uint64(31) | k >> np.uint64(33)) * np.uint64(0x4CF5AD432745937F)
    low = (k ^ start) + start
    low, high = _fmix64(low), _fmix64(low + start)
    low += high
    high += low
    return np.stack([low, high], axis=1).astype("<u8", copy=False).view("<u4") % np.uint32(n_rows)


def hash_answer(inputs: Inputs) -> Answer:
    """NumPy's sums of the four rows of each id."""
    return (sums_of_rows(inputs.wte, _rows(inputs.ids[0], len(inputs.wte))),)


@contender(OURS, "HashEmbedding, out=")
def _ours(inputs: Inputs) -> Call:
    layer, ids, out = HashEmbedding(*inputs.wte.shape, seed=_SEED, std=0.0), inputs.ids, inputs.buffer()
    layer.weight[...] = inputs.wte
    return lambda k: layer(ids[k], out=out)


@contender("numpy", "hash, take(out=), sum(out=)")
def _numpy(inputs: Inputs) -> Call:
    table, ids, out = inputs.wte, inputs.ids, inputs.buffer()
    rows = np.full((ids[0].size, 4, table.shape[1]), 0.0, table.dtype)

    def call(k: int) -> Array:
        np.take(table, _rows(ids[k], len(table)), axis=0, out=rows, mode="clip")
        return rows.sum(axis=1, out=out)

    return call


@contender("thinc", "HashEmbed")
def _thinc(inputs: Inputs) -> Call:
    from thinc.api import HashEmbed

    ids = [ids.view(np.uint64) for ids in inputs.ids]
    model: Any = HashEmbed(inputs.wte.shape[1], len(inputs.wte), seed=_SEED)
    model.set_param("E", inputs.wte.copy())
    return lambda k: model.predict(ids[k])


HASHED = (_ours, _thinc, _numpy)
