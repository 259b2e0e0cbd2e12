"""The command convert."""

import os
import random

import numpy as np
import pytest
import vector_files
from running import run, status_of

import fastembed as fe
from fastembed.io.vectors import arrays


@pytest.fixture
def layer(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = vector_files.layer(random.Random(0), 20, 4)
    made.save_vectors("a.txt")
    return made


def test_every_format_to_another(layer, capsys):
    before = "a.txt"
    for after in ("b.glove", "c.bin", "d.npy", "e.npz", "f.safetensors", "g.vec.gz", "h.bin"):
        assert status_of(["convert", before, after]) == 0
        assert capsys.readouterr().out == f"{after}: 20 rows of 4 float32s, with names\n"
        before = after
    vector_files.assert_same(fe.load_vectors("h.bin"), layer)
    assert {path for path in os.listdir() if path.startswith(".")} == set()


@pytest.mark.filterwarnings("default")
def test_options(layer, capsys):
    with open("broken.txt", "w") as file:
        file.write("a 1 2\nb 1\ngrün 3 4\n")
    assert status_of(["convert", "broken.txt", "x.npz"]) == 2
    assert "line 2: must be a name and 2 numbers" in capsys.readouterr().err
    assert not os.path.exists("x.npz")
    assert status_of(["convert", "broken.txt", "x", "--to", "npz", "--dtype", "float16", "--skip"]) == 0
    assert "1 line was left out" in capsys.readouterr().err
    assert fe.load_vectors("x").weight.dtype == np.float16
    assert status_of(["convert", "x", "y.parquet", "--dtype", "bfloat16"]) == 2
    assert "a file of parquet cannot hold bfloat16" in capsys.readouterr().err


def test_files_are_not_lost(layer, capsys):
    with open("there.npy", "w") as file, open("there.npy.names.txt", "w") as names:
        file.write("mine")
        names.write("mine")
    for arguments in (["a.txt", "there.npy"], ["a.txt", "a.txt"], ["none", "b.npy"]):
        assert status_of(["convert", *arguments]) == 2
    assert status_of(["convert", "a.txt", "there.npy", "--force"]) == 0
    assert "there.npy was there: the old file is" in capsys.readouterr().out
    for name in ("there.npy.bak", "there.npy.names.txt.bak"):
        with open(name) as file:
            assert file.read() == "mine"
    vector_files.assert_same(fe.load_vectors("there.npy"), layer)


def test_a_table_and_its_names_are_replaced_together(layer, monkeypatch, capsys):
    fe.Embedding.from_pretrained(np.ones((2, 2))).save_vectors("there.npy")
    with open("there.npy", "rb") as file:
        before = os.listdir(), file.read()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(arrays, "write_names", fail)
    assert status_of(["convert", "a.txt", "there.npy", "--force"]) == 2
    assert "error: cannot write there.npy.names.txt: No space left on device" in capsys.readouterr().err
    with open("there.npy", "rb") as file:
        assert (os.listdir(), file.read()) == before


def test_names_of_a_replaced_file_are_not_those_of_a_table_without(layer, capsys):
    layer.save_vectors("there.npy")
    fe.Embedding(20, 4, rng=1).save_vectors("plain.npz")
    assert status_of(["convert", "plain.npz", "there.npy", "--force"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "there.npy: 20 rows of 4 float32s, without names",
        f"there.npy was there: the old file is {os.path.realpath('there.npy.bak')}",
        f"there.npy.names.txt was there: the old file is {os.path.realpath('there.npy.names.txt.bak')}",
    ]
    assert fe.load_vectors("there.npy").vocabulary is None
    with open("there.npy.names.txt.bak", newline="\n") as file:
        assert file.read().split("\n")[:-1] == list(layer.vocabulary)


def test_what_a_file_does_not_have_is_said_in_words_of_the_command(layer, capsys):
    fe.QuantizedEmbedding.from_float(fe.Embedding(3, 4)).save("packed")
    table = np.ones((3, 2))
    names = ("exp_avg.a", "exp_avg.wte", "exp_avg_sq.wte", "layer0.w", "optimizer.items.0.x", "wpe", "wte")
    fe.checkpoint.save("run", dict.fromkeys(names, table))
    for arguments, what in (
        (["packed", "o.npz"], "it has no tensor of 2 axes and a dtype of F32, F64, F16, BF16 (packed and"),
        (["run", "o.npz"], "--name must say which, of ['wpe', 'wte', 'layer0.w', ...]"),
        (["run", "o.npz", "--name", "none"], "must be that of one tensor, and wpe, wte, layer0.w and 4 more are there"),
        (["run", "o.txt", "--name", "wte"], "has a name for each row, and FROM has none: name an .npz, .npy"),
    ):
        assert status_of(["convert", *arguments]) == 2
        assert what in capsys.readouterr().err


def test_folders(tmp_path, layer, capsys):
    os.mkdir("model")
    fe.checkpoint.save("model/model.safetensors", {"embeddings": layer.weight})
    assert status_of(["convert", "model", "model/b.npy"]) == 2
    assert "is in the folder that is read" in capsys.readouterr().err
    done = run("convert", "model", "b.npy", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "b.npy: 20 rows of 4 float32s, without names\n", "")
