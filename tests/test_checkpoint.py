"""Saves that are whole or not there; loads that trust nothing."""

import json
import os
import resource
import signal
import struct
import subprocess
import sys

import numpy as np
import pytest
from common import relaid, same_bits

from fastembed import checkpoint
from fastembed.checkpoint import CheckpointError
from fastembed.training import Options, Run, load_model


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


def test_a_kill_during_a_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, {"a": np.zeros(2_000_000)}, "old")
    script = (
        "import sys, numpy as np; from fastembed import checkpoint\n"
        "print('ready', flush=True)\n"
        "while True: checkpoint.save(sys.argv[1], {'a': np.ones(2_000_000)}, 'new')"
    )
    seen = set()
    for k in range(12):
        process = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"ready\n"
        try:
            process.wait(0.005 * (k + 1))
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
    mine, dead = tmp_path / f".c.{os.getppid()}.ab.tmp", tmp_path / ".c.999999999.ab.tmp"
    other = tmp_path / ".c.notes.tmp"
    for folder in (mine, dead, other):
        folder.mkdir()
    checkpoint.save(tmp_path / "c", {"a": np.zeros(1)})
    assert sorted(os.listdir(tmp_path)) == sorted([mine.name, other.name, "c"])


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


def test_checked_names_shapes_and_dtypes():
    expected = {"a": np.zeros((2, 3)), "b": np.zeros(2, "f4")}
    assert checkpoint.checked(expected, expected).keys() == {"a", "b"}
    for text, tensors in (
        (r"lacks \['b'\]", {"a": expected["a"]}),
        (r"unexpected \['c'\]", {**expected, "c": np.zeros(1)}),
        (r"a must be float64 of shape \(2, 3\), got float64 of shape \(3, 2\)", {**expected, "a": np.zeros((3, 2))}),
        ("b must be float32", {**expected, "b": np.zeros(2)}),
    ):
        with pytest.raises(CheckpointError, match=text):
            checkpoint.checked(tensors, expected)


def test_descriptions_that_lie(tmp_path):
    """Sizes, names and state in the description are compared with the tensors before anything is made of them."""
    path = str(tmp_path / "c.safetensors")
    run = Run(Options(steps=5, block_size=4, n_embd=4, n_head=2))
    list(run.train(3))
    run.save(path)
    tensors, good = checkpoint.load(path)
    model, tokenizer, _ = load_model(path)
    assert same_bits(model.emb.wte, run.model.emb.wte)
    assert tokenizer.characters == run.tokenizer.characters

    def with_options(**changes):
        return {**good, "options": {**good["options"], **changes}}

    lies = [None, 5, [], {}, with_options(block_size=2**40), with_options(n_embd=8), with_options(n_layer=10**9)]
    lies += [with_options(n_layer=2), with_options(dtype="float32"), with_options(dtype="int8"), with_options(n_head=3)]
    lies += [with_options(steps="many"), {**good, "step": 6}, {**good, "step": -1}, {**good, "characters": ["a"]}]
    lies += [{**good, "characters": good["characters"][::-1]}, {**good, "rng": [3, [1, 2], None]}, {**good, "rng": None}]
    for lie in lies:
        checkpoint.save(path, tensors, lie)
        with pytest.raises((ValueError, TypeError)):
            Run.resume(path)
    checkpoint.save(path, {**tensors, "wte": tensors["wte"][:-1]}, good)
    with pytest.raises(CheckpointError):
        load_model(path)
    checkpoint.save(path, tensors, {**good, "data_sha256": "0"})
    with pytest.raises(CheckpointError, match="is not the one"):
        Run.resume(path)
