"""The files that are mutated: small ones of each kind, as the package writes them."""

from __future__ import annotations

import contextlib
import json
import shutil
import struct
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from gguf_files import header, padded, string

import fastembed as fe
from fastembed import checkpoint
from fastembed.io.mapped import journal
from fastembed.microgpt.training import Options, Run


class Seed(NamedTuple):
    """A folder with the files that belong together, the one of them that is mutated, and the one
    that readers are given, if that is another."""

    kind: str
    folder: Path
    name: str
    given: str | None = None


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


def _packed(folder: Path) -> str:
    rows = np.arange(3 * 40, dtype=np.uint8).reshape(3, 40)
    fe.PackedTable(rows[:, :36], 36, format="float8_e4m3fn", scales=rows[:, 36:38]).save(folder / "t")
    return "t"


def _index(folder: Path) -> str:
    checkpoint.save(folder / "1.safetensors", {"a": np.ones((3, 2), "f4"), "b": np.arange(4)})
    checkpoint.save(folder / "2.safetensors", {"c": np.ones(2, ml_dtypes.float8_e4m3fn)})
    places = {"a": "1.safetensors", "b": "1.safetensors", "c": "2.safetensors"}
    (folder / "t.index.json").write_text(json.dumps({"metadata": {"total_size": 58}, "weight_map": places}))
    return "t.index.json"


def _shard(folder: Path) -> str:
    _index(folder)
    return "1.safetensors"


def _gguf(folder: Path, name: str = "t.gguf", of_part: Any = ()) -> str:
    """Tables of three formats, the numbers of a hash, and a value of each type."""

    def numbers(code: int, letter: str, *values: int) -> bytes:
        return struct.pack(f"<IQ{len(values)}{letter}", code, len(values), *values)

    keys = (
        ("general.architecture", 8, string("x")), ("general.alignment", 4, struct.pack("<I", 64)),
        ("x.engram.layer_ids", 9, numbers(5, "i", 1, 4)), ("x.engram.multipliers", 9, numbers(10, "Q", 3, 5, 7, 9)),
        ("x.engram.primes", 9, numbers(4, "I", 7, 11, 13, 17)), ("x.engram.token_map", 9, numbers(5, "i", 0, 1, 1, 2)),
        ("x.engram.pad_id", 4, struct.pack("<I", 2)), ("names", 9, struct.pack("<IQ", 8, 2) + string("a") + string("")),
        ("flags", 9, numbers(7, "B", 0, 1)), ("nested", 9, struct.pack("<IQ", 9, 1) + numbers(0, "B", 1, 2)),
        ("float", 12, struct.pack("<d", 0.5)), *of_part,
    )  # fmt: skip
    places = (("floats", (4, 3), 0, 0), ("blocks", (32, 3), 8, 64), ("halves", (3, 2), 1, 192), ("other", (2,), 99, 256))
    tensors = tuple((f"{name}{key}", axes, kind, at) for key, axes, kind, at in places)
    data = np.arange(48 + 16 + 102 + 26 + 12 + 52, dtype=np.uint8).tobytes()
    (folder / name).write_bytes(padded(padded(header(keys, tensors), multiple=64) + data, multiple=64))
    return name


def _split_gguf(folder: Path) -> str:
    names = [f"t-0000{k + 1}-of-00002.gguf" for k in range(2)]
    for k, name in enumerate(names):
        _gguf(folder, name, (("split.no", 2, struct.pack("<H", k)), ("split.count", 2, struct.pack("<H", 2))))
    return names[1]


MAKERS = (
    _plain, _state, _quantized, _run, _table, _npy, _half_npy, _record, _journal, _packed, _index, _shard, _gguf, _split_gguf,
)  # fmt: skip
GIVEN = {"record": "t", "journal": "t", "shard": "t.index.json"}  # where it is not the file that is mutated


def make(root: Path) -> list[Seed]:
    """The seeds, each in a folder of its own below ``root``."""
    seeds = []
    for kind in MAKERS:
        name = kind.__name__.removeprefix("_")
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(root / name)
        (root / name).mkdir(parents=True)
        seeds.append(Seed(name, root / name, kind(root / name), GIVEN.get(name)))
    return seeds
