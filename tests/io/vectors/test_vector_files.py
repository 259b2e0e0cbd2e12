"""Files of vectors: round trips, mapped tables, wrong kinds of files, what formats cannot hold."""

import json
import os
import pickle
import random
import struct
import sys

import ml_dtypes
import numpy as np
import pytest
import vector_files

import fastembed as fe
from fastembed import checkpoint
from fastembed.checkpoint import CheckpointError


@pytest.mark.parametrize("suffix", vector_files.SUFFIXES)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_round_trips(tmp_path, suffix, dtype):
    if suffix in vector_files.OPTIONAL:
        pytest.importorskip("pyarrow")
    letters = "aé\u2028-" if ".bin" in suffix else "aé\u2028- "
    layer = vector_files.layer(random.Random(0), 30, 5, dtype, letters)
    path = tmp_path / f"v{suffix}"
    if dtype == "float64" and ".bin" in suffix:
        with pytest.raises(TypeError, match="a binary file of word2vec holds float32, and the table is float64"):
            layer.save_vectors(path)
        assert not os.listdir(tmp_path)
        return
    layer.save_vectors(path)
    vector_files.assert_same(fe.load_vectors(path, dtype=dtype), layer)
    with fe.load_vectors(path, dtype=dtype, into=tmp_path / "mapped.safetensors") as mapped:
        vector_files.assert_same(mapped, layer)
    with fe.Embedding.open(tmp_path / "mapped.safetensors", "r+") as mapped:
        vector_files.assert_same(mapped, layer)
        mapped.set_rows([3], 1.5)
    assert fe.Embedding.open(tmp_path / "mapped.safetensors").weight[3].tolist() == [1.5] * 5
    before = path.read_bytes()
    layer.save_vectors(path)
    assert path.read_bytes() == before or suffix == ".safetensors"  # whose id is random


def test_bfloat16(tmp_path):
    layer = fe.Embedding(5, 3, dtype="bfloat16", rng=0)
    layer.vocabulary = list("abcde")
    for name in ("v.txt", "v.bin", "v.safetensors"):
        layer.save_vectors(tmp_path / name)
        vector_files.assert_same(fe.load_vectors(tmp_path / name, dtype="bfloat16"), layer)
    with pytest.raises(TypeError, match="a file of npy cannot hold bfloat16, a safetensors file can"):
        layer.save_vectors(tmp_path / "v.npy")


def test_layers_of_other_kinds_save_their_tables(tmp_path):
    layer = fe.TokenPositionEmbedding(4, 3, 2, rng=0)
    layer.vocabulary = list("abcd")
    layer.save_vectors(tmp_path / "wte.npz")
    layer.save_vectors(tmp_path / "wpe.npz", table="wpe")
    assert fe.load_vectors(tmp_path / "wte.npz").vocabulary == layer.vocabulary
    assert fe.load_vectors(tmp_path / "wpe.npz").vocabulary is None
    with pytest.raises(ValueError, match="a file of word2vec has a name for each row: set the layer's vocabulary"):
        layer.save_vectors(tmp_path / "wpe.txt", table="wpe")


def test_pending_updates_are_written(tmp_path):
    layer = fe.Embedding(3, 2, rng=0)
    optimizer = fe.optim.Adam(layer)
    for _ in range(3):
        layer.backward([[1.0, 2.0]], [1], optimizer=optimizer)
    layer.backward([[1.0, 2.0]], [0], optimizer=optimizer)
    layer.save_vectors(tmp_path / "v.npy")
    assert np.array_equal(np.load(tmp_path / "v.npy"), layer.weight)


