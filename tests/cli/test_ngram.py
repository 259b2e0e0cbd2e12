"""ngram info and ngram bench: what they show of tables in files, and what they refuse."""

import argparse
import json
import mmap
import os
import re
import struct

import numpy as np
import pytest
from running import run, status_of

from fastembed import checkpoint
from fastembed.cli import ngram
from fastembed.cli.streams import UsageError
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
        "wte: 20 x 3 float32, 12 bytes a row, 341.3 rows a page, 0.00 MB",
        "rows: 4,000 x 66 uint8, 66 bytes a row, 62.1 rows a page, 0.26 MB",
        "hash: none in the file",
    ]


def gguf_with_hash(path, layers=(1,), **changed):
    """A GGUF file with the metadata of PLE tables, one for each layer, and no tensor."""

    def key(name, kind, value):
        return struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", kind) + value

    def of(values):
        return struct.pack("<IQ", 5, len(values)) + struct.pack(f"<{len(values)}i", *values)

    n = len(layers)
    arrays = {"layers": [*layers], "head_vocab_sizes": [13, 17] * n, "head_offsets": [0, 13] * n} | changed
    keys = [
        key("general.architecture", 8, struct.pack("<Q", 1) + b"x"),
        key("x.ple.eos_token_id", 5, struct.pack("<i", 0)),
        key("x.ple.layer_multipliers", 9, of([5, 7, 11] * n)),
        *(key(f"x.ple.{name}", 9, of(values)) for name, values in arrays.items()),
    ]
    path.write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, 0, len(keys)) + b"".join(keys))


def test_info_shows_the_hash_of_a_gguf_file(folder):
    gguf_with_hash(folder / "m.gguf")
    assert "hash: NgramHash(n=3, n_heads=1, n_rows=30," in run("ngram", "info", "m.gguf", cwd=folder).stdout
    gguf_with_hash(folder / "two.gguf", (1, 4))
    shown = run("ngram", "info", "two.gguf", cwd=folder).stdout.splitlines()
    assert [line.split(" NgramHash(")[0] for line in shown] == ["hash of layer 1:", "hash of layer 4:"]


def test_bench(folder):
    options = ["--name", "rows", "--format", "float8_e4m3fn", "--embedding-dim", 64, "--batch", 200, "--cache-mb", 4]
    done = run("ngram", "bench", "t.safetensors", "text.txt", *options, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    table, hash, *rates = done.stdout.splitlines()
    assert table == "DiskTable(4000, 64, format='float8_e4m3fn', dtype='float32')"
    assert hash.startswith("hash made for this table: NgramHash(n=3, n_heads=8, n_rows=4000, n_tokens=256); 1,200 tokens")
    assert [line.split(":")[0] for line in rates] == ["cold", "read ahead", "warm"]
    assert "; 100.0% of the rows were there; 0.0 MB in 0 reads (" in rates[2]
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


def test_the_hash_of_a_file_is_that_of_the_layer(folder):
    gguf_with_hash(folder / "two.gguf", (1, 4), head_vocab_sizes=[13, 17, 11, 19])
    for layer, sizes in ((1, [[13], [17]]), (4, [[11], [19]])):
        hash, what = ngram._hash_for(argparse.Namespace(config=None, layer=layer), folder / "two.gguf", 30)
        assert (hash.head_sizes.tolist(), what) == (sizes, "hash of the file")
    for layer, text in ((None, "--layer must be given, one of 1, 4"), (7, "the hash of layer 7 in .*two.gguf: ")):
        with pytest.raises(UsageError, match=text):
            ngram._hash_for(argparse.Namespace(config=None, layer=layer), folder / "two.gguf", 30)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["info", "no.safetensors"], "no.safetensors: No such file or directory"),
        (["info", "text.txt"], "is not a safetensors file"),
        (["bench", "t.npy", "empty.txt"], "TEXT must have a byte at least, and empty.txt is empty"),
        (["bench", "t.npy", "no.txt"], "no.txt"),
        (["bench", "t.npy", "text.txt", "--config", "text.txt"], "--config needs --layer"),
        (["bench", "t.npy", "text.txt", "--config", "text.txt", "--layer", "1"], "--config: text.txt is no JSON file: Expecting"),
        (["bench", "t.npy", "text.txt", "--layer", "1"], "--layer needs --config, as there is no hash in t.npy"),
        (["bench", "two.gguf", "text.txt", "--name", "rows"], "no tensor 'rows'"),
        (["info", "short.gguf"], "the hash of layer 1 in short.gguf: x.ple.head_offsets must have a number for each of 2 heads"),
        (["bench", "t.safetensors", "text.txt", "--name", "no"], "no tensor 'no'"),
        (["bench", "t.safetensors", "text.txt", "--name", "rows"], "format must be one of"),
        (["bench", "t.npy", "text.txt", "--cache-mb", "0"], "must be an integer of at least 1, got '0'"),
    ],
)
def test_what_is_refused_in_one_line(arguments, text, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    gguf_with_hash(folder / "two.gguf", (1, 4))
    gguf_with_hash(folder / "short.gguf", head_offsets=[0])
    assert status_of(["ngram", *arguments]) == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1
