"""Tables in mapped files: the numbers of tables in memory, and files that hold the state of a flush whatever happens."""

import builtins
import copy
import io
import json
import multiprocessing
import os
import pickle
import random
import shutil
import signal
import struct
import subprocess
import sys
import warnings

import numpy as np
import pytest
from common import same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

import fastembed as fe
from fastembed._kernels import backend
from fastembed.checkpoint import CheckpointError
from fastembed.io import journal, mapped, tensor_file

V, D = 40, 6
KINDS = {
    "SGD": {"lr": 0.1},
    "SGD momentum": {"lr": 0.1, "momentum": 0.9, "nesterov": True},
    "Adagrad": {"lr": 0.1},
    "Adagrad from 0.5": {"lr": 0.1, "initial_accumulator_value": 0.5},
    "RowWiseAdagrad": {"lr": 0.1},
    "Adam": {"lr": 0.1},
    "AdamW": {"lr": 0.1, "weight_decay": 0.01},
    "SparseAdam": {"lr": 0.1},
}


def optimizer_of(kind, layer):
    return getattr(fe.optim, kind.split()[0])(layer, **KINDS[kind])


def train(layer, optimizer, steps):
    """Steps with batches that depend on their number alone; row 0 of the table is never touched."""
    for step in steps:
        rng = np.random.default_rng(step)
        ids = rng.integers(1, layer.num_embeddings, 7)
        layer(ids)
        layer.backward(rng.standard_normal((7, layer.embedding_dim)).astype(layer._arithmetic), ids, optimizer=optimizer)


def state_of(layer, optimizer):
    """The table, the state and the step count, as bytes that can be compared."""
    (item,) = optimizer.state_dict()["items"]
    arrays = {kind: arrays["weight"].tobytes() for kind, arrays in item.items() if kind != "step"}
    return layer.weight.tobytes(), arrays, item["step"]