def test_names_that_formats_cannot_hold(tmp_path):
    layer = fe.Embedding(2, 2, rng=0)
    for name, suffix, what in (
        ("a\nb", ".txt", "has a character that a line of text cannot"),
        ("top 10", ".txt", "ends in a number, which a text would take for one of the row's"),
        ("a b", ".bin", "has a space, which ends names in a binary file of word2vec"),
        ("a\nb", ".npy", "has a line feed"),
        ("a\0", ".npz", "cannot hold names that end in a NUL"),
        ("\ud800", ".safetensors", "holds a surrogate, and cannot be written"),
        ("\ud800", ".txt", "holds a surrogate, and cannot be written"),
    ):
        layer.vocabulary = [name, "b"]
        with pytest.raises(ValueError, match=what):
            layer.save_vectors(tmp_path / f"v{suffix}")
        assert not [path for path in tmp_path.iterdir() if path.suffix != ".npy"]
    one = fe.Embedding.from_pretrained(np.ones((1, 1), "f4"))
    one.vocabulary = ["1"]
    with pytest.raises(ValueError, match="would be taken for a header"):
        one.save_vectors(tmp_path / "v.glove")


def test_arguments(tmp_path):
    layer = fe.Embedding(2, 2, rng=0)
    layer.vocabulary = list("ab")
    with pytest.raises(ValueError, match=r"format must be one of word2vec, word2vec-binary, .* got 'x'"):
        layer.save_vectors(tmp_path / "v", "x")
    with pytest.raises(ValueError, match=r"v\.xyz: give format=, for its suffix is none of"):
        layer.save_vectors(tmp_path / "v.xyz")
    with pytest.raises(ValueError, match="only text and word2vec's binary files are compressed"):
        layer.save_vectors(tmp_path / "v.npz.gz")
    with pytest.raises(ValueError, match="a table without columns"):
        fe.Embedding(2, 0).save_vectors(tmp_path / "v.npy")
    layer.save_vectors(tmp_path / "v.xyz", "fasttext")
    for options, what in (
        ({"errors": "x"}, "errors must be"),
        ({"format": "x"}, "format must be one of"),
        ({"numbers_in_names": 3}, "numbers_in_names must be"),
        ({"names": "ab"}, "names must be an iterable of strings"),
        ({"names": ["a"]}, "names must be one for each of the 2 rows, got 1"),
        ({"dtype": "int8"}, "dtype"),
        ({"format": "npz"}, r"v\.xyz is damaged: File is not a zip file"),
    ):
        with pytest.raises((ValueError, TypeError), match=what):
            fe.load_vectors(tmp_path / "v.xyz", **options)
    assert list(fe.load_vectors(tmp_path / "v.xyz", names=["x", "y"]).vocabulary) == ["x", "y"]
    (tmp_path / "there").write_bytes(b"")
    with pytest.raises(FileExistsError, match="there is there already"):
        fe.load_vectors(tmp_path / "v.xyz", into=tmp_path / "there")
    with pytest.raises(FileNotFoundError):
        fe.load_vectors(tmp_path / "none")


def test_other_kinds_of_files_are_named(tmp_path):
    np.savez(tmp_path / "two.npz", a=np.ones((2, 2)), b=np.ones((2, 2)))
    np.save(tmp_path / "integers", np.ones((2, 2), int))
    (tmp_path / "pickle").write_bytes(pickle.dumps([1]))
    (tmp_path / "fasttext").write_bytes(struct.pack("<ii", 793712314, 12) + bytes(50))
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "prose").write_text("Once upon a time\nthere was\n")
    (tmp_path / "unknown").write_bytes(bytes(range(100)))
    for name, what in (
        ("two.npz", "name must say which, of a, b"),
        ("integers.npy", "float"),
        ("pickle", "it is a pickle, which can run any code"),
        ("fasttext", "it is a model of fastText: save its vectors as .vec"),
        ("empty", "it is empty"),
        ("prose", "it is text"),
        ("unknown", "it is unknown"),
    ):
        with pytest.raises(CheckpointError, match=what):
            fe.load_vectors(tmp_path / name)
    assert fe.load_vectors(tmp_path / "two.npz", name="b").weight.shape == (2, 2)


