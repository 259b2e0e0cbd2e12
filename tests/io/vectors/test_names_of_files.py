"""Names of rows in files: beside .npy files, one a line, and those that a format cannot hold."""

import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest

import fastembed as fe
from fastembed.checkpoint import CheckpointError
from fastembed.io.vectors import arrays
from fastembed.io.vectors import names as names_of

ROWS = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def layer_of(names: list[str]) -> fe.Embedding:
    layer = fe.Embedding.from_pretrained(ROWS * len(names[0]))
    layer.vocabulary = names
    return layer


@pytest.mark.parametrize(
    ("suffix", "bad"),
    [
        (".npy", "b\nc"), (".npy", "\r"), (".npz", "b\0"), (".txt", "b\nc"), (".txt.gz", "b 1"), (".glove", "b\nc"),
        (".bin", "b c"), (".safetensors", "\ud800"),
    ],
)  # fmt: skip
def test_a_save_with_names_that_a_format_lacks_changes_no_file(tmp_path, suffix, bad):
    path = tmp_path / f"v{suffix}"
    for there in (False, True):
        if there:
            layer_of(["aa", "b"]).save_vectors(path)
        before = contents(tmp_path)
        with pytest.raises(ValueError, match="name"):
            layer_of([f"a{bad}", bad]).save_vectors(path)
        assert contents(tmp_path) == before


def test_a_save_that_fails_at_the_names_leaves_the_table(tmp_path, monkeypatch):
    path = tmp_path / "v.npy"
    layer_of(["aa", "b"]).save_vectors(path)
    before = contents(tmp_path)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(arrays, "write_names", fail)
    with pytest.raises(OSError, match="No space"):
        layer_of(["c", "d"]).save_vectors(path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"", []), (b"\n", [""]), (b"a", ["a"]), (b"a\nb\n", ["a", "b"]), (b"a\nb", ["a", "b"]), (b"a\rb\nc\n", ["a\rb", "c"]),
        (b"a\r\nb\r\n", ["a", "b"]), (b"a\r\nb", ["a", "b"]), (b"a\r\nb\n", ["a\r", "b"]), (b"a\x85b\n\xe2", None),
    ],
)  # fmt: skip
def test_names_are_one_a_line(tmp_path, content, names):
    path = tmp_path / "names.txt"
    path.write_bytes(content)
    if names is None:
        with pytest.raises(UnicodeDecodeError):
            arrays.names_in(path)
    else:
        assert arrays.names_in(path) == names


@pytest.mark.parametrize("mode", ["r", "r+"])
def test_an_opened_table_has_the_names_beside_it(tmp_path, mode):
    path = tmp_path / "v.npy"
    layer_of(["a\rb", "c"]).save_vectors(path)
    with fe.Embedding.open(path, mode) as layer:
        assert list(layer.vocabulary) == ["a\rb", "c"]
        np.testing.assert_array_equal(layer["c"], ROWS[1] * 3)
    for kind in (fe.EmbeddingBag, fe.HashEmbedding):
        assert len(kind.open(path).vocabulary) == 2
    (tmp_path / "v.npy.names.txt").unlink()
    assert fe.Embedding.open(path).vocabulary is None


@pytest.mark.parametrize(
    ("names", "text"), [(b"a\n", "has 1 name, and the table 2 rows$"), (b"a\na\n", "'a'"), (b"\xff\nb\n", "decode")]
)
def test_names_beside_a_table_that_are_none_of_its_rows(tmp_path, names, text):
    path = tmp_path / "v.npy"
    np.save(path, ROWS)
    (tmp_path / "v.npy.names.txt").write_bytes(names)
    with pytest.raises(CheckpointError, match=f"^{path}: .*{text}"):
        fe.Embedding.open(path)
    (tmp_path / "v.npy.names.txt").unlink()
    fe.Embedding.open(path, "r+").close()  # and nothing is locked


def test_a_table_with_names_beside_it_keeps_its_rows(tmp_path):
    path = tmp_path / "v.npy"
    layer_of(["a", "b"]).save_vectors(path)
    with fe.Embedding.open(path, "r+") as layer, pytest.raises(ValueError, match="has names beside it"):
        layer.resize(1)
    path.unlink()
    with pytest.raises(FileExistsError, match=r"v\.npy\.names\.txt is there already"):
        fe.Embedding.create(path, (3, 2))
    assert not path.exists()


def test_a_warning_is_of_the_line_that_asked(tmp_path):
    path = tmp_path / "v.txt"
    path.write_text("a 1 2\nb 3\n")
    for into in (None, tmp_path / "v.safetensors"):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fe.load_vectors(path, errors="skip", into=into)
        assert [(warning.filename, warning.category) for warning in caught] == [(__file__, UserWarning)]
    with pytest.warns(UserWarning, match="hash of strings") as hashed:
        fe.HashEmbedding(7, 2, hash=hash)
    assert hashed[0].filename == __file__


def test_writing_names_takes_little_more_memory_than_their_bytes():
    n = 100_000
    tracemalloc.start()
    try:
        packed = names_of.packed("weight", (f"word{i}" for i in range(n)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert names_of.unpacked("weight", packed) == [f"word{i}" for i in range(n)]
    assert peak < 40 * n
    assert names_of.unpacked("weight", names_of.packed("weight", [])) == []