def state_in(path, kind, mode="r+"):
    """The same of what a file holds for whoever opens it; the files themselves are left as they are."""
    folder = path.parent.with_name(f"{path.parent.name}-copy")
    shutil.copytree(path.parent, folder)
    try:
        with fe.Embedding.open(folder / path.name, mode) as layer:
            return (layer.weight.tobytes(),) if mode == "r" else state_of(layer, optimizer_of(kind, layer))
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def path(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in" / "table.safetensors"


# ---- files ----


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
    for left in ("journal", "optimizer.json"):
        journal.beside(other, left).touch()
        with pytest.raises(FileExistsError, match=left):
            fe.Embedding.create(other, (V, D))
        os.unlink(journal.beside(other, left))
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
    for name in ("n", "c"):
        with pytest.raises(CheckpointError, match=f"no tensor '{name}' of 2 axes"):
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


def test_truncated_and_damaged_files(tmp_path):
    path = tmp_path / "t"
    for suffix in ("npy", "safetensors"):
        made = tmp_path / f"whole.{suffix}"
        fe.Embedding.create(made, (V, D), rng=0).close()
        whole = made.read_bytes()
        for content in (*(whole[:n] for n in (0, 5, 9, 40, 100, len(whole) - 1)), whole + b"x", whole[:8] + b"\xff" + whole[9:]):
            path.write_bytes(content)
            with pytest.raises(CheckpointError, match="holds no table that can be mapped"):
                fe.Embedding.open(path)
    for version, length in ((2, 2**32 - 1), (3, 10)):
        path.write_bytes(b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<I", length) + bytes(200_000))
        with pytest.raises(CheckpointError):
            fe.Embedding.open(path)
    entry = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
    deep = b"[" * 100_000
    for text, says in (
        (b"[]", "attribute|mapping"),
        (deep, "recursion|Expecting"),
        (b'{"a": 1, "a": 2}', "twice"),
        (json.dumps({f"{k}": entry for k in range(100_001)}).encode(), "no mapping of at most"),
        (json.dumps({"a": entry, "b": {**entry, "data_offsets": [8, 16], "shape": [1, 2]}}).encode(), "name must say"),
    ):
        path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(16))
        with pytest.raises(CheckpointError, match=says):
            fe.Embedding.open(path)
    with pytest.raises(CheckpointError, match="'a' and 'b' overlap"):
        fe.Embedding.open(path, name="a")
    path.write_bytes(struct.pack("<Q", 17 << 20) + bytes(18 << 20))
    with pytest.raises(CheckpointError, match="longer than the file, or than 16777216 bytes"):
        fe.Embedding.open(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**66) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
SIZES = st.lists(st.integers(-1, 9) | st.sampled_from([2**31, 2**62, 2**63, 2**64]) | JSON, max_size=3) | JSON
ENTRY = JSON | st.fixed_dictionaries(
    {}, optional={"dtype": st.sampled_from(["F32", "F64", "F16", "I8", "x"]) | JSON, "shape": SIZES, "data_offsets": SIZES}
)
HEADER = st.dictionaries(st.sampled_from(["a", "b", "weight", "__metadata__"]), ENTRY, max_size=3) | JSON


def opened(path):
    """A layer, or None after an error that names the file."""
    try:
        return fe.Embedding.open(path)
    except CheckpointError as error:
        text = str(error)
    assert str(path) in text
    return None


@settings(deadline=None, max_examples=300)
@given(HEADER, st.integers(-8, 8), st.integers(0, 80))
def test_hostile_headers(tmp_path_factory, header, off, n_data):
    """Whatever a header says: an error that says so, or a table that lies in the file."""
    path = tmp_path_factory.getbasetemp() / "hostile"
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", max(len(text) + off, 0)) + text + bytes(n_data))
    layer = opened(path)
    if layer is not None:
        with layer:
            assert 0 <= layer.weight.nbytes <= n_data + 8
            layer(np.arange(layer.num_embeddings))


@settings(deadline=None, max_examples=200)
@given(
    st.fixed_dictionaries(
        {
            "descr": st.sampled_from(["<f4", ">f8", "|O", "<i4", "<f2", "x", [("a", "<f4")]]),
            "fortran_order": st.booleans() | st.none(),
            "shape": st.lists(st.sampled_from([0, 1, 2, 5, -1, 2**40, 2**62, 2**70, True, "x", None]), max_size=3).map(tuple),
        }
    ),
    st.integers(0, 80),
)
def test_hostile_npy_headers(tmp_path_factory, header, n_data):
    path = tmp_path_factory.getbasetemp() / "hostile.npy"
    text = repr(header).encode().ljust(117) + b"\n"
    path.write_bytes(b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + bytes(n_data))
    layer = opened(path)
    if layer is not None:
        with layer:
            assert layer.weight.nbytes == n_data


# ---- training ----


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_training_gives_the_bits_of_a_table_in_memory(path, kind, dtype):
    """Through flushes, and through files that are closed and opened again; what other optimisers there are is refused."""
    layer, expected = (make((V, D), dtype, rng=1) for make in (lambda *a, **k: fe.Embedding.create(path, *a, **k), in_memory))
    optimizer, like = optimizer_of(kind, layer), optimizer_of(kind, expected)
    for first in (0, 4, 8):
        train(layer, optimizer, range(first, first + 2))
        layer.flush()
        train(layer, optimizer, range(first + 2, first + 4))
        train(expected, like, range(first, first + 4))
        assert state_of(layer, optimizer) == state_of(expected, like)
        layer.close()
        assert state_in(path, kind) == state_of(expected, like)
        layer = fe.Embedding.open(path, "r+")
        optimizer = optimizer_of(kind, layer)
        assert state_of(layer, optimizer) == state_of(expected, like)
    names = {f"{path.name}.{kind.split()[0]}.{name}" for name in optimizer._state_kinds(0, optimizer._options_of(0))}
    assert set(os.listdir(path.parent)) == {path.name, f"{path.name}.optimizer.json"} | names
    other = "Adagrad" if kind != "Adagrad" and "Adagrad from" not in kind else "RowWiseAdagrad"
    if names:
        with pytest.raises(ValueError, match=f"has a state of {kind.split()[0]} weight beside it, not of {other} weight: .*json"):
            optimizer_of(other, layer)
        train(layer, optimizer, [12])
        train(expected, like, [12])
        assert state_of(layer, optimizer) == state_of(expected, like)
    layer.close()


def in_memory(shape, dtype="float32", **options):
    return fe.Embedding(*shape, dtype=dtype, **options)


@pytest.mark.parametrize("options", [{"master_rows": True}, {"stochastic_rounding": 5}])
def test_half_precision_resumes(path, options):
    expected = fe.Embedding(V, D, dtype="bfloat16", rng=1)
    like = fe.optim.SparseAdam(expected, **options)
    fe.Embedding.create(path, (V, D), "bfloat16", rng=1).close()
    for first in (0, 3):
        with fe.Embedding.open(path, "r+") as layer:
            optimizer = fe.optim.SparseAdam(layer, **options)
            train(layer, optimizer, range(first, first + 3))
            train(expected, like, range(first, first + 3))
            assert state_of(layer, optimizer) == state_of(expected, like)


def test_bags_max_norm_and_accumulated_gradients(path):
    rng = np.random.default_rng(0)
    ids, dout = rng.integers(0, V, (4, 5)), rng.standard_normal((4, D)).astype("f4")
    options = {"max_norm": 1.5, "mode": "sum"}
    expected = fe.EmbeddingBag.from_pretrained(fe.Embedding(V, D, rng=1).weight, **options)
    like = fe.optim.Adagrad(expected, lr=0.1)
    with fe.EmbeddingBag.create(path, (V, D), rng=1, **options) as bag:
        optimizer = fe.optim.Adagrad(bag, lr=0.1)
        for _ in range(3):
            for layer, opt in ((expected, like), (bag, optimizer)):
                layer(ids)
                layer.backward(dout)
                opt.step()
                opt.zero_grad()
            assert same_bits(bag.weight, expected.weight)
    with fe.Embedding.open(path, "r+", max_norm=0.5) as layer:
        single = fe.Embedding.from_pretrained(expected.weight, max_norm=0.5)
        assert same_bits(layer(ids), single(ids))
        assert same_bits(layer.weight, single.weight)
    with fe.Embedding.open(path) as layer:
        assert same_bits(layer.weight, single.weight)
    with pytest.raises(ValueError, match="which max_norm changes, is read-only"):
        fe.Embedding.open(path, max_norm=0.5)
    with fe.Embedding.open(path, max_norm=0.25, max_norm_in_place=False) as layer:
        pure = fe.Embedding.from_pretrained(single.weight, max_norm=0.25, max_norm_in_place=False)
        assert same_bits(layer(ids), pure(ids))


def test_a_table_that_is_read_is_not_trained(path):
    fe.Embedding.create(path, (V, D), rng=0).close()
    before = path.read_bytes()
    with fe.Embedding.open(path) as layer, fe.Embedding.open(path) as second:
        assert same_bits(layer.weight, second.weight)
        layer.backward(np.ones((1, D)), [1])
        assert layer.grads()["weight"].ids.tolist() == [1]
        layer.flush()
        for trainable in (False, True):
            layer.trainable = trainable
            with pytest.raises(ValueError, match=r"item 1 is a table in a file, opened with mode 'r'"):
                fe.optim.SparseAdam([fe.Embedding(V, D), layer])
        with pytest.raises(ValueError, match="read-only"):
            layer.set_rows([1], 0.0)
        with pytest.raises(ValueError, match="read-only"):
            layer.load_state_dict(fe.Embedding(V, D).state_dict())
        with pytest.raises(ValueError, match='with mode="r", and is not written'):
            layer.resize(3)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]
    with fe.Embedding.open(path, "r+", freeze=True) as layer:
        optimizer = fe.optim.SGD(layer, momentum=0.9)
        train(layer, optimizer, range(2))
        assert os.listdir(path.parent) == [path.name]
        layer.trainable = True
        train(layer, optimizer, range(2))
        assert not same_bits(layer.weight, fe.Embedding(V, D, rng=0).weight)