def test_bfloat16_is_read_as_other_dtypes_without_ml_dtypes(tmp_path, monkeypatch):
    table = np.random.default_rng(0).normal(size=(9, 4)).astype(ml_dtypes.bfloat16)
    checkpoint.save(tmp_path / "b", {"wte": table, "wpe": table[:3]})
    assert fe.load_vectors(tmp_path / "b", name="wte").weight.tobytes() == table.tobytes()
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    for dtype in ("float32", "float64", "float16"):
        like = table.astype(dtype).tobytes()
        assert fe.load_vectors(tmp_path / "b", name="wte", dtype=dtype).weight.tobytes() == like
        with fe.load_vectors(tmp_path / "b", name="wte", dtype=dtype, into=tmp_path / f"{dtype}.safetensors") as layer:
            assert layer.weight.tobytes() == like
        assert fe.TokenPositionEmbedding.from_file(tmp_path / "b", dtype=dtype).wte.tobytes() == like
    with pytest.raises(ImportError, match=r'bfloat16 needs ml_dtypes: pip install .*, or give dtype="float32"'):
        fe.load_vectors(tmp_path / "b", name="wte")


def test_tables_of_checkpoints_by_name(tmp_path):
    wte, wpe = np.ones((3, 2), "f4"), np.zeros((4, 2), "f4")
    checkpoint.save(tmp_path / "gpt2.safetensors", {"transformer.wte.weight": wte, "transformer.wpe.weight": wpe, "x": wpe})
    assert fe.load_vectors(tmp_path / "gpt2.safetensors", name="wte").weight.tobytes() == wte.tobytes()
    assert fe.load_vectors(tmp_path / "gpt2.safetensors", name="x").weight.tobytes() == wpe.tobytes()
    with fe.Embedding.open(tmp_path / "gpt2.safetensors", name="wte") as layer:
        assert layer.weight.tobytes() == wte.tobytes()
    with pytest.raises(CheckpointError, match="name 'wt' must be that of one tensor"):
        fe.load_vectors(tmp_path / "gpt2.safetensors", name="wt")
    with pytest.raises(CheckpointError, match="name must say which"):
        fe.load_vectors(tmp_path / "gpt2.safetensors")


