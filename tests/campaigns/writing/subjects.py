"""Layers with their optimisers, every call that writes to them, and all that they hold as bytes."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastembed as fe

V, D, P = 12, 5, 6
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "SGD": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01},
    "Adagrad": {"lr": 0.1, "weight_decay": 0.01},
    "RowWiseAdagrad": {"lr": 0.1},
    "Adam": {"lr": 0.1},
    "AdamW": {"lr": 0.1, "weight_decay": 0.1},
    "SparseAdam": {"lr": 0.1},
}
LAYERS = ("Embedding", "EmbeddingBag", "TokenPositionEmbedding", "HashEmbedding", "half", "max_norm", "mapped")


class Subject:
    """A layer and its optimiser after two steps, the same whenever it is made."""

    def __init__(self, kind: str, optimizer: str, folder: Path | None = None) -> None:
        self.kind, self.path = kind, None if folder is None else folder / "table.safetensors"
        self.layer = self._layer()
        self.layer.vocabulary = [f"w{i}" for i in range(V)]
        self.optimizer = getattr(fe.optim, optimizer)(self.layer, **OPTIMIZERS[optimizer])
        self.parameter = fe.Parameter(np.linspace(-1.0, 1.0, 7))
        self.clock = itertools.count()
        self.array = np.linspace(-3.0, 3.0, V * D).reshape(V, D)
        for _ in range(2):
            self.fused()

    def _layer(self) -> Any:
        if self.kind == "mapped":
            return fe.Embedding.create(self.path, (V, D), rng=1)
        if self.kind == "TokenPositionEmbedding":
            return fe.TokenPositionEmbedding(V, P, D, rng=1, norm="rms", dropout=0.1)
        if self.kind == "half":
            return fe.Embedding(V, D, dtype="float16", rng=1)
        if self.kind == "max_norm":
            return fe.Embedding(V, D, max_norm=1.0, rng=1)
        return getattr(fe, self.kind)(V, D, rng=1)

    def batch(self) -> tuple[Any, Any]:
        """The ids and gradients of the next step."""
        rng = np.random.default_rng(next(self.clock))
        shape = (2, 3)
        rows = (2,) if self.kind == "EmbeddingBag" else shape
        return rng.integers(0, V - 4, shape), rng.standard_normal((*rows, D)).astype(np.float32)

    def fused(self) -> None:
        ids, dout = self.batch()
        self.layer(ids)
        self.layer.backward(dout, optimizer=self.optimizer)

    def held(self) -> dict[str, Any]:
        """All that the layer and the optimiser hold, up to date, as bytes and texts."""
        state = self.optimizer.state_dict()
        found: dict[str, Any] = {name: _bytes(table) for name, table in self.layer.state_dict().items()}
        for name, grad in self.layer.grads().items():
            found |= {f"ids {name}": _bytes(grad.ids), f"gradient {name}": _bytes(grad.rows), f"shape {name}": grad.shape}
        for k, item in enumerate(state.pop("items")):
            found[f"step {k}"] = item.pop("step")
            for kind, arrays in item.items():
                found |= {f"{kind} {name} {k}": _bytes(array) for name, array in arrays.items()}
        found["names"] = list(self.layer.vocabulary)
        return found | {"options": repr(state), "array": _bytes(self.array), "parameter": _bytes(self.parameter.data)}

    def on_disk(self) -> dict[str, Any]:
        """What is found in the files of a mapped table, as they are now."""
        assert self.path is not None
        copy = self.path.parent.with_name(f"{self.path.parent.name}-copy")
        shutil.copytree(self.path.parent, copy)
        try:
            with fe.Embedding.open(copy / self.path.name) as layer:
                return {"weight": _bytes(layer.weight)}
        finally:
            shutil.rmtree(copy)

    def close(self) -> None:
        self.layer.storage.close()


def _bytes(array: Any) -> tuple[str, bytes]:
    return f"{array.dtype} {array.shape}", array.tobytes()


class Call(NamedTuple):
    """A call that writes: what is done before it; the call; the kinds of layers that have it."""

    prepare: Callable[[Subject], Any]
    call: Callable[[Subject, Any], object]
    kinds: tuple[str, ...] = LAYERS


def _accumulated(subject: Subject) -> None:
    ids, dout = subject.batch()
    subject.layer(ids)
    subject.layer.backward(dout)


def _called(subject: Subject) -> Any:
    ids, dout = subject.batch()
    subject.layer(ids)
    return dout


def _clip(subject: Subject, _: Any) -> None:
    fe.optim.clip_grad_norm(subject.layer, 0.1)


def _nothing(subject: Subject) -> None:
    pass


def _state(subject: Subject) -> Any:
    return {name: np.array(table) + table.dtype.type(1) for name, table in subject.layer.state_dict().items()}


def _optimizer_state(subject: Subject) -> Any:
    def other(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: other(part) for key, part in value.items()}
        if isinstance(value, list):
            return [other(part) for part in value]
        return value + 1 if isinstance(value, np.ndarray) or type(value) is int else value

    return other(subject.optimizer.state_dict())


def _step(subject: Subject, _: Any) -> None:
    subject.optimizer.step()


def _bag_backward(subject: Subject, dout: Any) -> None:
    fe.embedding_bag_backward(dout, [[0, 1, 1], [2, 3, 0]], subject.array, mode="mean", table=subject.array + 1)


_GROWING = tuple(kind for kind in LAYERS if kind != "HashEmbedding")
CALLS = {
    "fused": Call(_called, lambda s, dout: s.layer.backward(dout, optimizer=s.optimizer)),
    "backward": Call(_called, lambda s, dout: s.layer.backward(dout)),
    "step": Call(_accumulated, _step),
    "optimizer.flush": Call(_nothing, lambda s, _: s.optimizer.flush()),
    "layer.flush": Call(_nothing, lambda s, _: s.layer.flush()),
    "call": Call(_nothing, lambda s, _: s.layer([[0, 1], [2, 11]]), ("max_norm", "Embedding", "TokenPositionEmbedding")),
    "clip_grad_norm": Call(_accumulated, _clip),
    "load_state_dict": Call(_state, lambda s, state: s.layer.load_state_dict(state)),
    "optimizer.load_state_dict": Call(_optimizer_state, lambda s, state: s.optimizer.load_state_dict(state)),
    "shrink": Call(_accumulated, lambda s, _: s.layer.resize(V - 2), _GROWING),
    "add_tokens": Call(_accumulated, lambda s, _: s.layer.add_tokens(["x", "y"]), _GROWING),
    "set_rows": Call(_nothing, lambda s, _: s.layer.set_rows([1, 7], 2.5), tuple(k for k in LAYERS if "Token" not in k)),
    "scatter_add": Call(_nothing, lambda s, _: fe.scatter_add(s.array, [1, 2, 1], np.ones((3, D))), ("Embedding",)),
    "embedding_bag_backward": Call(lambda s: np.ones((2, D)), _bag_backward, ("EmbeddingBag",)),
}


def cases(names: str = "", optimizers: str = "") -> list[tuple[str, str, str]]:
    """(call, layer, optimiser) of all that are wanted; optimisers matter to calls that use them."""
    found = []
    for name, call in CALLS.items():
        if names and name not in names.split(","):
            continue
        uses_optimizer = name not in ("scatter_add", "embedding_bag_backward", "call", "backward", "clip_grad_norm", "set_rows")
        for kind in call.kinds:
            for optimizer in OPTIMIZERS if uses_optimizer else ("Adam",):
                if not optimizers or optimizer in optimizers.split(","):
                    found.append((name, kind, optimizer))
    return found


def difference(got: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """The names of what differs."""
    return sorted(name for name in got.keys() | expected.keys() if got.get(name) != expected.get(name))
