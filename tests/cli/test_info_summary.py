"""``info --summary``: what counts as a parameter, and words for one thing."""

import numpy as np
import pytest
from running import status_of

import fastembed as fe
from fastembed import checkpoint


@pytest.fixture
def summary(tmp_path, capsys):
    def of(save):
        save(tmp_path / "saved.safetensors")
        assert status_of(["info", "--summary", str(tmp_path / "saved.safetensors")]) == 0
        return capsys.readouterr().out.splitlines()

    return of


def test_names_and_counts_are_no_parameters(summary):
    layer = fe.Embedding(6, 4).count_lookups()
    layer.vocabulary = list("abcdef")
    assert summary(layer.save)[-1] == "4 tensors: 24 parameters, 18 integers (names, counts or packed rows)"


def test_packed_rows_are_no_parameters(summary):
    packed = fe.QuantizedEmbedding.from_float(fe.Embedding(6, 4))
    lines = summary(packed.save)
    assert lines[-2:] == ["packed: 6 x 12 U8, 72 numbers", "1 tensor: 0 parameters, 72 integers (names, counts or packed rows)"]


def test_one_thing_of_each_kind(summary):
    one = {"exp_avg.weight": np.ones((1, 1)), "weight": np.ones((1, 1)), "steps": np.ones(1, np.int64)}
    assert summary(lambda path: checkpoint.save(path, one)) == [
        "description: null",
        "exp_avg.weight: 1 x 1 F64, 1 number",
        "steps: 1 I64, 1 number",
        "weight: 1 x 1 F64, 1 number",
        "3 tensors: 1 parameter, 1 number of an optimiser's state, 1 integer (names, counts or packed rows)",
    ]


def test_what_is_no_table_of_a_user_is_listed_apart(tmp_path, capsys):
    layer = fe.TokenPositionEmbedding(2, 3, 2, rng=0, dropout=0.5)
    layer.vocabulary, layer.trainable_rows = ["a", "b"], [1]
    state = {f"exp_avg.{k}": np.ones((1, 1)) for k in range(5)}
    others = {"odd.names": np.ones(2), "deep.dropout_calls": np.array(3)}
    layer.save(tmp_path / "layer")
    tensors, description = checkpoint.load(tmp_path / "layer")
    checkpoint.save(tmp_path / "all", tensors | state | others, description)
    assert status_of(["info", str(tmp_path / "all")]) == 0
    lines = capsys.readouterr().out.splitlines()[5:]
    assert [line for line in lines if not line.startswith("  ")] == [
        "odd.names: shape (2,), F64",
        "wpe: 3 x 2 float32, 24 bytes",
        "wte: 2 x 2 float32, 16 bytes",
        "state of an optimiser, 5 tensors: exp_avg.0, exp_avg.1, exp_avg.2, exp_avg.3, ...",
        "names and options of rows: wte.names, wte.names.ends, wte.trainable_rows",
        "counters: deep.dropout_calls, dropout_calls",
    ]


@pytest.mark.filterwarnings("default")
def test_one_row_and_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for text, what in (
        ("1 2\na 1\n", "must be a name and 2 numbers, got 1 word after the name"),
        ("a 1\nb\n", "must be a name and 1 number, got 0 words after the name"),
        ("1 2\na 1 2\nb 1 2\n", "the header states 1 row, and 2 lines follow"),
        ("2 2\na 1 2\n", "the header states 2 rows, and 1 line follows"),
    ):
        (tmp_path / "a.txt").write_text(text)
        assert status_of(["convert", "a.txt", "b.npz"]) == 2
        assert what in capsys.readouterr().err
    assert status_of(["convert", "a.txt", "b.npz", "--skip"]) == 0
    shown = capsys.readouterr()
    assert "1 line was left out" in shown.err
    assert shown.out == "b.npz: 1 row of 2 float32s, with names\n"
