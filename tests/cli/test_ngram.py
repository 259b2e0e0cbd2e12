"""ngram info and ngram bench: what they show of tables in files, and what they refuse."""

import json
import mmap
import os
import re
import struct

import numpy as np
import pytest
from running import run, status_of

from fastembed import checkpoint
from fastembed.io.disk import page_cache


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    rng = np.random.default_rng(0)
    tensors = {"rows": rng.integers(0, 256, (4000, 66), np.uint8), "wte": np.ones((20, 3), "f4"), "bias": np.ones(3)}
    checkpoint.save(folder / "t.safetensors", tensors)
    np.save(folder / "t.npy", rng.standard_normal((200, 4)))
    (folder / "text.txt").write_text("the rows of a text that says the same again, the same again\n" * 20)
    (folder / "empty.txt").write_text("")
    return folder


def test_info(folder):
    shown = run("ngram", "info", "t.safetensors", cwd=folder).stdout.splitlines()
    assert shown == [
        "wte: 20 x 3 float32, 12 bytes a row, 341.3 rows a page, 0.00 GB",
        "rows: 4,000 x 66 uint8, 66 bytes a row, 62.1 rows a page, 0.00 GB",
        "hash: none in the file",
    ]


def gguf_with_hash(path):
    """A GGUF file with the metadata of a PLE table and no tensor."""

    def key(name, kind, value):
        return struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", kind) + value

    def of(values):
        return struct.pack("<IQ", 5, len(values)) + struct.pack(f"<{len(values)}i", *values)

    keys = [
        key("general.architecture", 8, struct.pack("<Q", 1) + b"x"),
        key("x.ple.layers", 9, of([1])),
        key("x.ple.eos_token_id", 5, struct.pack("<i", 0)),
        key("x.ple.head_vocab_sizes", 9, of([13, 17])),
        key("x.ple.head_offsets", 9, of([0, 13])),
        key("x.ple.layer_multipliers", 9, of([5, 7, 11])),
    ]
    path.write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, 0, len(keys)) + b"".join(keys))


def test_info_shows_the_hash_of_a_gguf_file(folder):
    gguf_with_hash(folder / "m.gguf")
    assert "hash: NgramHash(n=3, n_heads=1, n_rows=30," in run("ngram", "info", "m.gguf", cwd=folder).stdout


def test_bench(folder):
    options = ["--name", "rows", "--format", "float8_e4m3fn", "--embedding-dim", 64, "--batch", 200, "--cache-mb", 4]
    done = run("ngram", "bench", "t.safetensors", "text.txt", *options, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    table, hash, *rates = done.stdout.splitlines()
    assert table == "DiskTable(4000, 64, format='float8_e4m3fn', dtype='float32')"
    assert hash.startswith("hash made for this table: NgramHash(n=3, n_heads=8, n_rows=4000, n_tokens=256); 1,200 tokens")
    assert [line.split(":")[0] for line in rates] == ["cold", "read ahead", "warm"]
    for line in rates:
        assert re.search(r"[\d,]+ rows/s, [\d,]+ ns a row; \d+\.\d% of the rows were there; [\d.,]+ MB in [\d,]+ reads", line)
        assert re.search(r"; [\d.,]+ MB came from the disk; [\d.,]+ MB of the file are in the page cache$", line)


def test_what_the_system_says_of_a_file(folder, tmp_path, monkeypatch):
    path = tmp_path / "pages"
    path.write_bytes(bytes(10 * mmap.PAGESIZE - 1))
    assert page_cache.n_bytes_cached(path) == 10 * mmap.PAGESIZE  # as it was just written
    with open(path, "rb") as file:
        os.fsync(file.fileno())
    page_cache.drop(path)
    left = page_cache.n_bytes_cached(path)  # a file system in memory keeps all of it
    assert left in (0, 10 * mmap.PAGESIZE)
    before = page_cache.n_bytes_read()
    path.read_bytes()
    assert page_cache.n_bytes_read() - before >= 10 * mmap.PAGESIZE - left
    monkeypatch.setattr(page_cache, "open", lambda *_, **__: (folder / "no").open(), raising=False)
    assert page_cache.n_bytes_read() is None


def test_bench_with_the_hash_of_a_config(folder):
    config = {"ngram_size": 3, "heads_per_ngram": 2, "ngram_vocab_size_base": 20, "ple_layer_ids": [2]}
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 300, "seed": 1, "eos_token_id": 299}))
    done = run("ngram", "bench", "t.npy", "text.txt", "--config", "config.json", "--layer", 2, "--cache-mb", 1, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "hash of the config: NgramHash(n=3, n_heads=2" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["info", "no.safetensors"], "no.safetensors: No such file or directory"),
        (["info", "text.txt"], "is not a safetensors file"),
        (["bench", "t.npy", "empty.txt"], "TEXT must have a byte at least, and empty.txt is empty"),
        (["bench", "t.npy", "no.txt"], "no.txt"),
        (["bench", "t.npy", "text.txt", "--config", "text.txt"], "--config needs --layer"),
        (["bench", "t.safetensors", "text.txt", "--name", "no"], "no tensor 'no'"),
        (["bench", "t.safetensors", "text.txt", "--name", "rows"], "format must be one of"),
        (["bench", "t.npy", "text.txt", "--cache-mb", "0"], "must be an integer of at least 1, got '0'"),
    ],
)
def test_what_is_refused_in_one_line(arguments, text, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert status_of(["ngram", *arguments]) == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1
