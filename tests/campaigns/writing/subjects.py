"""What calls are made on: layers with their optimisers, and all that they hold as bytes."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastembed as fe
from fastembed import checkpoint

V, D, P = 12, 5, 6
SAVED = "saved"  # a file that a call writes, or reads
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
    """Something of a kind, the same whenever it is made, with an empty folder for its files."""

    path: Path | None = None  # of a mapped table

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind, self.folder = kind, folder
        self.result: Any = None  # of a call that makes something, as bytes and texts

    def held(self) -> dict[str, Any]:
        """All that it holds, up to date, as bytes and texts."""
        saved = self.folder / SAVED
        return {"result": self.result, SAVED: saved.read_bytes() if saved.exists() else None}

    def later(self) -> dict[str, Any]:
        """What it holds after more calls."""
        return self.held()

    def close(self) -> None:
        """End what it has open."""


class Trained(Subject):
    """A layer and its optimiser after two steps."""

    def __init__(self, kind: str, optimizer: str, folder: Path) -> None:
        super().__init__(kind, folder)
        self.path = folder / "table.safetensors" if kind == "mapped" else None
        self.layer = self.new_layer(self.path)
        if kind != "EmbeddingCollection":
            self.layer.vocabulary = [f"w{i}" for i in range(V)]
        layers = self.layers()
        self.optimizer = getattr(fe.optim, optimizer)(layers if layers[1:] else self.layer, **OPTIMIZERS[optimizer])
        self.parameter = fe.Parameter(np.linspace(-1.0, 1.0, 7))
        self.clock = itertools.count()
        self.array = np.linspace(-3.0, 3.0, V * D).reshape(V, D)
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
            return fe.NgramEmbedding(ngram_hash(), np.linspace(-1.0, 1.0, V * D, dtype="f4").reshape(V, D))
        if self.kind == "EmbeddingCollection":
            features = {"one": "a", "two": "b", "three": "a"}
            return fe.EmbeddingCollection({"a": (V, D), "b": (V, 2)}, features, rng=1)
        return getattr(fe, self.kind)(V, D, rng=1)

    def layers(self) -> list[Any]:
        """Those that the optimiser holds."""
        return [self.layer]

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
        state, found = self.optimizer.state_dict(), super().held()
        for k, layer in enumerate(self.layers()):
            found |= {f"{name} {k}": bytes_of(table) for name, table in layer.state_dict(lookups=True).items()}
            for name, grad in layer.grads().items():
                found[f"gradient {name} {k}"] = bytes_of(grad.ids), bytes_of(grad.rows), grad.shape
        for k, item in enumerate(state.pop("items")):
            found[f"step {k}"] = item.pop("step")
            for kind, arrays in item.items():
                found |= {f"{kind} {name} {k}": bytes_of(array) for name, array in arrays.items()}
        of_weights = getattr(self.layer, "per_sample_weights_grad", None)
        found |= {"names": list(getattr(self.layer, "vocabulary", ())), "options": repr(state)}
        found |= {"array": bytes_of(self.array), "parameter": bytes_of(self.parameter.data)}
        return found | {"of weights": None if of_weights is None else bytes_of(of_weights)}

    def on_disk(self) -> dict[str, Any]:
        """What is found in the files of a mapped table, as they are now."""
        if self.path is None:
            return {}
        copy = self.folder.with_name(f"{self.folder.name}-copy")
        shutil.copytree(self.folder, copy)
        try:
            with fe.Embedding.open(copy / self.path.name) as layer:
                return {"on disk": bytes_of(layer.weight)}
        finally:
            shutil.rmtree(copy)

    def later(self) -> dict[str, Any]:
        """After two more steps, and for a mapped table a flush."""
        for layer in self.layers():
            layer.zero_grad()
        for _ in range(2):
            self.fused()
        self.layer.flush()
        return self.held() | self.on_disk()

    def close(self) -> None:
        if self.path is not None:
            self.layer.storage.close()


def ngram_hash() -> fe.NgramHash:
    """Of 7 rows, two for each token."""
    return fe.NgramHash([3, 5, 9], [[3], [4]], vocab_size=V, fill=0)


def bytes_of(array: Any) -> tuple[str, bytes]:
    return f"{array.dtype} {array.shape}", array.tobytes()


def difference(got: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """The names of what differs."""
    return sorted(name for name in got.keys() | expected.keys() if got.get(name) != expected.get(name))


class Call(NamedTuple):
    """A call that writes: what is done before it; the call; the kinds of subjects that have it."""

    prepare: Callable[[Any], Any]
    call: Callable[[Any, Any], object]
    kinds: tuple[str, ...] = LAYERS


def nothing(subject: Subject) -> None:
    pass


def saved(subject: Subject) -> Path:
    """The path of a checkpoint, to write another over it."""
    path = subject.folder / SAVED
    checkpoint.save(path, {"a": np.arange(300.0)}, {"is": "old"})
    return path
