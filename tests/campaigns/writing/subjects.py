"""Layers with their optimisers, every call that writes to them, and all that they hold as bytes."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastembed as fe
from fastembed import checkpoint
from fastembed._memory import memory_errors

V, D, P = 12, 5, 6
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "SGD": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01},
    "Adagrad": {"lr": 0.1, "weight_decay": 0.01},
    "RowWiseAdagrad": {"lr": 0.1},
    "Adam": {"lr": 0.1},
    "AdamW": {"lr": 0.1, "weight_decay": 0.1},
    "SparseAdam": {"lr": 0.1},
}
LAYERS = (
    "Embedding", "EmbeddingBag", "TokenPositionEmbedding", "HashEmbedding", "NgramEmbedding", "EmbeddingCollection",
    "half", "max_norm", "mapped",
)  # fmt: skip


class Subject:
    """A layer and its optimiser after two steps, the same whenever it is made."""

    def __init__(self, kind: str, optimizer: str, folder: Path | None = None) -> None:
        self.kind, self.path = kind, None if folder is None else folder / "table.safetensors"
        self.layer = self.new_layer(self.path)
        if kind != "EmbeddingCollection":
            self.layer.vocabulary = [f"w{i}" for i in range(V)]
        self.optimizer = getattr(fe.optim, optimizer)(self.layer, **OPTIMIZERS[optimizer])
        self.parameter = fe.Parameter(np.linspace(-1.0, 1.0, 7))
        self.clock = itertools.count()
        self.array = np.linspace(-3.0, 3.0, V * D).reshape(V, D)
        self.result: Any = None  # of a call that makes something, as bytes and texts
        for _ in range(2):
            self.fused()

    def new_layer(self, path: Path | None) -> Any:
        if self.kind == "mapped":
            return fe.Embedding.create(path, (V, D), rng=1)
        if self.kind == "TokenPositionEmbedding":
            return fe.TokenPositionEmbedding(V, P, D, rng=1, norm="rms", dropout=0.1)
        if self.kind == "half":
            return fe.Embedding(V, D, dtype="float16", rng=1)
        if self.kind == "max_norm":
            return fe.Embedding(V, D, max_norm=1.0, rng=1)
        if self.kind == "NgramEmbedding":
            hash = fe.NgramHash([3, 5, 9], [[3], [4]], vocab_size=V, fill=0)
            return fe.NgramEmbedding(hash, np.linspace(-1.0, 1.0, V * D, dtype="f4").reshape(V, D))
        if self.kind == "EmbeddingCollection":
            features = {"one": "a", "two": "b", "three": "a"}
            return fe.EmbeddingCollection({"a": (V, D), "b": (V, 2)}, features, rng=1)
        return getattr(fe, self.kind)(V, D, rng=1)

    def called(self) -> Any:
        """The next call: the gradient of its result."""
        rng = np.random.default_rng(next(self.clock))
        ids, weights = rng.integers(0, V - 4, (2, 3)), rng.standard_normal((2, 3))
        arguments: tuple[Any, ...] = (ids,)
        if self.kind == "EmbeddingBag":
            arguments = ids, None, weights
        elif self.kind == "EmbeddingCollection":
            arguments = (dict.fromkeys(self.layer.features, ids), None, None, dict.fromkeys(self.layer.features, weights))
        return rng.standard_normal(self.layer(*arguments).shape).astype(np.float32)

    def fused(self) -> None:
        self.layer.backward(self.called(), optimizer=self.optimizer)

    def held(self) -> dict[str, Any]:
        """All that the layer and the optimiser hold, up to date, as bytes and texts."""
        state = self.optimizer.state_dict()
        found: dict[str, Any] = {name: _bytes(table) for name, table in self.layer.state_dict(lookups=True).items()}
        for name, grad in self.layer.grads().items():
            found |= {f"ids {name}": _bytes(grad.ids), f"gradient {name}": _bytes(grad.rows), f"shape {name}": grad.shape}
        for k, item in enumerate(state.pop("items")):
            found[f"step {k}"] = item.pop("step")
            for kind, arrays in item.items():
                found |= {f"{kind} {name} {k}": _bytes(array) for name, array in arrays.items()}
        of_weights = getattr(self.layer, "per_sample_weights_grad", None)
        if self.path is not None and self.beside("saved").exists():
            found["saved"] = self.beside("saved").read_bytes()
        found |= {"names": list(getattr(self.layer, "vocabulary", ())), "result": self.result}
        found |= {"array": _bytes(self.array), "parameter": _bytes(self.parameter.data)}
        return found | {"options": repr(state), "of weights": None if of_weights is None else _bytes(of_weights)}

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
        if self.path is not None:
            self.layer.storage.close()

    def beside(self, name: str) -> Path:
        """The path of another file in the folder of a mapped table."""
        assert self.path is not None
        return self.path.with_name(name)


def _bytes(array: Any) -> tuple[str, bytes]:
    return f"{array.dtype} {array.shape}", array.tobytes()


class Call(NamedTuple):
    """A call that writes: what is done before it; the call; the kinds of layers that have it."""

    prepare: Callable[[Subject], Any]
    call: Callable[[Subject, Any], object]
    kinds: tuple[str, ...] = LAYERS


def _accumulated(subject: Subject) -> None:
    subject.layer.backward(subject.called())


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


def _construct(subject: Subject, _: Any) -> None:
    """A layer, and for a mapped table the file."""
    path = subject.path and subject.beside("made")
    if path is not None:
        with memory_errors():
            path.unlink(missing_ok=True)
    made = subject.new_layer(path)
    held = {name: _bytes(table) for name, table in made.state_dict().items()}
    if path is not None:
        made.storage.close()
    subject.result = held


def _open(subject: Subject, path: Path) -> None:
    """The table and its optimiser; a layer that cannot be flushed stays open."""
    layer, name = fe.Embedding.open(path, "r+"), type(subject.optimizer).__name__
    try:
        optimizer = getattr(fe.optim, name)(layer, **OPTIMIZERS[name])
        held = _bytes(layer.weight), repr(optimizer.step_counts)
        layer.flush()
    finally:
        layer.storage.close()
    subject.result = held


def _copied(subject: Subject) -> Path:
    """The files of the table in another folder, as of their last flush."""
    assert subject.path is not None
    subject.layer.flush()
    copy = subject.path.parent.with_name(f"{subject.path.parent.name}-opened")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(subject.path.parent, copy)
    return copy / subject.path.name


def _saved(subject: Subject) -> Path:
    path = subject.beside("saved")
    checkpoint.save(path, {"a": np.arange(300.0)}, {"is": "old"})
    return path


def _save(subject: Subject, path: Path) -> None:
    """Over an older checkpoint, which is there as long as the new one is not."""
    checkpoint.save_state(path, {"table": subject.array, "text": "new"})


def _load(subject: Subject, path: Path) -> None:
    tensors, description = checkpoint.load(path)
    subject.result = _bytes(tensors["a"]), repr(description)


def _search(subject: Subject, _: Any) -> None:
    index = subject.layer.build_index()
    found = [subject.layer.nearest([1, 2], 3, metric, index=index) for metric in ("cosine", "dot", "l2")]
    subject.result = [(_bytes(ids), _bytes(scores)) for ids, scores in found]


def _pack(subject: Subject, _: Any) -> None:
    """Packed tables of two formats: rows, bags, rows plus positions."""
    rows = np.arange(12 * 34, dtype=np.uint8).reshape(12, 34)
    packed = fe.PackedTable(rows, 32, format="q8_0", dtype="float16")
    scaled = fe.PackedTable(rows[:, :32], 32, format="float8_e4m3fn", scales=rows[:, 32:33])
    quantized = fe.QuantizedEmbedding.from_float(subject.array)
    results = packed([3, 1]), scaled.bag([[1, 2], [3, 3]]), quantized([0, 5]), quantized.dequantize()
    subject.result = list(map(_bytes, results))


_ONE_TABLE = tuple(kind for kind in LAYERS if kind not in ("EmbeddingCollection", "TokenPositionEmbedding"))
_GROWING = tuple(kind for kind in LAYERS if kind not in ("EmbeddingCollection", "HashEmbedding"))
CALLS = {
    "fused": Call(Subject.called, lambda s, dout: s.layer.backward(dout, optimizer=s.optimizer)),
    "backward": Call(Subject.called, lambda s, dout: s.layer.backward(dout)),
    "step": Call(_accumulated, _step),
    "optimizer.flush": Call(_nothing, lambda s, _: s.optimizer.flush()),
    "layer.flush": Call(_nothing, lambda s, _: s.layer.flush()),
    "call": Call(_nothing, lambda s, _: s.layer([[0, 1], [2, 11]]), ("max_norm", "Embedding", "TokenPositionEmbedding")),
    "clip_grad_norm": Call(_accumulated, _clip),
    "load_state_dict": Call(_state, lambda s, state: s.layer.load_state_dict(state)),
    "optimizer.load_state_dict": Call(_optimizer_state, lambda s, state: s.optimizer.load_state_dict(state)),
    "shrink": Call(_accumulated, lambda s, _: s.layer.resize(V - 2), _GROWING),
    "add_tokens": Call(_accumulated, lambda s, _: s.layer.add_tokens(["x", "y"]), _GROWING),
    "resize of a group": Call(_accumulated, lambda s, _: s.layer.tables["b"].resize(V + 3), ("EmbeddingCollection",)),
    "count_lookups of a group": Call(_nothing, lambda s, _: s.layer.tables["a"].count_lookups(), ("EmbeddingCollection",)),
    "count_lookups": Call(_nothing, lambda s, _: s.layer.count_lookups(), _GROWING),
    "set_rows": Call(_nothing, lambda s, _: s.layer.set_rows([1, 7], 2.5), _ONE_TABLE),
    "scatter_add": Call(_nothing, lambda s, _: fe.scatter_add(s.array, [1, 2, 1], np.ones((3, D))), ("Embedding",)),
    "embedding_bag_backward": Call(lambda s: np.ones((2, D)), _bag_backward, ("EmbeddingBag",)),
    "construct": Call(_nothing, _construct),
    "build_index": Call(_nothing, _search, ("Embedding", "TokenPositionEmbedding", "half", "mapped")),
    "pack": Call(_nothing, _pack, ("Embedding",)),
    "open": Call(_copied, _open, ("mapped",)),
    "checkpoint.save": Call(_saved, _save, ("mapped",)),
    "checkpoint.load": Call(_saved, _load, ("mapped",)),
}
_WITHOUT_OPTIMIZER = {
    "scatter_add", "embedding_bag_backward", "call", "backward", "clip_grad_norm", "set_rows", "count_lookups",
    "count_lookups of a group", "construct",
    "build_index", "pack", "checkpoint.save", "checkpoint.load",
}  # fmt: skip
# Of mapped tables and of files: there MemoryErrors are not lost.
OF_FILES = {"layer.flush", "open", "checkpoint.save", "checkpoint.load", "construct", "shrink", "add_tokens"}


def cases(names: str = "", optimizers: str = "") -> list[tuple[str, str, str]]:
    """(call, layer, optimiser) of all that are wanted; optimisers matter to calls that use them."""
    found = []
    for name, call in CALLS.items():
        if names and name not in names.split(","):
            continue
        for kind in call.kinds:
            for optimizer in ("Adam",) if name in _WITHOUT_OPTIMIZER else OPTIMIZERS:
                if not optimizers or optimizer in optimizers.split(","):
                    found.append((name, kind, optimizer))
    return found


def difference(got: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """The names of what differs."""
    return sorted(name for name in got.keys() | expected.keys() if got.get(name) != expected.get(name))