def test_one_optimiser_at_a_time(path):
    """A second of the same kind goes on where the first is, which is then refused; the first was lazy, and rows were behind."""
    layer, expected = fe.Embedding.create(path, (V, D), rng=1), fe.Embedding(V, D, rng=1)
    first, like = optimizer_of("Adam", layer), optimizer_of("Adam", expected)
    train(layer, first, range(3))
    second = optimizer_of("Adam", layer)
    before = state_of(layer, second)
    for use in (lambda: train(layer, first, [9]), first.step, lambda: first.load_state_dict(second.state_dict())):
        with pytest.raises(RuntimeError, match="another optimiser has been made for the table"):
            use()
    assert state_of(layer, second) == before
    first = None
    train(layer, second, range(3, 5))
    second = None
    train(expected, like, range(5))
    third = optimizer_of("Adam", layer)
    assert state_of(layer, third) == state_of(expected, like)
    layer.flush()
    third.load_state_dict(copy.deepcopy(third.state_dict()) | {"lr": 0.5})
    assert third.lr == 0.5
    train(layer, third, [5])
    like.lr = 0.5
    train(expected, like, [5])
    layer.close()
    assert state_in(path, "Adam") == state_of(expected, like)


def test_an_option_that_needs_more_state(path):
    layer, expected = fe.Embedding.create(path, (V, D), rng=1), fe.Embedding(V, D, rng=1)
    optimizer, like = fe.optim.SGD(layer, lr=0.1), fe.optim.SGD(expected, lr=0.1)
    for opt, of in ((optimizer, layer), (like, expected)):
        train(of, opt, range(2))
        of.flush()
        train(of, opt, range(2, 4))
        opt.momentum = 0.9
        train(of, opt, range(4, 5))
    assert json.loads(journal.beside(path, "optimizer.json").read_text())["step"] == 2  # what is on the disk is that of the flush
    assert state_of(layer, optimizer) == state_of(expected, like)
    layer.close()
    with fe.Embedding.open(path, "r+") as layer:
        optimizer = fe.optim.SGD(layer, lr=0.1, momentum=0.9)
        assert state_of(layer, optimizer) == state_of(expected, like)


