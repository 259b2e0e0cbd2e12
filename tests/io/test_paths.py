"""What is no path is named, with its argument, by everything that takes one; nothing is written."""

import os

import numpy as np
import pytest
from common import needs_c

import fastembed as fe

LAYER = fe.Embedding.from_pretrained(np.ones((3, 2), "f4"))
TOKENS = fe.TokenPositionEmbedding(3, 4, 2)
CALLS = {
    "save": LAYER.save,
    "save of two tables": TOKENS.save,
    "Embedding.open": fe.Embedding.open,
    "open to write": lambda path: fe.Embedding.open(path, mode="r+"),
    "save_vectors": LAYER.save_vectors,
    "load_vectors": fe.load_vectors,
    "checkpoint.save": lambda path: fe.checkpoint.save(path, {"a": np.ones(2, "f4")}),
    "checkpoint.load": fe.checkpoint.load,
    "fe.load": fe.load,
    "DiskTable": lambda path: fe.DiskTable(path, "weight"),
    "open_gguf": fe.open_gguf,
    "open_shards": fe.open_shards,
    "PackedTable.load": fe.PackedTable.load,
    "QuantizedEmbedding.load": fe.QuantizedEmbedding.load,
}
BAD = [
    (3, TypeError, "path must be a str or an os.PathLike, got 3"),
    (None, TypeError, "path must be a str or an os.PathLike, got None"),
    (["a"], TypeError, r"path must be a str or an os.PathLike, got \['a'\]"),
    ("a\0b", ValueError, r"path must have no null characters, got 'a\\x00b'"),
    ("", FileNotFoundError, "path must not be empty"),
]


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(("value", "error", "text"), BAD)
def test_what_is_no_path_is_named(name, value, error, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=text):
        CALLS[name](value)
    assert not any(tmp_path.iterdir())


def test_paths_of_bytes_are_those_of_text(tmp_path):
    path = tmp_path / "table.safetensors"
    LAYER.save(os.fsencode(path))
    assert np.array_equal(fe.load(os.fsencode(path)).weight, LAYER.weight)
    with fe.Embedding.open(os.fsencode(path)) as mapped:
        assert np.array_equal(mapped.weight, LAYER.weight)


@needs_c
def test_tables_on_disk_take_paths_of_bytes(tmp_path):
    path = tmp_path / "table.safetensors"
    LAYER.save(path)
    assert fe.DiskTable(os.fsencode(path), "weight")([1]).tolist() == [[1.0, 1.0]]
