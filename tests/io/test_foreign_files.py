"""Files and values that are not ours: what can be loaded is, the rest is named as what it is."""

import bz2
import json
import lzma
import pickle
import struct
import subprocess
import sys
import zipfile

import ml_dtypes
import numpy as np
import pytest
from common import same_bits
from safetensors.numpy import load_file, save_file

import fastembed as fe
from fastembed import checkpoint, cli
from fastembed.checkpoint import CheckpointError
from fastembed.io.formats import safetensors_file, tensor_file

pytestmark = pytest.mark.on_reference


def write_raw(path, entries, data, metadata=None):
    """A safetensors file with a header of one's own."""
    header = ({"__metadata__": metadata} if metadata is not None else {}) | entries
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


FLOATS = {
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E8M0": ml_dtypes.float8_e8m0fnu,
    "BF16": ml_dtypes.bfloat16,
}


@pytest.mark.parametrize("dtype", FLOATS)
def test_small_floats_become_arrays_of_ml_dtypes(tmp_path, dtype, capsys):
    values = np.array([[1, 2], [4, 0.5]]).astype(FLOATS[dtype])
    entries = {
        "q": {"dtype": dtype, "shape": [2, 2], "data_offsets": [8, 8 + values.nbytes]},
        "w": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]},
    }
    path = write_raw(tmp_path / "c", entries, np.array([3, 4], "f4").tobytes() + values.tobytes())
    tensors, _ = checkpoint.load(path)
    assert same_bits(tensors["q"].view(np.uint8), values.view(np.uint8))
    assert tensors["q"].dtype == FLOATS[dtype]
    assert tensors["w"].tolist() == [[3, 4]]
    checkpoint.save(tmp_path / "again", tensors)
    assert checkpoint.load(tmp_path / "again")[0]["q"].dtype == FLOATS[dtype]
    with fe.Embedding.open(path, name="w") as layer:
        assert layer.weight.tolist() == [[3, 4]]
    script = f"import sys; sys.modules['ml_dtypes'] = None; from fastembed import cli, checkpoint; path = {str(path)!r}\n"
    info = subprocess.run(
        [sys.executable, "-c", script + "sys.exit(cli.main(['info', path]))"], capture_output=True, text=True, check=True
    )
    assert f"q: shape (2, 2), {dtype}" in info.stdout
    assert "w: 1 x 2 float32" in info.stdout
    load = subprocess.run([sys.executable, "-c", script + "checkpoint.load(path)"], capture_output=True, text=True, check=False)
    assert f"ImportError: {np.dtype(FLOATS[dtype]).name} needs ml_dtypes: pip install" in load.stderr
    assert cli.main(["info", str(path)]) == 0
    assert "q: " in capsys.readouterr().out


@pytest.mark.parametrize(("dtype", "n_bytes"), [("F4", 2), ("F6_E2M3", 3), ("F6_E3M2", 3), ("Q7", 9)])
def test_a_dtype_that_numpy_lacks_is_named(tmp_path, dtype, n_bytes):
    entries = {
        "q": {"dtype": dtype, "shape": [4], "data_offsets": [0, n_bytes]},
        "w": {"dtype": "F32", "shape": [1, 1], "data_offsets": [n_bytes, n_bytes + 4]},
    }
    path = write_raw(tmp_path / "c", entries, bytes(n_bytes + 4))
    with pytest.warns(UserWarning, match=rf"left out, for NumPy has no such dtype: q \({dtype}\)"):
        tensors, _ = checkpoint.load(path)
    assert tensors.keys() == {"w"}
    found, _ = checkpoint.statistics(path)
    assert found["q"] == f"shape (4,), {dtype}"
    with fe.Embedding.open(path) as layer:
        assert layer.weight.shape == (1, 1)
    state = write_raw(path, entries, bytes(n_bytes + 4), {"fastembed": '{"state": {"q": null}}'})
    with pytest.raises(CheckpointError, match=f"tensor 'q' has the unsupported dtype '{dtype}'"):
        checkpoint.load_state(state)


def test_both_programs_read_the_file_of_the_other(tmp_path):
    rng = np.random.default_rng(0)
    tensors = {f"{dtype}.é": rng.integers(0, 2, (3, 2)).astype(dtype) for dtype in "?bBhHiIqQefd"}
    tensors |= {"complex": np.ones(2, "c8"), "scalar": np.array(1.5), "empty": np.zeros((0, 4))}
    checkpoint.save(tmp_path / "ours", {name: array.astype(array.dtype.newbyteorder(">")) for name, array in tensors.items()})
    save_file(tensors, tmp_path / "theirs")
    ours, theirs, both = (
        load_file(tmp_path / "ours"),
        checkpoint.load(tmp_path / "theirs")[0],
        checkpoint.load(tmp_path / "ours")[0],
    )
    for name, array in tensors.items():
        for found in (ours[name], theirs[name], both[name]):
            assert (found.dtype, found.shape, found.tobytes()) == (array.dtype, array.shape, array.tobytes())
        assert both[name].flags.aligned