# ---- writes ----


def test_no_write_is_lost(path):
    layer = fe.Embedding.create(path, (V, D), rng=0)
    optimizer = optimizer_of("SparseAdam", layer)
    train(layer, optimizer, [1])
    (item,) = optimizer.state_dict()["items"]
    for array in (layer.weight, layer.state_dict()["weight"], layer.parameters()[0], item["exp_avg"]["weight"]):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    expected = layer.weight.copy()
    layer.set_rows([[3, 4], [5, 3]], np.arange(4.0).reshape(2, 2, 1))
    expected[[3, 4, 5, 3]] = np.arange(4.0)[:, None]
    layer.set_rows(7, layer.weight[8])
    expected[7] = expected[8]
    for error, ids, rows in (
        (IndexError, [V], 0.0),
        (ValueError, [1], [1.0, 2.0]),
        (TypeError, [1], "x"),
        (TypeError, [0.5], 0.0),
    ):
        with pytest.raises(error):
            layer.set_rows(ids, rows)
    assert same_bits(layer.weight, expected)
    layer.flush()
    assert state_in(path, "", "r") == (expected.tobytes(),)
    layer.load_state_dict({"weight": expected[::-1]})
    layer.close()
    with fe.Embedding.open(path) as layer:
        assert same_bits(layer.weight, expected[::-1])


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_set_rows_of_rows_that_are_behind(kind):
    layer, like = fe.Embedding(V, D, rng=0), fe.Embedding(V, D, rng=0)
    opt, opt_like = optimizer_of(kind, layer), optimizer_of(kind, like)
    train(layer, opt, range(3))
    train(like, opt_like, range(3))
    layer.set_rows([1, 2], 0.5)
    like.weight[[1, 2]] = 0.5
    train(layer, opt, range(3, 5))
    train(like, opt_like, range(3, 5))
    assert same_bits(layer.weight, like.weight)


def test_close(path):
    layer = fe.Embedding.create(path, (V, D), rng=0)
    optimizer = optimizer_of("SparseAdam", layer)
    view = layer.weight
    with layer:
        train(layer, optimizer, range(2))
        expected = view.copy()
    layer.close()
    assert same_bits(view, expected)
    for use in (
        lambda: layer([1]),
        lambda: layer.weight,
        layer.state_dict,
        layer.flush,
        optimizer.step,
        optimizer.state_dict,
        lambda: layer.set_rows([1], 0.0),
        lambda: layer.resize(3),
        lambda: layer.nearest(0, 1),
        layer.statistics,
        layer.parameters,
        lambda: train(layer, optimizer, [1]),
        lambda: fe.optim.SGD(layer),
    ):
        with pytest.raises(ValueError, match="is closed"):
            use()
    layer = fe.Embedding.open(path, "r+")
    assert same_bits(layer.weight, expected)
    layer.set_rows([1], 0.0)
    with pytest.raises(ZeroDivisionError), layer:  # without a flush
        raise ZeroDivisionError
    assert state_in(path, "", "r") == (expected.tobytes(),)
    in_memory = fe.Embedding(2, 2, rng=0)
    with in_memory as same:
        assert same is in_memory
    in_memory.close()
    assert in_memory([1]).shape == (1, 2)


