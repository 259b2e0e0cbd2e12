"""The command line as a person uses it: what it shows, and what it refuses in one line."""

import json
import os
import re
import struct
import subprocess
import sys

import numpy as np
import pytest
from common import needs_c
from running import run, status_of

import fastembed as fe
from fastembed import checkpoint, cli
from fastembed._kernels import backend


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    result = run("train", "--steps", 120, "--losses", "whole.txt", cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder, result


def samples(text):
    return re.findall(r"^sample +\d+: (.*)$", text, re.M)


def test_train_shows_the_loss_samples_neighbours_and_checkpoint(trained):
    folder, result = trained
    losses = (folder / "whole.txt").read_text().splitlines()
    assert len(losses) == 120
    assert all(repr(float(line)) == line for line in losses)
    assert len(samples(result.stdout)) == 20
    assert re.search(r"mean loss: 3\.\d\d over the first 10 steps, 2\.\d\d over the last 100", result.stdout)
    assert re.search(r"^a: \S [+-]\d\.\d\d", result.stdout, re.M)
    assert "checkpoint: model.safetensors" in result.stdout
    assert re.search(r"step +100 / 120  loss \d\.\d+  \d+ steps/s", result.stderr)
    assert (folder / "model.safetensors").exists()


def test_stop_and_resume_give_the_same_losses_and_samples(trained):
    folder, whole = trained
    first = run("train", "--steps", 120, "--stop-at", 50, "--out", "c", "--losses", "1.txt", cwd=folder)
    assert first.returncode == 0
    assert f"stopped at step 50 of 120; go on with: {sys.executable} -m fastembed train --resume c --out c" in first.stdout
    assert samples(first.stdout) == []
    second = run("train", "--resume", "c", "--out", "d", "--losses", "2.txt", cwd=folder)
    assert second.returncode == 0, second.stderr
    parts = (folder / "1.txt").read_text() + (folder / "2.txt").read_text()
    assert parts == (folder / "whole.txt").read_text()
    assert samples(second.stdout) == samples(whole.stdout)


def test_sample_goes_on_from_the_checkpoint(trained):
    folder, whole = trained
    assert samples(run("sample", "model.safetensors", cwd=folder).stdout) == samples(whole.stdout)
    seeded = [run("sample", "model.safetensors", "--seed", 1, "--samples", 4, cwd=folder).stdout for _ in range(2)]
    assert seeded[0] == seeded[1]
    assert len(samples(seeded[0])) == 4
    assert samples(seeded[0]) != samples(whole.stdout)[:4]


def test_neighbors_and_info(trained):
    folder, _ = trained
    one = run("neighbors", "model.safetensors", "e", "-k", 3, cwd=folder).stdout
    assert re.fullmatch(r"e:( +\S+ [+-]\d\.\d\d){3}\n", one)
    everything = run("neighbors", "model.safetensors", cwd=folder).stdout.splitlines()
    assert len(everything) == 27
    assert everything[-1].startswith("<BOS>: ")
    info = run("info", cwd=folder).stdout
    for key in ("version", "numpy", "backend", "isa", "num_threads"):
        assert re.search(rf"^ *{key}: \S", info, re.M), info


def test_any_text_file_works(tmp_path):
    (tmp_path / "text.txt").write_text("été\n\n  日本語 \r\nété été\n" * 3, encoding="utf-8")
    result = run("train", "text.txt", "--steps", 5, "--samples", 2, "--stop-at", 3, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "9 documents, 7 tokens" in result.stdout
    assert run("train", "--resume", "model.safetensors", cwd=tmp_path).returncode == 0
    (tmp_path / "text.txt").write_text("other\n")
    (tmp_path / "moved.txt").write_text("été\n日本語\nété été\n" * 3, encoding="utf-8")
    assert run("train", "moved.txt", "--resume", "model.safetensors", cwd=tmp_path).returncode == 0
    changed = run("train", "text.txt", "--resume", "model.safetensors", cwd=tmp_path)
    assert changed.returncode == 2
    assert "is not the one that model.safetensors was trained on" in changed.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "required: COMMAND"),
        (("fly",), "invalid choice: 'fly'"),
        (("train", "missing.txt"), "missing.txt: No such file or directory"),
        (("train", "."), "Is a directory"),
        (("train", "empty.txt"), "empty.txt holds no text"),
        (("train", "binary"), "'binary' is not a file of UTF-8 text: 'utf-8' codec can't decode"),
        (("train", "--steps", "0"), "argument --steps: must be an integer of at least 1, got '0'"),
        (("train", "--n-embd", "1" + 20 * "0"), "n_embd must be from 1 to 100000000"),
        (("train", "--n-embd", "100000", "--n-head", "1"), "parameters; the limit is 100000000"),
        (("train", "--n-layer", "99999999999999"), "n_layer must be from 0 to 100000000"),
        (("train", "--lr", "nan"), "argument --lr"),
        (("train", "--dtype", "float16"), "argument --dtype: invalid choice: 'float16'"),
        (("train", "--n-head", "3"), "n_embd must be a multiple of n_head, got 16 and 3"),
        (("train", "--temperature", "0"), "argument --temperature"),
        (("train", "--steps", "5", "--stop-at", "6"), "--stop-at must be between"),
        (("train", "--out", "no/where"), "cannot write no/where"),
        (("train", "--out", ""), "must not be empty"),
        (("train", "--out", "/dev/null"), "/dev/null is not a regular file, and is not replaced"),
        (("train", "--losses", "no/where"), "--losses: cannot write no/where"),
        (("train", "--losses", ""), "--losses: path must not be empty"),
        (("train", "--losses", "x", "--out", "./x"), "--out and --losses are the same file"),
        (("train", "other", "--out", "other"), "FILE and --out are the same file"),
        (("train", "--lr", "1e20", "--steps", "20"), "the learning rate 1e+20 may be too large"),
        (("sample", "model", "--temperature", "1e-320", "--samples", "x"), "argument --samples"),
        (("train", "--resume", "cut"), "cut is not a safetensors file, or is damaged"),
        (("train", "--resume", "none"), "none: No such file or directory"),
        (("train", "--resume", "model", "--lr", "0.5"), "--lr 0.5 contradicts model, which has 0.01"),
        (("sample", "cut"), "cut is not a safetensors file, or is damaged"),
        (("sample", "other"), "other does not describe a training run"),
        (("neighbors", "model", "?"), "token '?' is not one of the 27 tokens: 'a', 'b', 'c' and 24 more"),
        (("neighbors", "other"), "other has no names of rows: give --names"),
        (("neighbors", "none", "a"), "none: No such file or directory"),
        (("info", "words.txt"), "it holds vectors in the format of word2vec: python -m fastembed convert reads it"),
        (("convert", "words.txt", "words.foo"), "words.foo: give --to, for its suffix is none of"),
        (("convert", "two", "new.txt"), "two: several tables are there: --name must say which, of ["),
        (("convert", "commas.txt", "words.npz"), "got b'king 0,5 2': decimal commas must be points"),
        (("neighbors", "many.npy"), "many.npy has 1001 rows: give the name of one"),
    ],
)
def test_what_cannot_be_done_is_one_line(trained, tmp_path, arguments, text, monkeypatch, capsys):
    model = (trained[0] / "model.safetensors").read_bytes()
    (tmp_path / "model").write_bytes(model)
    (tmp_path / "cut").write_bytes(model[: len(model) // 2])
    (tmp_path / "empty.txt").write_text(" \n\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00abc")
    checkpoint.save(tmp_path / "other", {"wte": np.zeros((3, 2))})
    checkpoint.save(tmp_path / "two", dict.fromkeys("ab", np.zeros((3, 2))))
    (tmp_path / "words.txt").write_text("2 2\nking 1 2\nqueen 1 3\n")
    (tmp_path / "commas.txt").write_text("king 0,5 2\nqueen 1,5 3\n")
    np.save(tmp_path / "many.npy", np.ones((1001, 2)))
    (tmp_path / "many.npy.names.txt").write_text("".join(f"name{i}\n" for i in range(1001)))
    monkeypatch.chdir(tmp_path)
    assert status_of(arguments) == 2
    shown = capsys.readouterr()
    assert text in shown.err
    assert shown.err.count("\n") == 1
    assert "Traceback" not in shown.err
    assert shown.out == "" or "documents" in shown.out
    assert (tmp_path / "model").read_bytes() == model


@pytest.mark.uninstrumented
def test_a_reader_that_has_enough_is_no_error(trained):
    folder, _ = trained
    command = f"{sys.executable} -m fastembed neighbors model.safetensors | head -1"
    result = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("a: ")
    assert result.stderr == ""


@pytest.mark.uninstrumented
def test_nobody_reads_the_progress(trained):
    folder, _ = trained
    command = f"{sys.executable} -m fastembed train --steps 300 --out piped 2>&1 >/dev/null | head -0"
    subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=folder, check=True)
    assert (folder / "piped").exists()


def test_extreme_temperatures_and_plain_terminals(trained):
    folder, _ = trained
    cold = run("sample", "model.safetensors", "--temperature", "1e-320", "--samples", 3, cwd=folder)
    assert len(set(samples(cold.stdout))) == 1
    assert cold.stderr == ""
    (folder / "n.txt").write_text("ñandú\n" * 5, encoding="utf-8")
    plain = run("train", "n.txt", "--steps", 3, "--out", "n", cwd=folder, PYTHONIOENCODING="ascii")
    assert plain.returncode == 0, plain.stderr
    assert "\\xf1" in plain.stdout


def test_both_backends_train_alike(trained):
    folder, _ = trained
    result = run("train", "--steps", 120, "--losses", "r.txt", "--out", "r", cwd=folder, FASTEMBED_BACKEND="reference")
    assert result.returncode == 0, result.stderr
    assert (folder / "r.txt").read_text() == (folder / "whole.txt").read_text()


@pytest.mark.on_reference
def test_info_shows_a_checkpoint(tmp_path, capsys):
    layer = fe.Embedding.from_pretrained(np.array([[3.0, 4.0], [0.0, 0.0], [np.inf, 0.0]])).count_lookups()
    layer([0, 0, 2])
    path = tmp_path / "c"
    checkpoint.save(path, layer.state_dict(lookups=True) | {"odd\nname": np.zeros(2)}, {"note": "x" * 300, "k": [1, "\u001b"]})
    assert cli.main(["info", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("note: ")
    assert len(lines[0]) < 120
    assert lines[1:] == [
        'k: [1, "\\u001b"]',
        "odd\\nname: shape (2,), F64",
        "weight: 3 x 2 float64, 48 bytes",
        "  norms of rows: 0 to 5, mean 2.5",
        "  rows of zeros: 1; rows with NaN or infinity: 1",
        "  look-ups: 3; rows never looked up: 1",
        "  most frequent: 0 (2 times), 2 (1 times)",
    ]


@pytest.mark.on_reference
def test_info_on_invalid_checkpoints(tmp_path, capsys):
    path = tmp_path / "c"
    checkpoint.save(path, {"a": np.zeros((3, 2)), "a.lookups": np.array([1, -2, 3])})
    damaged = path.read_bytes()
    header = b'{"a":{"dtype":"F32","shape":[1152921504606846976,0],"data_offsets":[0,0]}}'
    for content, text in (
        (damaged, "a.lookups must be from 0 to 2**63 - 1, got -2 at position 1"),
        (damaged[:-8], "is not a safetensors file, or is damaged"),
        (b"no checkpoint", "is not a safetensors file, or is damaged"),
    ):
        path.write_bytes(content)
        assert cli.main(["info", str(path)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert text in line
    assert cli.main(["info", str(tmp_path / "none")]) == 2
    assert "No such file" in capsys.readouterr().err
    path.write_bytes(struct.pack("<Q", len(header)) + header)  # more rows than anybody could look at
    assert cli.main(["info", str(path)]) == 0
    assert "rows of zeros: 1,152,921,504,606,846,976;" in capsys.readouterr().out


@pytest.mark.on_reference
def test_info_without_a_checkpoint_is_about_the_machine(capsys):
    assert cli.main(["info"]) == 0
    assert f"backend: {backend.name}" in capsys.readouterr().out


def test_neighbors_of_words(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.txt").write_text("3 2\nking 1 2\nqueen 1.1 2\nfoo -1 0\n")
    assert status_of(["neighbors", "words.txt", "king", "-k", "1"]) == 0
    assert capsys.readouterr().out == "king: queen +1.00\n"
    assert status_of(["convert", "words.txt", "words.safetensors", "--quiet"]) == 0
    assert status_of(["neighbors", "words.safetensors", "--json", "-k", "1"]) == 0
    assert [pairs[0][0] for pairs in json.loads(capsys.readouterr().out).values()] == ["queen", "king", "king"]
    checkpoint.save(tmp_path / "plain", {"a": np.eye(2), "b": np.eye(3)})
    (tmp_path / "names").write_text("x\ny\nz\n")
    assert status_of(["neighbors", "plain", "y", "--table", "b", "--names", "names", "-k", "2"]) == 0
    assert capsys.readouterr().out == "y: x +0.00  z +0.00\n"


@pytest.mark.parametrize("variable", ["FASTEMBED_NUM_THREADS", "FASTEMBED_ISA", "FASTEMBED_BACKEND"])
def test_a_setting_that_is_wrong_is_one_line(variable, tmp_path):
    found = run(
        "info", cwd=tmp_path, **{variable: "wrong", **({"FASTEMBED_BACKEND": "c"} if variable == "FASTEMBED_ISA" else {})}
    )
    assert found.returncode == 2
    assert found.stderr.startswith(f"fastembed: error: {variable} must be ")
    assert found.stderr.count("\n") == 1
    command = [sys.executable, "-c", "import fastembed", "-m", "fastembed"]
    imported = subprocess.run(command, env={**os.environ, variable: "wrong"}, capture_output=True, text=True, check=False)
    assert imported.returncode == 1
    assert imported.stderr.startswith("Traceback")


@needs_c
@pytest.mark.parametrize("arguments", [["--help"], ["info"], ["shared", "list"], ["ngram", "bench", "--help"]])
def test_a_command_loads_only_what_it_needs(arguments, tmp_path):
    script = f"""
import sys
from fastembed import cli
try:
    cli.main({arguments})
except SystemExit as left:
    assert not left.code
of_others = ("microgpt", "plots", "explorer", "optim", "bench", "io.vectors", "reference")
sys.exit(", ".join(name for name in sys.modules if name.startswith(tuple(f"fastembed.{{other}}" for other in of_others))) or 0)
"""
    found = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert (found.returncode, found.stderr) == (0, "")
