"""Cases of arithmetic in NumPy and Python, each compared with itself in default surroundings.

The reference has no such call, or an error bound instead of bits; that the caller's floating-point
state changes nothing is told all the same.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fastembed as fe
from fastembed import checkpoint, distributed, schedule
from fastembed.microgpt.model import GPT, Tokenizer

from .case import Case
from .draws import Draw

Found = list[tuple[str, Any]]


def _schedules(draw: Draw) -> Callable[[], Found]:
    lr, steps, end, at = draw.random(), draw.randint(1, 50), draw.random(), draw.randrange(60)
    shape = draw.choice((schedule.cosine, schedule.linear))
    return lambda: [("rate", schedule.warmup(shape(lr, steps, end), 5)(at)), ("of a number", schedule.warmup(lr, steps)(at))]


def _gpt(draw: Draw) -> Callable[[], Found]:
    dtype, seed, tokens = draw.choice(("float32", "float64")), draw.randrange(99), [draw.randrange(4) for _ in range(6)]
    text = Tokenizer("abc")

    def call() -> Found:
        rng = random.Random(seed)
        model = GPT(4, 5, 4, 2, 1, dtype=dtype, rng=rng)
        loss, logits = model.loss(tokens), model.logits(tokens[:5])
        grads = [(f"grad {name}", weight.grad) for name, weight in model.weights.items()]
        return [("loss", loss), ("logits", logits), *grads, ("sample", model.sample(text, rng, 0.7))]

    return call


def _wider(draw: Draw, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Numbers that no float32 is."""
    return draw.numbers(shape, "float64", draw.choice(("normal", "apart", "denormal")))


def _written(draw: Draw) -> Callable[[], Found]:
    """Rows, tables and states of another dtype, which are rounded."""
    table, rows = _wider(draw, (5, 3)).astype("float32"), _wider(draw, (2, 3))
    state, moments = _wider(draw, (8, 3)), [_wider(draw, (8, 3)) ** 2 for _ in range(2)]

    def call() -> Found:
        layer = fe.Embedding.from_pretrained(table.copy())
        layer.resize(7, new_rows=rows)
        layer.set_rows([1, 2], rows)
        layer.vocabulary = list("abcdefg")
        layer.add_tokens("h")
        found = [("rows", layer.weight.copy()), ("narrow", np.asarray(layer, "float16"))]
        layer.load_state_dict({"weight": state})
        optimizer = fe.optim.Adam(layer)
        loaded = optimizer.state_dict()
        item = {"step": 1, "exp_avg": {"weight": moments[0]}, "exp_avg_sq": {"weight": moments[1]}}
        optimizer.load_state_dict({**loaded, "items": [item]})
        first, second = (optimizer.state_dict()["items"][0][kind]["weight"] for kind in ("exp_avg", "exp_avg_sq"))
        return [*found, ("table", layer.weight), ("exp_avg", first), ("exp_avg_sq", second)]

    return call


def _trained(draw: Draw) -> Callable[[], Found]:
    """A layer and a parameter whose gradients are wider, clipped and applied; and a tied head."""
    data, grad = _wider(draw, (4, 2)).astype("float32"), _wider(draw, (4, 2))
    tables, dout = [_wider(draw, (4, 3)).astype("float32") for _ in range(2)], _wider(draw, (2, 3))
    limit, name = draw.choice((0.1, 1.0)), draw.choice(("SGD", "Adagrad", "RowWiseAdagrad", "AdamW", "SparseAdam"))

    def call() -> Found:
        parameter, layer = fe.Parameter(data.copy()), fe.TokenPositionEmbedding.from_arrays(*(table.copy() for table in tables))
        optimizer = getattr(fe.optim, name)([parameter, layer], lr=schedule.cosine(0.1, 9))
        hidden = layer([3, 1])
        scores = layer.logits(hidden)
        parameter.grad, found = grad, layer.logits_backward(scores)
        layer.backward(dout)
        norm, value = fe.optim.clip_grad_norm([parameter, layer], limit), layer.grads()["wte"].norm()
        optimizer.step()
        arrays = [("scores", scores), ("of hidden", found), ("data", parameter.data), ("wte", layer.wte), ("wpe", layer.wpe)]
        return [("norm", norm), ("of wte", value), ("rate", optimizer.lr), *arrays]

    return call


def _ranks(draw: Draw) -> Callable[[], Found]:
    """A sharded layer of one rank: first values, a step, clipping."""
    seed, dout, std = draw.randrange(99), _wider(draw, (3, 4)), draw.random()
    rows = _wider(draw, (6, 4)).astype("float32")

    def call() -> Found:
        group, found = distributed.local(), []
        for layer in (
            distributed.ShardedEmbedding(group, 6, 4, rng=seed, std=std),
            distributed.ShardedEmbedding.from_pretrained(group, rows),
        ):
            layer.backward(dout, [1, 5, 1])
            norm = distributed.clip_grad_norm(group, [layer], 0.3)
            fe.optim.SGD(layer, lr=0.1).step()
            found += [(f"norm {len(found)}", norm), (f"table {len(found)}", layer([0, 1, 2, 3, 4, 5]))]
        return found

    return call


def _made(draw: Draw) -> Callable[[], Found]:
    """First values of layers; and what a checkpoint's description says of decimals."""
    seed, std, numbers = draw.randrange(99), draw.random(), [draw.random(), 0.3, draw.uniform(1e-30, 1e30)]

    def call() -> Found:
        made = fe.Embedding(5, 3, std=std, rng=seed).weight
        with tempfile.TemporaryDirectory() as folder:
            checkpoint.save(Path(folder) / "x.safetensors", {"a": made}, {"numbers": numbers})
            _, description = checkpoint.load(Path(folder) / "x.safetensors")
        return [("made", made), ("numbers", np.array(description["numbers"]))]

    return call


SUBJECTS = {"schedules": _schedules, "written": _written, "trained": _trained, "gpt": _gpt, "made": _made, "ranks": _ranks}


def states(draw: Draw) -> Case:
    what = draw.choices(tuple(SUBJECTS), weights=(4, 4, 4, 1, 1, 1))[0]
    call = SUBJECTS[what](draw)
    return Case(f"states: {what}", call, call, {})