def test_a_layer_that_is_dropped_says_what_is_lost(path):
    layer = fe.Embedding.create(path, (V, D), rng=0)
    layer.set_rows([1], 0.0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del layer
    assert [str(one.message) for one in caught] == [f"{path}: what was trained since the last flush is lost"]
    assert caught[0].category is ResourceWarning
    with fe.Embedding.open(path, "r+") as layer:
        assert same_bits(layer.weight, fe.Embedding(V, D, rng=0).weight)


def test_copies(path):
    with fe.Embedding.create(path, (V, D), rng=0) as layer:
        optimizer = optimizer_of("SparseAdam", layer)
        for use, what in (
            (copy.copy, layer),
            *((use, what) for use in (copy.deepcopy, pickle.dumps) for what in (layer, optimizer)),
        ):
            with pytest.raises(TypeError, match="is mapped: open it again"):
                use(what)


def test_locks(path):
    with fe.Embedding.create(path, (V, D), rng=0) as layer:
        for mode in ("r", "r+"):
            with pytest.raises(BlockingIOError, match=f"cannot be opened with mode='{mode.replace('+', '.')}': it is open"):
                fe.Embedding.open(path, mode)
        layer.resize(V + 1)  # another file, and locked as well
        with pytest.raises(BlockingIOError):
            fe.Embedding.open(path)
    with fe.Embedding.open(path), fe.Embedding.open(path), pytest.raises(BlockingIOError):
        fe.Embedding.open(path, "r+")
    fe.Embedding.open(path, "r+").close()


def child(layer, optimizer, end):
    outcome = []
    train(layer, optimizer, [50])  # in memory of its own
    for use in (layer.flush, lambda: layer.resize(3), layer.close):
        try:
            use()
        except RuntimeError as error:
            outcome.append("which alone may write it" in str(error))
    end.send(outcome)
    end.recv()


@pytest.mark.fork
def test_a_forked_child_writes_nothing_and_locks_nothing(path):
    layer = fe.Embedding.create(path, (V, D), rng=0)
    optimizer = optimizer_of("SparseAdam", layer)
    train(layer, optimizer, range(2))
    expected, files = state_of(layer, optimizer), path.read_bytes()
    mine, its = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=child, args=(layer, optimizer, its))
    process.start()
    assert mine.recv() == [True, True, True]
    assert path.read_bytes() == files
    assert state_of(layer, optimizer) == expected
    layer.close()
    fe.Embedding.open(path, "r+").close()  # while the child lives
    mine.send(None)
    process.join()
    assert process.exitcode == 0
    assert state_in(path, "SparseAdam") == expected


def test_a_system_without_locks(monkeypatch):
    script = "import sys; sys.modules['fcntl'] = None; import fastembed as fe; fe.Embedding.open('x')"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "ImportError: mapped tables need fcntl" in result.stderr


# ---- sizes ----


@pytest.mark.parametrize("kind", ["SGD", "Adagrad from 0.5", "RowWiseAdagrad", "Adam"])
@pytest.mark.parametrize("suffix", ["npy", "safetensors"])
def test_resize(tmp_path, kind, suffix):
    path = tmp_path / f"t.{suffix}"
    layer, expected = fe.Embedding.create(path, (V, D), rng=1), fe.Embedding(V, D, rng=1)
    optimizer, like = optimizer_of(kind, layer), optimizer_of(kind, expected)
    mode = os.stat(path).st_mode
    large = 20_000 if kind == "SGD" else V + 60
    for k, (n, rows) in enumerate(((V + 9, None), (V - 5, None), (V + 30, np.ones(D)), (V + 3, None), (large, None))):
        for of, opt in ((layer, optimizer), (expected, like)):
            train(of, opt, range(3 * k, 3 * k + 3))
            of.backward(np.ones((2, D)), [1, of.num_embeddings - 1])
            of.resize(n, new_rows=rows)
            opt.step()
            opt.zero_grad()
        assert state_of(layer, optimizer) == state_of(expected, like)
    layer.close()
    with fe.Embedding.open(path, "r+") as layer:
        optimizer = optimizer_of(kind, layer)
        assert state_of(layer, optimizer) == state_of(expected, like)
    assert os.stat(path).st_mode == mode
    assert not [name for name in os.listdir(tmp_path) if name.endswith(("new", "journal"))]
    if kind == "SGD":
        assert os.stat(path).st_blocks * 512 < 100_000 < os.stat(path).st_size
    with fe.Embedding.open(path, "r+") as layer:  # a state that no optimiser has asked for goes with its table
        layer.resize(V)
        layer.resize(V + 2)
        expected.resize(V)
        expected.resize(V + 2)
        optimizer = optimizer_of(kind, layer)
        assert state_of(layer, optimizer) == state_of(expected, like)


def test_a_resize_that_cannot_be_changes_nothing(path):
    with fe.Embedding.create(path, (V, D), rng=1, padding_idx=30) as layer:
        before = layer.weight.copy()
        for error, arguments in ((ValueError, (-1,)), (TypeError, (1.5,)), (ValueError, (30,))):
            with pytest.raises(error):
                layer.resize(*arguments)
        with pytest.raises(ValueError, match="new_rows"):
            layer.resize(V + 2, new_rows=[1.0, 2.0])
        assert same_bits(layer.weight, before)
    assert os.listdir(path.parent) == [path.name]


# ---- failures ----