def test_folders_of_models(tmp_path):
    table = np.random.default_rng(0).normal(size=(3, 2)).astype("f4")
    checkpoint.save(tmp_path / "model.safetensors", {"embeddings": table})
    assert fe.load_vectors(tmp_path).vocabulary is None
    (tmp_path / "vocab.txt").write_text("a\nb\nc\n")
    assert list(fe.load_vectors(tmp_path).vocabulary) == ["a", "b", "c"]
    tokenizer = {"model": {"vocab": {"[PAD]": 0, "king": 1}}, "added_tokens": [{"id": 2, "content": "<x>"}]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    layer = fe.load_vectors(tmp_path)
    assert list(layer.vocabulary) == ["[PAD]", "king", "<x>"]
    assert layer.weight.tobytes() == table.tobytes()
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": [["a", -1.0], ["b", -2.0]]}}))
    with pytest.raises(CheckpointError, match="names must be one for each of the 3 rows, got 2"):
        fe.load_vectors(tmp_path)
    for text in ("{", "[]", '{"model": {"vocab": {"a": 1}}}', "[" * 100_000):
        (tmp_path / "tokenizer.json").write_text(text)
        with pytest.raises(CheckpointError, match=r"tokenizer\.json does not hold a token for each id"):
            fe.load_vectors(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "other")
    with pytest.raises(CheckpointError, match=r"must hold one safetensors file, and holds none$"):
        fe.load_vectors(tmp_path, names=list("abc"))


def test_columns_of_parquet_files(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"word": ["a", "b"], "x": [1.0, 2.0], "y": [3.0, 4.0], "n": [1, 2]}
    parquet.write_table(arrow.table(columns), tmp_path / "columns.parquet")
    layer = fe.load_vectors(tmp_path / "columns.parquet")
    assert (list(layer.vocabulary), layer.weight.tolist()) == (["a", "b"], [[1, 3], [2, 4]])
    for lists, what in (
        ([[1.0, 2.0], [3.0]], "not all as many"),
        ([[1.0], None], "have a null"),
        ([[1.0], [None]], "have a null"),
    ):
        parquet.write_table(arrow.table({"v": arrow.array(lists, arrow.list_(arrow.float32()))}), tmp_path / "lists.parquet")
        with pytest.raises(CheckpointError, match=what):
            fe.load_vectors(tmp_path / "lists.parquet")


def test_without_pyarrow(tmp_path, monkeypatch):
    for module in [name for name in sys.modules if name.startswith("pyarrow")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"Parquet and Arrow files need pyarrow: pip install 'microgpt-fastembed\[arrow\]'"):
        fe.Embedding(2, 2).save_vectors(tmp_path / "v.parquet")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("seed", range(2))
def test_mutated_files(tmp_path, seed):
    """One clear error or a table; 10,000 of them by `make fuzz-vectors`."""
    assert vector_files.faults(tmp_path, seed, 100) == []


def test_an_array_in_fortran_order_is_copied(tmp_path):
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    np.save(tmp_path / "a.npy", np.asfortranarray(rows))
    (tmp_path / "a.npy.names.txt").write_bytes(b"a\r\nb\r\nc\r\nd\r\n")  # as an editor on Windows writes it
    layer = fe.load_vectors(tmp_path / "a.npy")
    assert layer.weight.tolist() == rows.tolist()
    assert list(layer.vocabulary) == ["a", "b", "c", "d"]
    with fe.load_vectors(tmp_path / "a.npy", into=tmp_path / "b.safetensors") as mapped:
        assert mapped.weight.tolist() == rows.tolist()
    with pytest.raises(checkpoint.CheckpointError, match=r"Fortran order\); fastembed.load_vectors copies it"):
        fe.Embedding.open(tmp_path / "a.npy")
    for shape in ((0, 3), (4, 0)):
        np.save(tmp_path / "empty.npy", np.zeros(shape, order="F"))
        assert fe.load_vectors(tmp_path / "empty.npy").weight.shape == shape
    whole = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(whole[:-1])
    with pytest.raises(checkpoint.CheckpointError, match="does not end where the file does"):
        fe.load_vectors(tmp_path / "a.npy")


def test_decimal_commas_are_refused(tmp_path):
    for text, message in (
        ("2 2\na 0,5 1,5\nb 1,0 2,0\n", "line 2: must be a name and 2 numbers, got b'0,5' as one of the numbers: decimal commas"),
        ("a 0,5 2\nb 1,5 3\n", "line 1 must be a name and numbers, got b'a 0,5 2': decimal commas must be points"),
    ):
        (tmp_path / "a.txt").write_text(text)
        with pytest.raises(checkpoint.CheckpointError, match=message):
            fe.load_vectors(tmp_path / "a.txt")
    (tmp_path / "a.txt").write_text("1,000 0.5 2\nb 1.5 3\n")  # a name
    assert list(fe.load_vectors(tmp_path / "a.txt").vocabulary) == ["1,000", "b"]


def test_a_table_without_names_has_not_those_of_the_file_that_it_replaces(tmp_path):
    layer = fe.Embedding(3, 2, rng=0)
    layer.vocabulary = list("abc")
    layer.save_vectors(tmp_path / "a.npy")
    for n_rows in (3, 4):
        fe.Embedding(n_rows, 2).save_vectors(tmp_path / "a.npy")
        assert (fe.load_vectors(tmp_path / "a.npy").vocabulary, os.listdir(tmp_path)) == (None, ["a.npy"])
    (tmp_path / "a.npy.names.txt").mkdir()
    before = (tmp_path / "a.npy").read_bytes()
    with pytest.raises(OSError, match=r"a\.npy\.names\.txt is not a regular file"):
        fe.Embedding(5, 2).save_vectors(tmp_path / "a.npy")
    assert (tmp_path / "a.npy").read_bytes() == before


def test_names_that_end_as_lines_do(tmp_path):
    layer = fe.Embedding(2, 2, rng=0)
    layer.vocabulary = ["a\r", "b"]
    layer.save_vectors(tmp_path / "a.npy")
    assert fe.load_vectors(tmp_path / "a.npy").vocabulary == layer.vocabulary
    layer.vocabulary = ["a\r", "b\r"]
    with pytest.raises(ValueError, match="all names end in a carriage return"):
        layer.save_vectors(tmp_path / "b.npy")
