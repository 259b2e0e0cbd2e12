"""Creating and opening mapped tables: new files, how rows are made, files that others wrote."""

import json
import os
import struct

import numpy as np
import pytest
from common import same_bits
from mapped_tables import D, V
from safetensors.numpy import load_file, save_file

import fastembed as fe
from fastembed.checkpoint import CheckpointError
from fastembed.io.atomic import beside

pytestmark = pytest.mark.on_reference


@pytest.mark.parametrize("suffix", ["safetensors", "npy"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_a_new_file_holds_the_rows_of_the_constructor(tmp_path, suffix, dtype):
    path = tmp_path / f"t.{suffix}"
    if (suffix, dtype) == ("npy", "bfloat16"):
        with pytest.raises(TypeError, match="cannot say bfloat16"):
            fe.Embedding.create(path, (V, D), dtype)
        assert os.listdir(tmp_path) == []
        return
    expected = fe.Embedding(V, D, dtype=dtype, rng=3, padding_idx=-2)
    with fe.Embedding.create(path, (V, D), dtype, rng=3, padding_idx=-2) as layer:
        assert layer.padding_idx == V - 2
        assert layer.weight.ctypes.data % 64 == 0
        assert same_bits(layer.weight, expected.weight)
        for ids in (4, [1, 2], np.arange(V).reshape(4, 10)):
            assert same_bits(layer(ids), expected(ids))
        assert layer.weight.dtype == layer.dtype == expected.dtype
    if suffix == "npy":
        assert same_bits(np.load(path), expected.weight)
    elif dtype != "bfloat16":
        assert same_bits(load_file(path)["weight"], expected.weight)
    with fe.EmbeddingBag.open(path, bag_mode="sum") as bag:
        like = fe.EmbeddingBag.from_pretrained(expected.weight, mode="sum")
        ids = np.arange(20).reshape(2, 10)
        assert same_bits(bag(ids), like(ids))
        assert bag.mode == "sum"
        assert not bag.trainable
    assert os.listdir(tmp_path) == [path.name]


def test_how_new_rows_are_made(tmp_path):
    rows = np.random.default_rng(0).standard_normal((V, D))
    asked = []

    def some(first, end):
        asked.append((first, end))
        return rows[first:end]

    for k, (init, expected) in enumerate(((0, 0.0), (-0.0, -0.0), (2.5, 2.5), (some, rows), (lambda a, b: [1.0], 1.0))):
        with fe.Embedding.create(tmp_path / f"{k}", (V, D), "float64", init) as layer:
            assert same_bits(layer.weight, np.broadcast_to(expected, (V, D)))
    assert asked == [(0, V)]
    with fe.EmbeddingBag.create(tmp_path / "bag", (300_000, 8), init=0, mode="max") as bag:
        assert bag.mode == "max"
        assert os.stat(tmp_path / "bag").st_size > 9_000_000
        assert os.stat(tmp_path / "bag").st_blocks * 512 < 100_000
    with fe.Embedding.create(tmp_path / "long", (3, 3_000_000), init=lambda a, b: np.full((b - a, 3_000_000), a)) as layer:
        assert layer.weight[:, -1].tolist() == [0, 1, 2]
    for shape in ((0, 4), (4, 0)):
        with fe.Embedding.create(tmp_path / f"{shape}", shape) as layer:
            assert layer.weight.shape == shape
            assert layer(np.empty(0, int)).shape == (0, shape[1])


def test_what_create_refuses(path):
    fe.Embedding.create(path, (V, D), rng=0).close()
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="is there already"):
        fe.Embedding.create(path, (V, D))
    other = path.with_name("other")
    for error, arguments in (
        (TypeError, ((V, D), "int8")),
        (TypeError, (V,)),
        (ValueError, ((-1, D),)),
        (ValueError, ((V, D), "float32", float("nan"))),
        (ValueError, ((V, D), "float32", lambda a, b: np.zeros((3, 3)))),
        (TypeError, ((V, D), "float32", lambda a, b: ["x"])),
        (ZeroDivisionError, ((V, D), "float32", lambda a, b: 1 / 0)),
    ):
        with pytest.raises(error):
            fe.Embedding.create(other, *arguments)
    with pytest.raises(ValueError, match="padding_idx"):
        fe.Embedding.create(other, (V, D), padding_idx=V)
    hash = fe.NgramHash([3, 5], [[V, 2]], vocab_size=9, fill=0)
    for layer, error, options in (
        (fe.Embedding, TypeError, {"nonsense": 1}),
        (fe.Embedding, ValueError, {"max_norm": -1.0}),
        (fe.EmbeddingBag, ValueError, {"mode": "most"}),
        (fe.NgramEmbedding, TypeError, {}),
        (fe.NgramEmbedding, ValueError, {"hash": hash}),
    ):
        with pytest.raises(error):
            layer.create(other, (V, D), init=0, **options)
    for left in ("journal", "optimizer.json"):
        beside(other, left).touch()
        with pytest.raises(FileExistsError, match=left):
            fe.Embedding.create(other, (V, D))
        os.unlink(beside(other, left))
    with pytest.raises(OSError, match="no folder"):
        fe.Embedding.create(path.parent / "none" / "t", (V, D))
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_files_of_others(tmp_path):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((V, D)).astype("f4"), rng.standard_normal((3, D)).astype("f2")
    save_file({"a": a, "b": b, "n": np.arange(3)}, tmp_path / "two", metadata={"from": "elsewhere"})
    with pytest.raises(CheckpointError, match=r"name must say which, of \['a', 'b'\]"):
        fe.Embedding.open(tmp_path / "two")
    for name, why in (("n", "no tensor 'n' of 2 axes"), ("c", "name 'c' must be that of one tensor, and a, b, n are there")):
        with pytest.raises(CheckpointError, match=why):
            fe.Embedding.open(tmp_path / "two", name=name)
    for name, array in (("a", a), ("b", b)):
        with fe.Embedding.open(tmp_path / "two", "r+", name=name) as layer:
            assert same_bits(layer.weight, array)
            layer.set_rows([1], 5.0)
            with pytest.raises(ValueError, match="holds other tensors too"):
                layer.resize(5)
    found = load_file(tmp_path / "two")
    assert (found["a"][1] == 5).all()
    assert (found["b"][1] == 5).all()
    assert same_bits(found["a"][2:], a[2:])
    assert found["n"].tolist() == [0, 1, 2]

    save_file({"a": a, "n": np.arange(3)}, tmp_path / "one")
    with fe.Embedding.open(tmp_path / "one") as layer:
        assert same_bits(layer.weight, a)
    np.save(tmp_path / "big.npy", a.astype(">f4"))
    np.save(tmp_path / "fortran.npy", np.asfortranarray(a))
    np.save(tmp_path / "flat.npy", a.reshape(-1))
    np.save(tmp_path / "ints.npy", np.arange(6).reshape(2, 3))
    np.save(tmp_path / "objects.npy", np.array([[None]]), allow_pickle=True)
    with fe.Embedding.open(tmp_path / "big.npy") as layer:
        assert same_bits(layer([3, 1]), a[[3, 1]])
    with pytest.raises(TypeError, match=r'of which mode="r" can look up rows, must be .* native byte order'):
        fe.Embedding.open(tmp_path / "big.npy", "r+")
    for name, text in (("fortran", "Fortran order"), ("flat", "shape .240,."), ("ints", "int64"), ("objects", "object")):
        with pytest.raises(CheckpointError, match=text):
            fe.Embedding.open(tmp_path / f"{name}.npy")
    header = json.dumps({"a": {"dtype": "F32", "shape": [V, D], "data_offsets": [0, a.nbytes]}}).encode()
    header += b" " * (1 - (len(header) + 8) % 2)
    (tmp_path / "odd").write_bytes(struct.pack("<Q", len(header)) + header + a.tobytes())
    with fe.Embedding.open(tmp_path / "odd") as layer:
        assert not layer.weight.flags.aligned
        assert same_bits(layer(np.arange(V)), a)
    with pytest.raises(ValueError, match='of which mode="r" can look up rows, is not aligned to its 4-byte elements'):
        fe.Embedding.open(tmp_path / "odd", "r+")
    for bad in ("w", None, 3):
        with pytest.raises(ValueError, match="mode must be one of r, r"):
            fe.Embedding.open(tmp_path / "one", bad)
    with pytest.raises(FileNotFoundError):
        fe.Embedding.open(tmp_path / "none")
    with pytest.raises(OSError, match="not a regular file"):
        fe.Embedding.open(tmp_path)
    with pytest.raises(ValueError, match="padding_idx"):
        fe.Embedding.open(tmp_path / "one", "r+", padding_idx=V)
    fe.Embedding.open(tmp_path / "one", "r+").close()  # and is not locked


def test_new_names_come_into_no_file_and_a_warning_says_so(tmp_path, path):
    text = r"names of rows do not come into the file of a mapped table: save\(\) or save_vectors\(\) writes them to another"
    with fe.Embedding.create(path, (2, 2)) as layer:
        with pytest.warns(UserWarning, match=text) as caught:
            layer.vocabulary = ["a", "b"]
        assert caught[0].filename == __file__
        layer.vocabulary = ["a", "b"]  # nothing new
        with pytest.warns(UserWarning, match=text) as caught:
            layer.add_tokens(["c"])
        assert caught[0].filename == __file__
        layer.save_vectors(tmp_path / "named.txt")
    with fe.Embedding.open(path) as layer:
        assert (len(layer.weight), layer.vocabulary) == (3, None)
        layer.vocabulary = ["a", "b", "c"]  # for look-ups
    fe.load_vectors(tmp_path / "named.txt", into=tmp_path / "named").close()
    with fe.Embedding.open(tmp_path / "named", "r+") as layer:
        assert list(layer.vocabulary) == ["a", "b", "c"]
        with pytest.warns(UserWarning, match=text):
            layer.vocabulary = ["x", "y", "z"]
    with fe.Embedding.open(tmp_path / "named") as layer:
        assert list(layer.vocabulary) == ["a", "b", "c"]


def test_a_warning_that_is_an_error_adds_no_tokens(path):
    with fe.Embedding.create(path, (0, 2)) as layer:
        with pytest.raises(UserWarning, match="names of rows"):
            layer.add_tokens(["a"])
        assert (len(layer.weight), layer.vocabulary) == (0, None)