def test_metadata_of_others(tmp_path):
    for metadata in ({"fastembed": "a text that is no JSON"}, {"format": "pt"}, None):
        save_file({"w": np.ones((2, 2))}, tmp_path / "c", metadata=metadata)
        tensors, description = checkpoint.load(tmp_path / "c")
        assert description is None
        assert tensors["w"].sum() == 4
    write_raw(tmp_path / "c", {"w": {"dtype": "F64", "shape": [0], "data_offsets": [0, 0]}}, b"", {"fastembed": 3})
    with pytest.raises(CheckpointError, match=r"__metadata__ of its header must be texts by name, got \{'fastembed': 3\}"):
        checkpoint.load(tmp_path / "c")


def test_other_formats_are_named(tmp_path):
    with open(tmp_path / "npz", "wb") as file:
        np.savez(file, a=np.ones(2))
    np.save(tmp_path / "a.npy", np.ones(2))
    with zipfile.ZipFile(tmp_path / "torch", "w") as file:
        file.writestr("archive/data.pkl", b"")
    with zipfile.ZipFile(tmp_path / "zip", "w") as file:
        file.writestr("x", b"")
    (tmp_path / "pickle").write_bytes(pickle.dumps({"a": 1}))
    old_torch = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)
    (tmp_path / "old torch").write_bytes(old_torch)
    for name, content in (
        ("empty", b""),
        ("glove", b"the 0.418 0.24968 -0.41242\nof 1 2 3\n"),
        ("word2vec", b"2 3\nthe \x00\x01\x02"),
        ("text", "Grüße\n".encode()),
        ("hdf5", b"\x89HDF\r\n\x1a\n"),
        ("gguf", b"GGUF\3\0\0\0"),
        ("gzip", b"\x1f\x8b\x08\x00"),
        ("bz2", bz2.compress(b"the 0.4 0.2\n")),
        ("xz", lzma.compress(b"the 0.4 0.2\n")),
        ("zstd", b"\x28\xb5\x2f\xfd\x24\x0c"),
    ):
        (tmp_path / name).write_bytes(content)
    for name, text in (
        ("npz", "a .npz archive"),
        ("torch", "a PyTorch file"),
        ("zip", "a zip archive: unpack it first"),
        ("pickle", "a pickle, which can run any code"),
        ("old torch", "a PyTorch file of an old version"),
        ("empty", "it is empty"),
        ("glove", "as those of GloVe"),
        ("word2vec", "in the format of word2vec"),
        ("text", "it is text"),
        ("hdf5", "an HDF5 file"),
        ("gguf", "a GGUF file"),
        ("gzip", "compressed by gzip"),
        ("bz2", "compressed by bzip2: decompress it first"),
        ("xz", "compressed by xz"),
        ("zstd", "compressed by zstd"),
    ):
        readers = (checkpoint.load, checkpoint.load_state, checkpoint.statistics, fe.Embedding.open, fe.open_shards, fe.DiskTable)
        for read in readers[: 4 if name == "gguf" else None]:
            with pytest.raises(CheckpointError, match=f"{name} .*{text}"):
                read(tmp_path / name)
    for read in (checkpoint.load, checkpoint.load_state, checkpoint.statistics):
        with pytest.raises(CheckpointError, match=r"a \.npy array, which numpy\.load reads"):
            read(tmp_path / "a.npy")


MASKED = np.ma.array([1.0, 2.0], mask=[False, True])


@pytest.mark.parametrize(
    "value",
    [
        None,
        "text",
        ["text"],
        object(),
        np.array([None]),
        np.longdouble(3),
        np.datetime64(0, "s"),
        2**70,
        MASKED,
        [MASKED],
        np.ma.masked,
    ],
    ids=str,
)
def test_values_that_are_no_tensors(tmp_path, value):
    checkpoint.save(tmp_path / "c", {"a": 1.5}, "old")
    with pytest.raises(TypeError, match="tensor 'a' must"):
        checkpoint.save(tmp_path / "c", {"a": value}, "new")
    if isinstance(value, np.ndarray):
        with pytest.raises(TypeError, match=r"tensor 'x\.0' must"):
            checkpoint.save_state(tmp_path / "c", {"x": [value]})
    assert checkpoint.load(tmp_path / "c")[1] == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["c"]
    for tensors in (None, "text", [1.0], 3):
        with pytest.raises(TypeError, match="tensors must be a mapping of names to arrays, got"):
            checkpoint.save(tmp_path / "c", tensors)


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        ({"dtype": 3}, "dtype of tensor 'w' must be a name, got 3"),
        ({"shape": [True, 2]}, r"shape of tensor 'w' must be a list of lengths, got \[True, 2\]"),
        ({"shape": None}, "shape of tensor 'w' must be"),
        ({"data_offsets": [8, 0]}, "data_offsets of tensor 'w' must be"),
        ({"shape": [0, 2**62], "data_offsets": [0, 0]}, f"shape of tensor 'w' must be of at most {2**63 - 1} bytes"),
        ({"shape": [2**40, 2**40]}, "shape of tensor 'w' must be of at most"),
    ],
)
def test_the_field_that_is_wrong_is_named(tmp_path, entry, field):
    path = write_raw(tmp_path / "c", {"w": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]} | entry}, bytes(8))
    for read in (checkpoint.load, checkpoint.statistics, fe.Embedding.open):
        with pytest.raises(CheckpointError, match=field):
            read(path)


