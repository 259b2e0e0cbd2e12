"""Every call that writes, and the kinds of subjects that have it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

import fastembed as fe
from fastembed import checkpoint
from fastembed._memory import memory_errors

from . import tables
from .subjects import LAYERS, OPTIMIZERS, SAVED, Call, D, Subject, Trained, V, bytes_of, nothing, saved


def _accumulated(subject: Trained) -> None:
    subject.layer.backward(subject.called())


def _clip(subject: Trained, _: Any) -> None:
    fe.optim.clip_grad_norm(subject.layer, 0.1)


def _state(subject: Trained) -> Any:
    return {name: np.array(table) + table.dtype.type(1) for name, table in subject.layer.state_dict().items()}


def _optimizer_state(subject: Trained) -> Any:
    def other(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: other(part) for key, part in value.items()}
        if isinstance(value, list):
            return [other(part) for part in value]
        return value + 1 if isinstance(value, np.ndarray) or type(value) is int else value

    return other(subject.optimizer.state_dict())


def _step(subject: Trained, _: Any) -> None:
    subject.optimizer.step()


def _bag_backward(subject: Trained, dout: Any) -> None:
    fe.embedding_bag_backward(dout, [[0, 1, 1], [2, 3, 0]], subject.array, mode="mean", table=subject.array + 1)


def _construct(subject: Trained, _: Any) -> None:
    """A layer, and for a mapped table the file."""
    path = subject.path and subject.folder / "made"
    if path is not None:
        with memory_errors():
            path.unlink(missing_ok=True)
    made = subject.new_layer(path)
    held = {name: bytes_of(table) for name, table in made.state_dict().items()}
    if path is not None:
        made.storage.close()
    subject.result = held


def _open(subject: Trained, path: Path) -> None:
    """The table and its optimiser; a layer that cannot be flushed stays open."""
    layer, name = fe.Embedding.open(path, "r+"), type(subject.optimizer).__name__
    try:
        optimizer = getattr(fe.optim, name)(layer, **OPTIMIZERS[name])
        held = bytes_of(layer.weight), repr(optimizer.step_counts)
        layer.flush()
    finally:
        layer.storage.close()
    subject.result = held


def _copied(subject: Trained) -> Path:
    """The files of the table in another folder, as of their last flush."""
    assert subject.path is not None
    subject.layer.flush()
    copy = subject.folder.with_name(f"{subject.folder.name}-opened")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(subject.folder, copy)
    return copy / subject.path.name


def _save(subject: Trained, path: Path) -> None:
    """Over an older checkpoint, which is there as long as the new one is not."""
    checkpoint.save_state(path, {"table": subject.array, "text": "new"})


def _load(subject: Trained, path: Path) -> None:
    tensors, description = checkpoint.load(path)
    subject.result = bytes_of(tensors["a"]), repr(description)


def _saved_layer(subject: Trained) -> Path:
    path = subject.folder / SAVED
    subject.layer.save(path)
    return path


def _load_layer(subject: Trained, path: Path) -> None:
    layer = fe.load(path, hash=subject.layer.hash if subject.kind == "NgramEmbedding" else None)
    subject.result = {name: bytes_of(table) for name, table in layer.state_dict().items()}


def _search(subject: Trained, _: Any) -> None:
    index = subject.layer.build_index()
    found = [subject.layer.nearest([1, 2], 3, metric, index=index) for metric in ("cosine", "dot", "l2")]
    subject.result = [(bytes_of(ids), bytes_of(scores)) for ids, scores in found]


def _pack(subject: Trained, _: Any) -> None:
    """Packed tables of two formats: rows, bags, rows plus positions."""
    rows = np.arange(12 * 34, dtype=np.uint8).reshape(12, 34)
    packed = fe.PackedTable(rows, 32, format="q8_0", dtype="float16")
    scaled = fe.PackedTable(rows[:, :32], 32, format="float8_e4m3fn", scales=rows[:, 32:33])
    quantized = fe.QuantizedEmbedding.from_float(subject.array)
    results = packed([3, 1]), scaled.bag([[1, 2], [3, 3]]), quantized([0, 5]), quantized.dequantize()
    subject.result = list(map(bytes_of, results))


_ONE_TABLE = tuple(kind for kind in LAYERS if kind not in ("EmbeddingCollection", "TokenPositionEmbedding"))
_GROWING = tuple(kind for kind in LAYERS if kind not in ("EmbeddingCollection", "HashEmbedding"))
_SAVED_LAYERS = "EmbeddingCollection", "NgramEmbedding", "half", "mapped"
CALLS = {
    "fused": Call(Trained.called, lambda s, dout: s.layer.backward(dout, optimizer=s.optimizer)),
    "backward": Call(Trained.called, lambda s, dout: s.layer.backward(dout)),
    "step": Call(_accumulated, _step),
    "optimizer.flush": Call(nothing, lambda s, _: s.optimizer.flush()),
    "layer.flush": Call(nothing, lambda s, _: s.layer.flush()),
    "call": Call(nothing, lambda s, _: s.layer([[0, 1], [2, 11]]), ("max_norm", "Embedding", "TokenPositionEmbedding")),
    "clip_grad_norm": Call(_accumulated, _clip),
    "load_state_dict": Call(_state, lambda s, state: s.layer.load_state_dict(state)),
    "optimizer.load_state_dict": Call(_optimizer_state, lambda s, state: s.optimizer.load_state_dict(state)),
    "shrink": Call(_accumulated, lambda s, _: s.layer.resize(V - 2), _GROWING),
    "add_tokens": Call(_accumulated, lambda s, _: s.layer.add_tokens(["x", "y"]), _GROWING),
    "resize of a group": Call(_accumulated, lambda s, _: s.layer.tables["b"].resize(V + 3), ("EmbeddingCollection",)),
    "count_lookups of a group": Call(nothing, lambda s, _: s.layer.tables["a"].count_lookups(), ("EmbeddingCollection",)),
    "count_lookups": Call(nothing, lambda s, _: s.layer.count_lookups(), _GROWING),
    "set_rows": Call(nothing, lambda s, _: s.layer.set_rows([1, 7], 2.5), _ONE_TABLE),
    "scatter_add": Call(nothing, lambda s, _: fe.scatter_add(s.array, [1, 2, 1], np.ones((3, D))), ("Embedding",)),
    "embedding_bag_backward": Call(lambda s: np.ones((2, D)), _bag_backward, ("EmbeddingBag",)),
    "construct": Call(nothing, _construct),
    "build_index": Call(nothing, _search, ("Embedding", "TokenPositionEmbedding", "half", "mapped")),
    "pack": Call(nothing, _pack, ("Embedding",)),
    "open": Call(_copied, _open, ("mapped",)),
    "layer.save": Call(saved, lambda s, path: s.layer.save(path), _SAVED_LAYERS),
    "layer.load": Call(_saved_layer, _load_layer, _SAVED_LAYERS),
    "checkpoint.save": Call(saved, _save, ("mapped",)),
    "checkpoint.load": Call(saved, _load, ("mapped",)),
    **tables.CALLS,
}
_WITHOUT_OPTIMIZER = {
    "scatter_add", "embedding_bag_backward", "call", "backward", "clip_grad_norm", "set_rows", "count_lookups",
    "count_lookups of a group", "construct", "build_index", "pack", "layer.save", "layer.load",
    "checkpoint.save", "checkpoint.load", *tables.WITHOUT_OPTIMIZER,
}  # fmt: skip
_OF_MAPPED_FILES = {"layer.flush", "construct", "shrink", "add_tokens"}
_OF_FILES = {"open", "layer.save", "layer.load", "checkpoint.save", "checkpoint.load", *tables.OF_FILES}


def is_of_files(name: str, kind: str) -> bool:
    """Whether a call is one of mapped tables or of files: there MemoryErrors are not lost."""
    return name in _OF_FILES or (kind == "mapped" and name in _OF_MAPPED_FILES)


def made(kind: str, optimizer: str, folder: Path) -> Subject:
    """A new subject, in a folder that is made empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    of_kind = tables.KINDS.get(kind)
    return Trained(kind, optimizer, folder) if of_kind is None else of_kind(kind, optimizer, folder)


def cases(names: str = "", optimizers: str = "") -> list[tuple[str, str, str]]:
    """(call, kind, optimiser) of all that are wanted; optimisers matter to calls that use them."""
    found = []
    for name, call in CALLS.items():
        if names and name not in names.split(","):
            continue
        for kind in call.kinds:
            for optimizer in ("Adam",) if name in _WITHOUT_OPTIMIZER else OPTIMIZERS:
                if not optimizers or optimizer in optimizers.split(","):
                    found.append((name, kind, optimizer))
    return found
