"""Saves that are whole or not there; loads that trust nothing."""

import json
import os
import resource
import signal
import struct
import subprocess
import sys
import time
import zlib

import ml_dtypes
import numpy as np
import pytest
from common import relaid, same_bits

import fastembed as fe
from fastembed import checkpoint
from fastembed.checkpoint import CheckpointError
from fastembed.io import atomic


def test_tensors_and_description_come_back(tmp_path):
    rng = np.random.default_rng(0)
    tensors = {"a": rng.standard_normal((3, 4)), "b.c": rng.standard_normal((2, 0)).astype("f4"), "n": np.arange(3)}
    awkward = {
        name: relaid(array, layout)
        for (name, array), layout in zip(tensors.items(), ("strided", "plain", "reversed"), strict=True)
    }
    path = tmp_path / "c[1].safetensors"
    checkpoint.save(path, awkward, {"x": [1, 2.5, "y"]})
    loaded, description = checkpoint.load(path)
    assert description == {"x": [1, 2.5, "y"]}
    assert loaded.keys() == tensors.keys()
    assert all(loaded[name].tobytes() == array.tobytes() and loaded[name].shape == array.shape for name, array in tensors.items())
    assert os.listdir(tmp_path) == ["c[1].safetensors"]
    (tmp_path / "new").touch()
    assert path.stat().st_mode == (tmp_path / "new").stat().st_mode


@pytest.mark.uninstrumented
def test_a_kill_during_a_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "c.safetensors"
    begun = time.perf_counter()
    checkpoint.save(path, {"a": np.zeros(2_000_000)}, "old")
    took = time.perf_counter() - begun
    script = (
        "import sys, numpy as np; from fastembed import checkpoint\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    checkpoint.save(sys.argv[1], {'a': np.ones(2_000_000)}, 'new')\n"
        "    print('saved', flush=True)"
    )
    seen = set()
    for delay in [*(took * n / 4 for n in range(1, 12)), None]:
        process = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"ready\n"
        if delay is None:  # the last kill comes after a save
            assert process.stdout.readline() == b"saved\n"
        try:
            process.wait(delay or 0)
        except subprocess.TimeoutExpired:
            process.kill()
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
        loaded, description = checkpoint.load(path)
        assert loaded["a"].tolist().count({"old": 0.0, "new": 1.0}[description]) == 2_000_000
        seen.add(description)
    checkpoint.save(path, {"a": np.zeros(1)})
    assert os.listdir(tmp_path) == ["c.safetensors"]
    assert "new" in seen


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, {"a": np.zeros(10)}, "old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"c\.safetensors"):
            checkpoint.save(path, {"a": np.zeros(100_000)}, "new")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert checkpoint.load(path)[1] == "old"
    assert os.listdir(tmp_path) == ["c.safetensors"]


def test_a_living_process_keeps_its_temporary_folder(tmp_path):
    mine, dead = (tmp_path / f"{atomic._PREFIX}{pid}.0123abcd.tmp" for pid in (os.getppid(), 999_999_999))
    others = [tmp_path / f"{atomic._PREFIX}{name}.tmp" for name in ("notes", "999999999", "².0123abcd", f"{10**20}.0123abcd")]
    others.append(tmp_path / ".fastembed.00000000.999999999.0123abcd.tmp")  # of another machine
    for folder in (mine, dead, *others):
        folder.mkdir()
    checkpoint.save(tmp_path / "c", {"a": np.zeros(1)})
    assert sorted(os.listdir(tmp_path)) == sorted([mine.name, "c", *(other.name for other in others)])


def test_damaged_files_are_errors(tmp_path):
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, {"a": np.arange(6.0)}, {"k": 1})
    whole = path.read_bytes()
    damaged = [whole[:n] for n in (0, 4, 8, 20, len(whole) - 1)]
    damaged += [b"\xff" * 100, struct.pack("<Q", 2**60) + whole[8:], b"not a checkpoint", whole.replace(b'"F64"', b'"F99"')]
    damaged += [whole.replace(b"[6]", b"[7]"), whole + b"more"]
    header = {"a": {"dtype": "F64", "shape": [2**62], "data_offsets": [0, 48]}}
    encoded = json.dumps(header).encode()
    damaged.append(struct.pack("<Q", len(encoded)) + encoded + bytes(48))
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"c\.safetensors is not a safetensors file, or is damaged"):
            checkpoint.load(path)
    with pytest.raises(FileNotFoundError):
        checkpoint.load(tmp_path / "none")
    with pytest.raises(OSError, match="directory"):
        checkpoint.load(tmp_path)


@pytest.mark.on_reference
def test_a_folder_is_no_checkpoint(tmp_path):
    with pytest.raises(OSError, match=tmp_path.name):
        checkpoint.load(tmp_path)
    with pytest.raises(OSError, match="is not a regular file"):
        checkpoint.load("/dev/null")


@pytest.mark.on_reference
def test_checkpoints_hold_bfloat16(tmp_path):
    table = np.arange(6).reshape(2, 3).astype(ml_dtypes.bfloat16)
    checkpoint.save(tmp_path / "half.safetensors", {"weight": table})
    script = (
        f"from fastembed import checkpoint; print(checkpoint.load({str(tmp_path / 'half.safetensors')!r})[0]['weight'].dtype)"
    )
    for found, expected in (("", "bfloat16"), ("import sys; sys.modules['ml_dtypes'] = None; ", "bfloat16 needs ml_dtypes")):
        run = subprocess.run([sys.executable, "-c", found + script], capture_output=True, text=True, check=False)
        assert expected in run.stdout + run.stderr