class Failing:
    """Lets the n-th of the calls that write fail, and counts them."""

    def __init__(self, monkeypatch):
        self.left = -1
        self.n_calls = 0
        for name in ("fsync", "replace", "pwrite", "unlink", "open", "fchmod"):
            monkeypatch.setattr(os, name, self.wrapped(getattr(os, name)))
        monkeypatch.setattr(builtins, "open", self.wrapped(open))
        monkeypatch.setattr(journal, "_write_at", self.torn(journal._write_at))

    def wrapped(self, call):
        def failing(*arguments, **options):
            self.n_calls += 1
            self.left -= 1
            if self.left == 0:
                raise OSError(28, "No space left on device")
            return call(*arguments, **options)

        return failing

    def torn(self, call):
        """Half of what was to be written is, before it fails."""

        def failing(descriptor, data, offset):
            self.n_calls += 1
            self.left -= 1
            if self.left == 0:
                call(descriptor, data[: len(data) // 2], offset)
                raise OSError(5, "Input/output error")
            return call(descriptor, data, offset)

        return failing


@pytest.mark.parametrize("kind", ["SparseAdam", "Adam"])
def test_a_flush_that_fails_anywhere(path, kind, monkeypatch):
    """The files hold the state of the last flush, or all of this one; and the next flush makes good."""
    layer = fe.Embedding.create(path, (V, D), rng=1)
    optimizer = optimizer_of(kind, layer)
    train(layer, optimizer, range(2))
    layer.flush()
    failing, last, seen = Failing(monkeypatch), state_of(layer, optimizer), []
    for n in range(1, 1000):
        train(layer, optimizer, range(2 * n, 2 * n + 2))
        new = state_of(layer, optimizer)
        failing.left = n
        try:
            layer.flush()
        except OSError:
            failing.left = -1
            found = state_in(path, kind)
            assert found in (last, new)
            assert state_in(path, kind, "r") == found[:1]
            seen.append(found == new)
            assert state_of(layer, optimizer) == new
            train(layer, optimizer, [1000 + n])
            new = state_of(layer, optimizer)
            layer.flush()
        else:
            failing.left = -1
            break
        last = new
        assert state_in(path, kind) == last
    assert n > 15
    assert seen == sorted(seen)  # first those that fail before it counts
    assert 2 < sum(seen) < len(seen) - 2
    layer.close()
    assert state_in(path, kind) == new


def test_a_resize_that_fails_anywhere(tmp_path, monkeypatch):
    failing, seen = Failing(monkeypatch), []
    for n in range(1, 1000):
        (tmp_path / f"{n}").mkdir()
        path = tmp_path / f"{n}" / "t"
        layer = fe.Embedding.create(path, (V, D), rng=1)
        optimizer = optimizer_of("SparseAdam", layer)
        train(layer, optimizer, range(2))
        layer.flush()
        flushed = state_of(layer, optimizer)
        train(layer, optimizer, range(2, 4))
        now, failing.left = state_of(layer, optimizer), n
        new_n = V + 3 if n % 2 else V - 3
        try:
            layer.resize(new_n, new_rows=2.0)
        except OSError:
            failing.left = -1
            table = state_in(path, "SparseAdam")
            is_new = len(table[0]) == 4 * D * new_n
            seen.append(is_new)
            if is_new:
                n_kept = min(V, new_n) * D * 4
                assert table[0][:n_kept] == now[0][:n_kept]
                assert (np.frombuffer(table[0][n_kept:], "f4") == 2).all()
                assert table[2] == now[2]
            else:
                assert table == flushed
            assert state_in(path, "", "r") == table[:1]
            if not layer.storage.is_closed:  # nothing was decided: go on
                assert state_of(layer, optimizer) == now
                layer.resize(new_n, new_rows=2.0)
                assert len(layer.weight) == new_n
                train(layer, optimizer, [4])
            layer.close()
            state_in(path, "SparseAdam")
        else:
            failing.left = -1
            layer.close()
            break
    assert n > 20
    assert seen == sorted(seen)
    assert 3 < sum(seen) < len(seen) - 3


def test_a_create_that_fails_anywhere(tmp_path, monkeypatch):
    failing = Failing(monkeypatch)
    for n in range(1, 100):
        failing.left = n
        try:
            layer = fe.Embedding.create(tmp_path / f"{n}", (V, D), rng=1)
        except OSError:
            assert set(os.listdir(tmp_path)) <= {f"{n}"}
            failing.left = -1
            if (tmp_path / f"{n}").exists():  # whole
                fe.Embedding.open(tmp_path / f"{n}", "r+").close()
                os.unlink(tmp_path / f"{n}")
        else:
            break
    failing.left = -1
    layer.close()
    assert n > 3


def test_journals_that_are_damaged_or_of_another_table(path):
    layer = fe.Embedding.create(path, (V, D), rng=1)
    whole, rows = path.read_bytes(), np.array([1, 2, 5])
    part = (journal.part_of(path, layer.storage._place), layer.storage.table)
    journal.write(path, [part], rows, None)
    layer.storage.close()
    written = journal.beside(path, "journal").read_bytes()
    for content in (
        b"",
        b"x",
        written[:-1],
        written[:20],
        written + b"x",
        written[:60] + b"?" + written[61:],
        b"fe-jrnl1" + bytes(8),
    ):
        journal.beside(path, "journal").write_bytes(content)
        for mode in ("r", "r+"):
            with pytest.raises(CheckpointError, match=r"is not a journal of table\.safetensors, or is damaged"):
                fe.Embedding.open(path, mode)
    assert path.read_bytes() == whole
    journal.beside(path, "journal").write_bytes(written)
    path.write_bytes(whole[:-4] + bytes(28))
    for mode in ("r", "r+"):
        with pytest.raises(CheckpointError):
            fe.Embedding.open(path, mode)
    for change in (
        {"file": "other"}, {"file": "../table.safetensors"}, {"file": "table.safetensors/x"}, {"n_rows": 3}, {"start": -1},
        {"row_size": 0.5}, {"row_size": 8},
    ):  # fmt: skip
        path.write_bytes(whole)
        forged = journal.Journal(path, [part[0]._replace(**change)], [], None, journal.runs_of(rows), memoryview(b""))
        head = {"parts": forged.parts, "renamed": [], "record": None, "n_runs": len(forged.runs)}
        body = struct.pack("<Q", len(json.dumps(head))) + json.dumps(head).encode() + forged.runs.tobytes() + bytes(3 * D * 4)
        checksum = struct.pack("<Q", __import__("zlib").crc32(body))
        journal.beside(path, "journal").write_bytes(b"fe-jrnl1" + body + checksum)
        with pytest.raises(CheckpointError, match="damaged"):
            fe.Embedding.open(path, "r+")
        assert path.read_bytes() == whole


def test_what_lies_beside_a_table_is_checked(path):
    layer = fe.Embedding.create(path, (V, D), rng=1)
    path.chmod(0o600)
    train(layer, optimizer_of("SparseAdam", layer), range(2))
    layer.close()
    assert {os.stat(path.parent / name).st_mode & 0o777 for name in os.listdir(path.parent)} == {0o600}
    record = journal.beside(path, "optimizer.json")
    good = record.read_bytes()
    state = journal.beside(path, "SparseAdam.exp_avg")
    for bad in (
        b"",
        b"5",
        good[:-3],
        good.replace(b'"step": 2', b'"step": -2'),
        good.replace(b"SparseAdam", b"../x"),
        b"[" * 10**5,
    ):
        record.write_bytes(bad)
        with pytest.raises(CheckpointError, match="does not describe an optimiser"):
            fe.Embedding.open(path, "r+")
    record.write_bytes(good)
    kept = state.read_bytes()
    for content in (kept[:-1], b"", io.BytesIO(kept).read(40)):
        state.write_bytes(content)
        with fe.Embedding.open(path, "r+") as layer, pytest.raises(CheckpointError, match=r"exp_avg"):
            optimizer_of("SparseAdam", layer)
    os.unlink(state)
    with fe.Embedding.open(path, "r+") as layer, pytest.raises(FileNotFoundError, match=r"exp_avg"):
        optimizer_of("SparseAdam", layer)
    tensor = {"exp_avg": np.zeros((V, D + 1), "f4")}
    save_file(tensor, state)
    with (
        fe.Embedding.open(path, "r+") as layer,
        pytest.raises(CheckpointError, match=r"exp_avg must be float32 of shape \(40, 6\)"),
    ):
        optimizer_of("SparseAdam", layer)


# ---- kills ----

KILLED = """
import sys, pathlib
sys.path.insert(0, {tests!r})
import fastembed as fe
from test_mapped import optimizer_of, train
path, kind, end, every = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), 3
with fe.Embedding.open(path, "r+") as layer:
    optimizer = optimizer_of(kind, layer)
    step = optimizer.state_dict()["items"][0]["step"]
    print("ready", step, flush=True)
    while step < end:
        train(layer, optimizer, [step])
        step += 1
        if step % every == 0:
            layer.flush()
            print("flushed", step, flush=True)
"""


def run_and_kill(path, kind, end, delay):
    """The last step that a child that trains said was flushed, before it ended or was killed."""
    script = KILLED.format(tests=os.path.dirname(__file__))
    process = subprocess.Popen([sys.executable, "-c", script, str(path), kind, str(end)], stdout=subprocess.PIPE, text=True)
    first = process.stdout.readline().split()
    assert first[0] == "ready"
    try:
        process.wait(delay)
    except subprocess.TimeoutExpired:
        process.kill()
    assert process.wait() in (0, -signal.SIGKILL)
    said = [int(line.split()[1]) for line in process.stdout.read().splitlines()]
    process.stdout.close()
    return max([int(first[1]), *said])


def kill_often(path, kind, n_kills):
    rng = random.Random(kind)
    expected = fe.Embedding(400, 16, rng=1)
    like, at = optimizer_of(kind, expected), 0
    fe.Embedding.create(path, (400, 16), rng=1).close()
    longest = 0.08
    for _ in range(n_kills):
        said = run_and_kill(path, kind, 10**9, rng.random() * longest)
        found = state_in(path, kind)
        assert said <= found[2] <= said + 3  # one more may have been complete, and not said
        assert found[2] % 3 == 0
        if found[2] == 0:  # kills that all come before the first flush would show nothing
            longest *= 2
        train(expected, like, range(at, found[2]))
        at = found[2]
        assert found == state_of(expected, like)
        assert state_in(path, kind, "r") == found[:1]
    assert at > 0
    run_and_kill(path, kind, at + 7, 60)
    train(expected, like, range(at, at + 7))
    assert state_in(path, kind) == state_of(expected, like)


@pytest.mark.uninstrumented
@pytest.mark.parametrize("kind", ["SparseAdam", "Adam"])
def test_kills_leave_the_last_flush(path, kind):
    kill_often(path, kind, 5)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["SparseAdam", "Adam"])
def test_a_hundred_kills(path, kind):
    kill_often(path, kind, 100)


# ---- larger than memory ----

LARGE = """
import os, sys, numpy as np, fastembed as fe
V, D, n = 156_250_000, 64, 2_000                        # 40 GB, and as much for each state
kind, n_states, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE")
with fe.Embedding.create(path, (V, D), init=0) as layer:
    optimizer = getattr(fe.optim, kind)(layer, lr=0.1)
    small = fe.Embedding.from_pretrained(np.zeros((3, D), "f4"))
    like = getattr(fe.optim, kind)(small, lr=0.1)
    small.backward(np.ones((3, D), "f4"), range(3), optimizer=like)
    ids = np.random.default_rng(0).choice(V, n, replace=False)
    layer(ids[:10])
    before = resident()
    assert not layer(ids).any()
    layer.backward(np.ones((n, D), "f4"), ids, optimizer=optimizer)
    grown = resident() - before
    assert (layer(ids) == small([0])).all()
    layer.flush()
    after = resident() - before
with fe.Embedding.open(path) as layer:
    assert (layer(ids) == small([0])).all()
    assert not layer((ids + 1) % V)[np.isin((ids + 1) % V, ids, invert=True)].any()
print(grown, after, n * (n_states + 3) * os.sysconf("SC_PAGESIZE"))
"""


@pytest.mark.skipif(backend.name != "c" or sys.platform != "linux", reason="reads a whole table, or has no /proc")
@pytest.mark.uninstrumented
@pytest.mark.parametrize(("kind", "n_states"), [("SparseAdam", 2), ("Adagrad", 1)])
def test_forty_gigabytes(tmp_path, kind, n_states):
    """A page for each row of the table and of each state, one for its mark, one for the number of steps it has taken."""
    try:
        with open(tmp_path / "probe", "wb") as file:
            file.truncate(41 * 10**9)
    except OSError:
        pytest.skip("no files of 40 GB here")
    os.unlink(tmp_path / "probe")
    result = subprocess.run(
        [sys.executable, "-c", LARGE, kind, str(n_states), str(tmp_path / "t")], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    grown, after, bound = map(int, result.stdout.split())
    assert 0.2 * bound < grown < 1.1 * bound + 10**7
    assert after < grown


@pytest.mark.skipif(backend.name != "c", reason="advice is given by C")
def test_advice_changes_no_value(path):
    table = np.random.default_rng(0).standard_normal((5_000, 70)).astype("f4")
    fe.Embedding.create(path, table.shape, init=lambda a, b: table[a:b]).close()
    place = tensor_file.find(path)
    rows = np.array([4_999, -1, 7, 7, 0, 10**12, -(2**63), 3_000])
    for array in (mapped._mapped(path, place), mapped._mapped(path, place)[:0], mapped._mapped(path, place)[:, :0].copy()):
        for some in (rows, rows[:0], np.arange(5_000)):
            assert backend.kernels.any_nonresident(array, some) in (True, False)
            backend.kernels.prefetch_pages(array, some)
            backend.kernels.release_pages(array, some)
        assert same_bits(array, table[: len(array), : array.shape[1]])
    private = mapped._mapped(path, place)
    private[3] = 0
    backend.kernels.release_pages(private, np.array([3]))
    assert same_bits(private, table)
    with pytest.raises(ValueError, match="side by side"):
        backend.kernels.prefetch_pages(private[:, 1:], rows)
