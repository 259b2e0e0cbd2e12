"""Bags of many tables at once: sums of floats or of 4 bits, and steps of training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ... import EmbeddingCollection, QuantizedEmbedding, optim
from ..timing import Answer, Array, Call, Ready, ready_steps
from .base import OURS, Contender, Inputs
from .forward import fbgemm_tables
from .quantized import fbgemm_packed
from .step import CHECKED_STEPS, EPS, LR, UPDATES

_WARM_UP = 10  # untimed steps
N_COLS = 128  # of a packed table


def unpacked(rows: Array) -> Array:
    """The float32 rows that packed rows of 4 bits stand for."""
    n_bytes = N_COLS // 2
    q = np.stack([rows[:, :n_bytes] & 15, rows[:, :n_bytes] >> 4], axis=2).reshape(len(rows), N_COLS)
    scale, bias = np.ascontiguousarray(rows[:, n_bytes:]).view(np.float16).astype(np.float32).T
    product: Array = q.astype(np.float32) * scale[:, None] + bias[:, None]
    return product


def _parts(inputs: Inputs, k: int) -> Iterator[tuple[Array, Array, Array]]:
    """Each table with its ids in batch k, and where each of its bags begins."""
    n = len(inputs.lengths) // len(inputs.tables)
    for number, table in enumerate(inputs.tables):
        offsets = inputs.offsets[number * n : (number + 1) * n + 1]
        yield table, inputs.ids[k][offsets[0] : offsets[-1]], offsets[:-1] - offsets[0]


def _sums(rows: Array, starts: Array) -> Array:
    """The sum of the rows of each bag, in order; all bags are equally long, and none is empty."""
    n = len(rows) // len(starts)
    total = np.zeros((len(starts), rows.shape[1]), rows.dtype)
    for k in range(n):
        total += rows[k::n]
    return total


def many_answer(inputs: Inputs) -> Answer:
    """NumPy's sums of the rows of each bag, side by side."""
    sums = []
    for table, ids, starts in _parts(inputs, 0):
        rows = table[ids]
        sums.append(_sums(unpacked(rows) if table.dtype == np.uint8 else rows, starts))
    return (np.concatenate(sums, axis=1),)


def _made(inputs: Inputs, is_copied: bool) -> EmbeddingCollection:
    """The collection of all tables."""
    tables: dict[str, Any] = {f"table {k}": table.copy() if is_copied else table for k, table in enumerate(inputs.tables)}
    for name, table in tables.items():
        if table.dtype == np.uint8:
            tables[name] = QuantizedEmbedding.from_packed(table, N_COLS, bits=4)
    return EmbeddingCollection(tables)


def _ours(inputs: Inputs) -> Call:
    layer, ids, offsets = _made(inputs, False), inputs.ids, inputs.offsets
    out = np.array(layer(ids[0], offsets))
    return lambda k: layer(ids[k], offsets, out=out)


def _torch(inputs: Inputs) -> Call:
    """One call of an op for each table, of the tables' own memory."""
    import torch

    packed, plain = torch.ops.quantized.embedding_bag_4bit_rowwise_offsets, torch.nn.functional.embedding_bag

    def sums(table: Any, ids: Any, starts: Any) -> Any:
        if table.dtype == torch.uint8:
            return packed(table, ids, starts, False, 0, False, None, None, False)
        return plain(ids, table, starts, mode="sum")

    batches = [[tuple(map(torch.from_numpy, part)) for part in _parts(inputs, k)] for k in range(len(inputs.ids))]

    def call(k: int) -> Any:
        with torch.no_grad():
            return torch.cat([sums(*part) for part in batches[k]], dim=1)

    return call


def _fbgemm(inputs: Inputs) -> Call:
    import torch

    is_packed = inputs.tables[0].dtype == np.uint8
    bags = fbgemm_packed(inputs.tables, N_COLS, 4) if is_packed else fbgemm_tables(inputs.tables)
    dtype = np.int32 if is_packed else np.int64
    ids = [torch.from_numpy(ids.astype(dtype)) for ids in inputs.ids]
    offsets = torch.from_numpy(inputs.offsets.astype(dtype))

    def call(k: int) -> Any:
        with torch.no_grad():
            return bags(ids[k], offsets)

    return call


MANY = (
    Contender(OURS, "EmbeddingCollection, out=", _ours),
    Contender("torch", "an op for each table", _torch),
    Contender("fbgemm", "table-batched embedding", _fbgemm),
)
# Without a contender that copies the tables.
MANY_IN_PLACE = MANY[:2]


# Training


def many_step_answer(inputs: Inputs) -> Answer:
    """All tables after the first steps of row-wise Adagrad, by formulas of all touched rows."""
    tables = [table.copy() for table in inputs.tables]
    states = [[np.zeros((len(table), 1), table.dtype)] for table in tables]
    for t in range(CHECKED_STEPS):
        dout, begin = inputs.dout(t), 0
        for (_, ids, starts), table, state in zip(_parts(inputs, t), tables, states, strict=True):
            part, gradient = dout[:, begin : begin + table.shape[1]], np.zeros_like(table)
            np.add.at(gradient, ids, np.repeat(part, len(ids) // len(starts), axis=0))
            touched = np.unique(ids)
            w, h = table[touched], [state[0][touched]]
            UPDATES["RowWiseAdagrad"](w, gradient[touched], h, t + 1)
            table[touched], state[0][touched] = w, h[0]
            begin += table.shape[1]
    return tuple(tables)


def _ours_step(inputs: Inputs) -> Ready:
    layer = _made(inputs, True)
    opt = optim.RowWiseAdagrad(layer, lr=LR, eps=EPS)
    out = np.array(layer(inputs.ids[0], inputs.offsets))

    def step(k: int) -> None:
        layer(inputs.ids[k], inputs.offsets, out=out)
        layer.backward(inputs.dout(k), optimizer=opt)

    return ready_steps(step, lambda: tuple(layer.parameters()), len(inputs.ids), CHECKED_STEPS, _WARM_UP)


def _fbgemm_step(inputs: Inputs) -> Ready:
    import torch

    bags = fbgemm_tables(inputs.tables, "EXACT_ROWWISE_ADAGRAD", learning_rate=LR, eps=EPS)
    ids, offsets = [torch.from_numpy(ids) for ids in inputs.ids], torch.from_numpy(inputs.offsets)
    douts = [torch.from_numpy(dout) for dout in inputs.douts]

    def step(k: int) -> None:
        bags(ids[k], offsets).backward(douts[k % len(douts)])

    def tables() -> Answer:
        return tuple(table.detach().numpy() for table in bags.split_embedding_weights())

    return ready_steps(step, tables, len(ids), CHECKED_STEPS, _WARM_UP)


MANY_STEP = (
    Contender(OURS, "EmbeddingCollection, RowWiseAdagrad", _ours_step),
    Contender("fbgemm", "table-batched embedding, fused update", _fbgemm_step),
)