def test_nested_states_come_back(tmp_path):
    path, array = tmp_path / "s", np.arange(6.0).reshape(2, 3)
    state = {
        "a": {"b": array, "none": None, "n": np.int32(3), "x": 0.1},
        "of": [{"w": array[0], "text": "t"}, {}],
        "betas": (0.9, 0.99),
    }
    checkpoint.save_state(path, state)
    loaded = checkpoint.load_state(path)
    assert same_bits(loaded["a"].pop("b"), array)
    assert same_bits(loaded["of"][0].pop("w"), array[0])
    assert loaded == {"a": {"none": None, "n": 3, "x": 0.1}, "of": [{"text": "t"}, {}], "betas": [0.9, 0.99]}
    assert sorted(checkpoint.load(path)[0]) == ["a.b", "of.0.w"]
    for error, text, bad in (
        (ValueError, r"a\.b is there twice", {"a": {"b": array}, "a.b": 1}),
        (ValueError, "cannot be called 3", {3: array}),
        (ValueError, "a must be an array or a JSON value, got <object", {"a": object()}),
        (
            ValueError,
            r"a\.0 must be an array or a JSON value, got Embedding\(.*: give its state_dict",
            {"a": [fe.Embedding(1, 1)]},
        ),
    ):
        with pytest.raises(error, match=text):
            checkpoint.save_state(path, bad)
    assert sorted(checkpoint.load(path)[0]) == ["a.b", "of.0.w"]
    for description in (None, [], {"stat": 1}):
        checkpoint.save(path, {"a": array}, description)
        with pytest.raises(CheckpointError, match=r"^\S+: save_state did not write it; checkpoint\.load reads it"):
            checkpoint.load_state(path)


def test_a_state_within_itself_is_refused(tmp_path):
    state = {"a": np.arange(3)}
    state["b"] = [state]
    with pytest.raises(ValueError, match="nested too deeply"):
        checkpoint.save_state(tmp_path / "state.safetensors", state)
    assert not list(tmp_path.iterdir())


def test_names_shapes_and_dtypes_are_checked():
    expected, good = {"a": (2, 3), "b": (2,)}, {"a": np.zeros((2, 3)), "b": np.zeros(2)}
    checkpoint.check("f", good, expected, np.dtype("f8"))
    for text, tensors in (
        ("f lacks b and has nothing that is not expected", {"a": good["a"]}),
        ("f lacks nothing and has c, d, e and 1 more that", {**good, **dict.fromkeys("cdef", np.zeros(1))}),
        (r"a of f must be float64 of shape \(2, 3\), got float64 of shape \(3, 2\)", {**good, "a": np.zeros((3, 2))}),
        ("b of f must be float64 of shape .* got float32", {**good, "b": np.zeros(2, "f4")}),
    ):
        with pytest.raises(CheckpointError, match=text):
            checkpoint.check("f", tensors, expected, np.dtype("f8"))


def test_what_cannot_be_written_is_refused_before_anything_is(tmp_path):
    path = tmp_path / "m"
    checkpoint.save(path, {"a": np.float64(3)}, "old")
    assert checkpoint.load(path)[0]["a"].shape == ()
    endless: list = []
    endless.append(endless)
    for error, tensors, description in (
        (ValueError, {"__metadata__": np.zeros(1)}, None),
        (ValueError, {1: np.zeros(1)}, None),
        (ValueError, {"a": np.zeros(1)}, {"x": object()}),
        (ValueError, {"a": np.zeros(1)}, endless),
    ):
        with pytest.raises(error):
            checkpoint.save(path, tensors, description)
    os.mkfifo(tmp_path / "fifo")
    for bad, text in (
        (tmp_path, "not a regular file"),
        (tmp_path / "fifo", "not a regular file"),
        ("", "empty"),
        ("/dev/null", "not"),
    ):
        with pytest.raises(OSError, match=text):
            checkpoint.save(bad, {"a": np.zeros(1)})
    with pytest.raises(OSError, match="no folder"):
        checkpoint.save(tmp_path / "no" / "where", {"a": np.zeros(1)})
    assert checkpoint.load(path)[1] == "old"
    assert sorted(os.listdir(tmp_path)) == ["fifo", "m"]


def test_links_and_modes_stay(tmp_path):
    path, link = tmp_path / ("n" * 240), tmp_path / "link"
    checkpoint.save(path, {"a": np.zeros(1)})
    path.chmod(0o600)
    link.symlink_to(path)
    checkpoint.save(link, {"a": np.ones(1)})
    assert link.is_symlink()
    assert checkpoint.load(path)[0]["a"] == 1
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("value", ["0123abcG", "0123ABCD", "Outdated", "0123456", ""])
def test_a_checksum_that_is_no_number_is_refused(tmp_path, value):
    path = tmp_path / "c"
    header = json.dumps({"__metadata__": {"fastembed_crc32": value}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    text = f"its fastembed_crc32 must be 8 hexadecimal digits or outdated, got {value!r}"
    for read in (checkpoint.load, checkpoint.contents, checkpoint.statistics):
        with pytest.raises(CheckpointError, match=text):
            read(path)


def test_a_checksum_is_compared_however_the_header_is_written(tmp_path):
    path = tmp_path / "c"
    for before, after in ((" ", ""), ("", "  "), ("\n", "\t")):
        header = f'{{"__metadata__":{{"fastembed_crc32"{before}:{after}"00000000"}}}}'.encode()
        whole = len(header).to_bytes(8, "little") + header
        path.write_bytes(whole)
        with pytest.raises(CheckpointError, match="its checksum is wrong"):
            checkpoint.load(path)
        path.write_bytes(whole.replace(b'"00000000"', f'"{zlib.crc32(whole):08x}"'.encode()))
        assert checkpoint.load(path) == ({}, None)
