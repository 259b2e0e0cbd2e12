"""Steps of training: forward, backward, update. Each contender trains tables of its own.

The expected answers are by formulas in NumPy that update every element, in fastembed's order of
operations, so that fastembed's answer must be equal to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ... import Embedding, TokenPositionEmbedding, optim
from ..timing import Answer, Array, Call, Ready, ready_run, ready_steps
from .backward import add_in_order
from .base import OURS, Contender, Inputs
from .forward import fbgemm_table
from .norm import sum_in_parts

LR, BETAS, EPS, DECAY = 0.01, (0.9, 0.999), 1e-8, 0.01
CHECKED_STEPS = 3  # the tables after them are the answer
WARM_UP = 100  # untimed steps, after which rows have pending updates as in training
Update = Callable[[Array, Array, list[Array], int], None]  # (table, its gradient, its state, step t)


# NumPy: the formulas


def _sgd(w: Array, g: Array, state: list[Array], t: int) -> None:
    w -= w.dtype.type(LR) * g


def _row_wise_adagrad(w: Array, g: Array, state: list[Array], t: int) -> None:
    h = state[0][:, :1]
    h += sum_in_parts(g * g) / w.dtype.type(w.shape[1])
    w -= w.dtype.type(LR) / (np.sqrt(h) + w.dtype.type(EPS)) * g


def _adam(w: Array, g: Array, state: list[Array], t: int, decay: float = 0.0) -> None:
    r, (b1, b2), (m, v) = w.dtype.type, BETAS, state
    if decay:
        w *= r(1 - LR * decay)
    m *= r(b1)
    m += r(1 - b1) * g
    v *= r(b2)
    v += r(1 - b2) * g * g
    w -= r(LR / (1 - b1**t)) * m / (np.sqrt(v) * r(1 / math.sqrt(1 - b2**t)) + r(EPS))


def _adamw(w: Array, g: Array, state: list[Array], t: int) -> None:
    _adam(w, g, state, t, DECAY)


def _sparse_adam(w: Array, g: Array, state: list[Array], t: int) -> None:
    r, (b1, b2), (m, v) = w.dtype.type, BETAS, state
    rows = np.flatnonzero(g.any(axis=1))  # the rows of the batch, as no sum of gradients is all zeros
    g, m_rows, v_rows = g[rows], m[rows], v[rows]
    m_rows += r(1 - b1) * (g - m_rows)
    v_rows += r(1 - b2) * (g * g - v_rows)
    m[rows], v[rows] = m_rows, v_rows
    w[rows] -= r(LR * math.sqrt(1 - b2**t) / (1 - b1**t)) * m_rows / (np.sqrt(v_rows) + r(EPS))


UPDATES: dict[str, Update] = {
    "SGD": _sgd,
    "RowWiseAdagrad": _row_wise_adagrad,
    "SparseAdam": _sparse_adam,
    "Adam": _adam,
    "AdamW": _adamw,
}


def numpy_training(name: str, inputs: Inputs) -> tuple[Call, Answer]:
    """A step with one batch that updates every element of both tables; and the tables."""
    tables, update, t = (inputs.wte.copy(), inputs.positions().copy()), UPDATES[name], 0
    states = [[np.zeros_like(table), np.zeros_like(table)] for table in tables]

    def step(k: int) -> None:
        nonlocal t
        t += 1
        (wte, wpe), ids, dout = tables, inputs.ids[k], inputs.dout(k)
        wte[ids] + wpe
        dwte, dwpe = (np.zeros_like(table) for table in tables)
        add_in_order(dwte, dwpe, ids, dout)
        update(wte, dwte, states[0], t)
        update(wpe, dwpe, states[1], t)

    return step, tables


def timed_steps(inputs: Inputs, step: Call, tables: Callable[[], Answer], warmup: int = WARM_UP) -> Ready:
    return ready_steps(step, tables, len(inputs.ids), CHECKED_STEPS, warmup)


def step_answer(name: str) -> Callable[[Inputs], Answer]:
    """Both tables after the first CHECKED_STEPS steps."""

    def answer(inputs: Inputs) -> Answer:
        step, tables = numpy_training(name, inputs)
        for k in range(CHECKED_STEPS):
            step(k)
        return tables

    return answer


def _numpy(name: str) -> Contender:
    def setup(inputs: Inputs) -> Ready:
        step, tables = numpy_training(name, inputs)
        return timed_steps(inputs, step, lambda: tables, 0)

    return Contender("numpy", "add.at, update of every element", setup)


# fastembed


def options_of(name: str) -> dict[str, Any]:
    options: dict[str, Any] = {"lr": LR}
    if "Adam" in name:
        options |= {"betas": BETAS, "eps": EPS}
    if name == "RowWiseAdagrad":
        options["eps"] = EPS
    return options | ({"weight_decay": DECAY} if name == "AdamW" else {})


def _ours(name: str) -> Contender:
    def setup(inputs: Inputs) -> Ready:
        layer = TokenPositionEmbedding.from_arrays(inputs.wte.copy(), inputs.positions().copy())
        opt, out = getattr(optim, name)(layer, **options_of(name)), inputs.buffer()

        def step(k: int) -> None:
            layer(inputs.ids[k], out=out)
            layer.backward(inputs.dout(k), optimizer=opt)

        _touch(opt.state_dict()["items"][0])
        return timed_steps(inputs, step, lambda: (layer.wte, layer.wpe))

    return Contender(OURS, f"{name}, backward(optimizer=)", setup)


def _touch(state: dict[str, Any]) -> None:
    """Bring each page of the state into memory."""
    for kind, arrays in state.items():
        for array in arrays.values() if kind != "step" else ():
            array.fill(0)


# PyTorch


def _torch(name: str, way: str, *, sparse: bool = False, **options: Any) -> Contender:
    def setup(inputs: Inputs) -> Ready:
        import torch

        wte, wpe = (torch.from_numpy(table.copy()).requires_grad_() for table in (inputs.wte, inputs.positions()))
        opt = getattr(torch.optim, name)([wte, wpe], **options_of(name), **options)
        ids, douts = [torch.from_numpy(ids) for ids in inputs.ids], [torch.from_numpy(dout) for dout in inputs.douts]
        positions = torch.arange(ids[0].shape[-1]).expand(ids[0].shape)
        embedding = torch.nn.functional.embedding

        def step(k: int) -> None:
            opt.zero_grad()
            by_position = embedding(positions, wpe, sparse=True) if name == "SparseAdam" else wpe
            (embedding(ids[k], wte, sparse=sparse) + by_position).backward(douts[k % len(douts)])
            opt.step()

        return timed_steps(inputs, step, lambda: (wte.detach().numpy(), wpe.detach().numpy()), WARM_UP if sparse else 0)

    return Contender("torch", way, setup)


# fbgemm


def _fbgemm(name: str) -> Contender:
    def setup(inputs: Inputs) -> Ready:
        import torch

        bags = fbgemm_table(
            inputs.stacked, {"SGD": "EXACT_SGD", "RowWiseAdagrad": "EXACT_ROWWISE_ADAGRAD"}[name], learning_rate=LR, eps=EPS
        )
        pairs, offsets = [torch.from_numpy(pair.ravel()) for pair in inputs.pairs], torch.arange(len(inputs.pairs[0]) + 1) * 2
        douts = [torch.from_numpy(dout).view(-1, dout.shape[-1]) for dout in inputs.douts]
        n_vocab, n_tokens = len(inputs.wte), inputs.ids[0].shape[-1]

        def step(k: int) -> None:
            bags(pairs[k], offsets).backward(douts[k % len(douts)])

        def tables() -> Answer:
            table = bags.split_embedding_weights()[0].detach().numpy()
            return table[:n_vocab], table[n_vocab : n_vocab + n_tokens]

        return timed_steps(inputs, step, tables)

    return Contender("fbgemm", "table-batched embedding, fused update", setup)


_DENSE, _SPARSE = "dense gradient", "sparse gradient"
STEP: dict[str, tuple[Contender, ...]] = {
    "SGD": (
        _ours("SGD"),
        _torch("SGD", f"SGD, {_SPARSE}", sparse=True),
        _torch("SGD", f"SGD, {_DENSE}"),
        _fbgemm("SGD"),
        _numpy("SGD"),
    ),
    "RowWiseAdagrad": (_ours("RowWiseAdagrad"), _fbgemm("RowWiseAdagrad"), _numpy("RowWiseAdagrad")),
    "SparseAdam": (_ours("SparseAdam"), _torch("SparseAdam", "SparseAdam", sparse=True), _numpy("SparseAdam")),
} | {
    name: (_ours(name), _torch(name, f"{name}, {_DENSE}, fused", fused=True), _torch(name, f"{name}, {_DENSE}"), _numpy(name))
    for name in ("Adam", "AdamW")
}


# A whole run of one table


def long_run_rows(inputs: Inputs) -> Array:
    """The rows that are compared: those of the first batch, and about 10,000 others."""
    return np.union1d(inputs.ids[0], np.arange(0, len(inputs.wte), max(len(inputs.wte) // 10_000, 1)))


def long_run_answer(n_steps: int) -> Callable[[Inputs], Answer]:
    """Those rows after all steps, each of which updates every element of them."""

    def answer(inputs: Inputs) -> Answer:
        rows = long_run_rows(inputs)
        w = inputs.wte[rows]
        state = [np.zeros_like(w), np.zeros_like(w)]
        for t in range(1, n_steps + 1):
            ids, g = inputs.ids[t % len(inputs.ids)], np.zeros_like(w)
            place = np.searchsorted(rows, ids).clip(max=len(rows) - 1)
            found = rows[place] == ids
            np.add.at(g, place[found], inputs.dout(t)[found])
            _adam(w, g, state, t)
        return (w,)

    return answer


def _ours_long(n_steps: int) -> Contender:
    def setup(inputs: Inputs) -> Ready:
        def train() -> Answer:
            layer = Embedding.from_pretrained(inputs.wte.copy())
            opt = optim.Adam(layer, **options_of("Adam"))
            for t in range(1, n_steps + 1):
                layer(inputs.ids[t % len(inputs.ids)])
                layer.backward(inputs.dout(t), optimizer=opt)
            opt.flush()
            return (layer.weight[long_run_rows(inputs)],)

        return ready_run(train)

    return Contender(OURS, "Adam, backward(optimizer=), flush at the end", setup)


def _torch_long(n_steps: int) -> Contender:
    def setup(inputs: Inputs) -> Ready:
        import torch

        def train() -> Answer:
            weight = torch.from_numpy(inputs.wte.copy()).requires_grad_()
            opt = torch.optim.Adam([weight], fused=True, **options_of("Adam"))
            for t in range(1, n_steps + 1):
                opt.zero_grad()
                ids = torch.from_numpy(inputs.ids[t % len(inputs.ids)])
                torch.nn.functional.embedding(ids, weight).backward(torch.from_numpy(inputs.dout(t)))
                opt.step()
            return (weight.detach().numpy()[long_run_rows(inputs)],)

        return ready_run(train)

    return Contender("torch", f"Adam, {_DENSE}, fused", setup)


def long_run(n_steps: int) -> tuple[Contender, ...]:
    return _ours_long(n_steps), _torch_long(n_steps)
