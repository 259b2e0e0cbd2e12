"""Mapped tables in training: batches by number, and states as bytes that can be compared."""

import os
import shutil

import numpy as np
import pytest

import fastembed as fe

V, D = 40, 6

KINDS = {
    "SGD": {"lr": 0.1},
    "SGD momentum": {"lr": 0.1, "momentum": 0.9, "nesterov": True},
    "Adagrad": {"lr": 0.1},
    "Adagrad from 0.5": {"lr": 0.1, "initial_accumulator_value": 0.5},
    "RowWiseAdagrad": {"lr": 0.1},
    "Adam": {"lr": 0.1},
    "AdamW": {"lr": 0.1, "weight_decay": 0.01},
    "SparseAdam": {"lr": 0.1},
}


def optimizer_of(kind, layer):
    return getattr(fe.optim, kind.split()[0])(layer, **KINDS[kind])


def train(layer, optimizer, steps):
    """Steps with batches that depend on their number alone; row 0 of the table is never touched."""
    for step in steps:
        rng = np.random.default_rng(step)
        ids = rng.integers(1, layer.num_embeddings, 7)
        layer(ids)
        layer.backward(rng.standard_normal((7, layer.embedding_dim)).astype(layer._arithmetic), ids, optimizer=optimizer)


def state_of(layer, optimizer):
    """The table, the state and the step count, as bytes that can be compared."""
    (item,) = optimizer.state_dict()["items"]
    arrays = {kind: arrays["weight"].tobytes() for kind, arrays in item.items() if kind != "step"}
    return layer.weight.tobytes(), arrays, item["step"]


def state_in(path, kind, mode="r+"):
    """The same of a copy of the files, as it is found when they are opened."""
    folder = path.parent.with_name(f"{path.parent.name}-copy")
    shutil.copytree(path.parent, folder)
    try:
        with fe.Embedding.open(folder / path.name, mode) as layer:
            return (layer.weight.tobytes(),) if mode == "r" else state_of(layer, optimizer_of(kind, layer))
    finally:
        shutil.rmtree(folder)


def leave_journal(layer):
    """A flush that counts, and fails when it writes into the files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pwrite", raise_no_disk)
        with pytest.raises(OSError, match="no disk"):
            layer.flush()


def raise_no_disk(*_):
    raise OSError(5, "no disk")
