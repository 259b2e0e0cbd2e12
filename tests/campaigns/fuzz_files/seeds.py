"""The files that are mutated: small ones of each kind, as the package writes them."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np

import fastembed as fe
from fastembed import checkpoint
from fastembed.io.mapped import journal
from fastembed.microgpt.training import Options, Run


class Seed(NamedTuple):
    """A folder with the files that belong together, and the one of them that is mutated."""

    kind: str
    folder: Path
    name: str


def _plain(folder: Path) -> str:
    rng = np.random.default_rng(0)
    tensors = {
        "weight": rng.standard_normal((3, 4)).astype("f4"), "weight.lookups": np.arange(3), "h": np.ones(2, ml_dtypes.bfloat16),
        "e": np.zeros((0, 2)), "s": np.float64(3), "f2": rng.standard_normal((2, 2)).astype("f2"),
    }  # fmt: skip
    checkpoint.save(folder / "t", tensors, {"note": [1, 2.5, "x", None, {"a": True}]})
    return "t"


def _state(folder: Path) -> str:
    layer = fe.TokenPositionEmbedding(4, 3, 2, rng=0, dropout=0.1)
    optimizer = fe.optim.Adam(layer)
    layer([1, 3])
    layer.backward(np.ones((2, 2)), optimizer=optimizer)
    checkpoint.save_state(folder / "t", {"layer": layer.state_dict(), "optimizer": optimizer.state_dict()})
    return "t"


def _quantized(folder: Path) -> str:
    fe.QuantizedEmbedding.from_float([[0.0, 1.0, 2.0], [3.0, 4.0, -5.0]], bits=4).save(folder / "t")
    return "t"


def _run(folder: Path) -> str:
    options = Options(steps=3, n_embd=4, n_head=2, block_size=4)
    run = Run(options)
    list(run.train(2))
    run.save(str(folder / "t"))
    return "t"


def _table(folder: Path, name: str = "t", dtype: str = "float32") -> str:
    fe.Embedding.create(folder / name, (6, 3), dtype, rng=1).close()
    return name


def _npy(folder: Path) -> str:
    return _table(folder, "t.npy")


def _half_npy(folder: Path) -> str:
    return _table(folder, "t.npy", "float16")


def _record(folder: Path) -> str:
    layer = fe.Embedding.create(folder / "t", (6, 3), rng=1)
    layer.backward(np.ones((2, 3)), [1, 4], optimizer=fe.optim.SparseAdam(layer))
    layer.close()
    return "t.optimizer.json"


def _journal(folder: Path) -> str:
    """A journal that is there because the process was killed before it was replayed."""
    layer = fe.Embedding.create(folder / "t", (6, 3), rng=1)
    layer.backward(np.ones((2, 3)), [1, 4], optimizer=fe.optim.SparseAdam(layer))
    layer.flush()
    files = layer.storage
    changed = [(path, place, array + 1) for path, place, array in files._files()]
    journal.write(files.path, changed, np.array([1, 2, 5]), files._record | {"step": 2})
    files.close()
    return "t.journal"


def make(root: Path) -> list[Seed]:
    """The seeds, each in a folder of its own below ``root``."""
    seeds = []
    for kind in (_plain, _state, _quantized, _run, _table, _npy, _half_npy, _record, _journal):
        name = kind.__name__.removeprefix("_")
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(root / name)
        (root / name).mkdir(parents=True)
        seeds.append(Seed(name, root / name, kind(root / name)))
    return seeds