def test_a_table_that_no_process_can_map(tmp_path):
    """Such a file may be small: without columns, any number of rows takes no space."""
    path = write_raw(tmp_path / "c", {"w": {"dtype": "F32", "shape": [2**46, 0], "data_offsets": [0, 0]}}, b"")
    with pytest.raises(CheckpointError, match=f"shape of tensor 'w' must be of at most {2**47} bytes"):
        fe.Embedding.open(path)
    assert checkpoint.load(path)[0]["w"].shape == (2**46, 0)
    assert checkpoint.statistics(path)[0]["w"].rows == 2**46


@pytest.mark.parametrize("shape", ["(True, 2)", "(2, False)", "(0, 2**62)", "(4611686018427387904, 0)", "(-1, 2)", "(1.0, 2)"])
def test_shapes_of_npy_files(tmp_path, shape):
    shape = shape.replace("2**62", str(2**62))
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}".encode().ljust(117) + b"\n"
    path = tmp_path / "t.npy"
    path.write_bytes(b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + bytes(8))
    with pytest.raises(CheckpointError, match="shape"):
        fe.Embedding.open(path)


def test_messages_are_bounded(tmp_path):
    long = "n" * 5_000_000
    path = tmp_path / "c"
    entry = {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}
    errors = []

    def error_of(use):
        with pytest.raises((ValueError, TypeError)) as caught:
            use()
        errors.append(str(caught.value))

    error_of(lambda: checkpoint.save(path, {3: 1.0, long: 1}))
    error_of(lambda: checkpoint.save(path, {long: None}))
    error_of(lambda: checkpoint.save(path, {"a": long}))
    error_of(lambda: checkpoint.save(path, long))
    error_of(lambda: checkpoint.save(path, {"a": 1.0}, {"a": {long}}))
    error_of(lambda: checkpoint.save_state(path, {long: {"b": np.zeros(1)}, f"{long}.b": 1}))
    for wrong in ({**entry, "data_offsets": long}, {**entry, "shape": [long]}, entry, long):
        write_raw(path, {long: wrong, "b": entry}, bytes(8))
        error_of(lambda: checkpoint.load(path))
        error_of(lambda: fe.Embedding.open(path))
    write_raw(path, {long: entry, f"{long}2": {**entry, "data_offsets": [8, 16]}}, bytes(16))
    error_of(lambda: fe.Embedding.open(path))
    error_of(lambda: fe.Embedding.open(path, name=f"{long}3"))
    tensors = {f"{long[:1000]}{k}": np.zeros(1) for k in range(1000)}
    write_raw(path, {long: {**entry, "dtype": long}}, bytes(8))
    with pytest.warns(UserWarning, match="left out") as warned:
        checkpoint.load(path)
    errors.append(str(warned[0].message))
    error_of(lambda: checkpoint.check("f", tensors, {"a": (1,)}, np.dtype("f8")))
    error_of(lambda: checkpoint.check("f", {}, dict.fromkeys(tensors, (1,)), np.dtype("f8")))
    assert max(map(len, errors)) < 1000


def test_no_memory_is_no_damage(tmp_path, monkeypatch):
    checkpoint.save(tmp_path / "c", {"w": np.ones((2, 2))})
    np.save(tmp_path / "t.npy", np.ones((2, 2)))

    def no_memory(*_):
        raise MemoryError

    for module, name in ((safetensors_file, "_checked_entry"), (tensor_file, "_find_npy")):
        monkeypatch.setattr(module, name, no_memory)
    for read in (checkpoint.load, checkpoint.load_state, checkpoint.statistics, fe.Embedding.open):
        with pytest.raises(MemoryError):
            read(tmp_path / "c")
    with pytest.raises(MemoryError):
        fe.Embedding.open(tmp_path / "t.npy")
