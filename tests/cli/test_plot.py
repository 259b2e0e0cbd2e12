"""``plot``: which table is drawn, into which file, and what is refused."""

import numpy as np
import pytest
from running import status_of

import fastembed as fe
from fastembed import checkpoint, plots
from fastembed.cli.pictures.table_file import TableFile

PNG = b"\x89PNG"


def test_which_table_is_meant_and_its_names(folder):
    tables = TableFile("model")
    assert tables.token_table(None) == "wte"
    assert tables.position_table() == "wpe"
    assert tables.row_names("wte", None) == ["a", "b", "c", "d", "<BOS>"]
    assert tables.row_names("wpe", None) is None
    checkpoint.save("gpt2", {"h.0.c_attn.weight": np.zeros((3, 3)), "transformer.wte.weight": np.ones((5, 3)), "n": np.zeros(3)})
    assert TableFile("gpt2").token_table(None) == "transformer.wte.weight"
    checkpoint.save("two", {"a": np.zeros((3, 3)), "b": np.zeros((3, 3))})
    with pytest.raises(ValueError, match="two has a, b: give --table"):
        TableFile("two").token_table(None)
    with pytest.raises(ValueError, match="--table 'c' is not in two, which has a, b"):
        TableFile("two").token_table("c")
    checkpoint.save("counted", {"t": np.zeros((3, 2)), "t.lookups": np.array([4, 0, 1])})
    assert TableFile("counted").lookups("t").tolist() == [4, 0, 1]
    np.save("table.npy", np.eye(3))
    tables = TableFile("table.npy")
    assert tables.tables == {"": (3, 3)}
    (folder / "names").write_text("one\ntwo\nthree\n")
    assert tables.row_names("", "names") == ["one", "two", "three"]
    with tables.open("") as layer:
        assert layer.num_embeddings == 3
    (folder / "table.npy.names.txt").write_text("x\ny\nz\n")
    with tables.open("") as layer:
        assert list(layer.vocabulary) == ["x", "y", "z"]
    (folder / "words.vec").write_text("2 3\nking 1 2 3\nqueen 4 5 6\n")
    tables = TableFile("words.vec")
    assert tables.token_table(None) == ""
    with tables.open("") as layer:
        assert plots.Source.of(layer, tables.row_names("", None)).names == ["king", "queen"]


def test_names_beside_a_table_are_those_that_load_vectors_reads(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    layer = fe.Embedding.from_pretrained(np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]))
    layer.vocabulary = ["a\rb", "c", "d"]
    layer.save_vectors("r.npy")
    with TableFile("r.npy").open("") as table:
        assert list(table.vocabulary) == ["a\rb", "c", "d"]
    assert status_of(["neighbors", "r.npy", "a\rb", "-k", "1"]) == 0
    assert capsys.readouterr().out == "a\\rb: c +1.00\n"
    assert status_of(["explore", "r.npy"]) == 0
    (tmp_path / "r.npy.names.txt").write_bytes(b"a\r\nb\r\n")
    capsys.readouterr()
    assert status_of(["neighbors", "r.npy"]) == 2
    assert "r.npy.names.txt has 2 names, and the table 3 rows" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["overview", "rows", "positions", "norms"])
def test_a_checkpoint_is_drawn(folder, capsys, kind):
    pytest.importorskip("matplotlib")
    assert status_of(["plot", "model", "--kind", kind]) == 0
    assert capsys.readouterr().out == "picture: model.png\n"
    assert (folder / "model.png").read_bytes().startswith(PNG)
    assert status_of(["plot", "model"]) == 2
    assert "model.png is there already" in capsys.readouterr().err
    assert status_of(["plot", "model", "--force", "--dark"]) == 0
    assert capsys.readouterr().out.startswith("model.png was there: the old file is ")


def test_other_files_are_drawn(folder):
    pytest.importorskip("matplotlib")
    (folder / "losses.txt").write_text("3.5\n2.25\n")
    checkpoint.save("counted", {"t": np.eye(3), "t.lookups": np.array([4, 0, 1])})
    np.save("table.npy", np.eye(3))
    for command in (
        ["plot", "losses.txt", "--kind", "losses"],
        ["plot", "model", "--losses", "losses.txt", "--out", "a.svg"],
        ["plot", "counted", "--kind", "lookups"],
        ["plot", "counted", "--out", "b.png"],
        ["plot", "table.npy", "--kind", "rows", "--labels", "2"],
    ):
        assert status_of(command) == 0
    assert {"losses.png", "a.svg", "counted.png", "b.png", "table.png"} <= {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["model", "--out", "x.jpeg"], "--out must name a .png or .svg or .pdf file, got 'x.jpeg'"),
        (["missing"], "missing: No such file or directory"),
        (["text"], "text is not a safetensors file, or is damaged"),
        (["text", "--kind", "losses"], "line 1 of text must be a loss, got 'abc'"),
        (["empty", "--kind", "losses"], "empty has no losses"),
        (["model", "--kind", "lookups"], "there are no counts of look-ups"),
        (["model", "--names", "text"], "--names: text has 3 lines, and model has 5 rows"),
        (["model", "--table", "x"], "--table 'x' is not in model"),
        ([".", "--out", "x.png"], ". is not a regular file, but a directory"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(folder, capsys, arguments, text):
    pytest.importorskip("matplotlib")
    (folder / "empty").write_text("")
    before = sorted(path.name for path in folder.iterdir())
    assert status_of(["plot", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert text in line
    assert sorted(path.name for path in folder.iterdir()) == before


def packed_files(folder):
    rows = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]], np.float32)
    fe.QuantizedEmbedding.from_float(rows).save("quantized.safetensors")
    fe.PackedTable(rows.astype(np.float16), 2, format="float16").save("packed.safetensors")
    (folder / "names").write_bytes(b"a\rb\nc\nd")
    return "quantized.safetensors", "packed.safetensors"


def test_packed_files_are_taken(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in packed_files(tmp_path):
        assert status_of(["neighbors", name, "c", "-k", "1", "--names", "names"]) == 0
        assert capsys.readouterr().out == "c: a\\rb +1.00\n"
        assert status_of(["neighbors", name]) == 2
        assert "has no names of rows: give --names" in capsys.readouterr().err
        assert status_of(["explore", name, "--names", "names", "--tsv", f"{name}.tsv"]) == 0
        written = np.loadtxt(f"{name}.tsv")
        np.testing.assert_array_equal(written, fe.load(name).dequantize())
        assert status_of(["explore", name, "--table", "packed", "--force"]) == 2
        capsys.readouterr()


def test_packed_files_are_drawn(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    for name in packed_files(tmp_path):
        for kind in ("overview", "rows", "norms", "positions"):
            assert status_of(["plot", name, "--kind", kind, "--names", "names", "--force"]) == 0
        assert (tmp_path / name).with_suffix(".png").read_bytes().startswith(PNG)


def test_names_of_tokens_are_those_of_their_tables_alone(folder, capsys):
    for table, named in (("wte", True), ("lm_head", True), ("wpe", False)):
        assert status_of(["convert", "model", f"{table}.npz", "--name", table, "--quiet"]) == 0
        vocabulary = fe.load_vectors(f"{table}.npz").vocabulary
        assert (vocabulary is None) is not named
        assert not named or list(vocabulary) == ["a", "b", "c", "d", "<BOS>"]
    assert status_of(["convert", "model", "all.npz"]) == 2
    assert "--name must say which" in capsys.readouterr().err
