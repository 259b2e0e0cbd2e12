"""Sharded safetensors: tensors of several files, mapped; a damaged index or file is one error."""

import itertools
import json

import ml_dtypes
import numpy as np
import pytest
from common import outcome

import fastembed as fe
from fastembed import checkpoint
from fastembed.checkpoint import CheckpointError

RNG = np.random.default_rng(0)
ROWS = RNG.integers(0, 256, (6, 64), np.uint8).view(ml_dtypes.float8_e4m3fn)
SCALES = RNG.integers(100, 140, (6, 2), np.uint8).view(ml_dtypes.float8_e8m0fnu)
PLACES = {"rows.0": "model-1.safetensors", "scales": "model-1.safetensors", "rows.1": "model-2.safetensors"}


@pytest.fixture
def index(tmp_path):
    checkpoint.save(tmp_path / "model-1.safetensors", {"rows.0": ROWS[:4], "scales": SCALES, "other": np.ones(2)})
    checkpoint.save(tmp_path / "model-2.safetensors", {"rows.1": ROWS[4:]})
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": PLACES}))
    return path


def test_tensors_of_several_files(index):
    shards = fe.open_shards(index)
    assert (sorted(shards.tensors), repr(shards)) == (["rows.0", "rows.1", "scales"], "Shards(3 tensors, 2 files)")
    rows, scales = shards.array("rows.0"), shards.array("scales")
    assert (rows.dtype, scales.dtype, rows.flags.writeable) == (ROWS.dtype, SCALES.dtype, False)
    assert rows.tobytes() == ROWS[:4].tobytes()
    table = fe.PackedTable(rows, 64, format="float8_e4m3fn", scales=scales[:4])
    with np.errstate(all="ignore"):
        expected = ROWS[:4].astype("f4") * np.repeat(SCALES[:4].astype("f4"), 32, axis=1)
    assert np.array_equal(table([3, 0]), expected[[3, 0]], equal_nan=True)
    with pytest.raises(KeyError, match=r"no tensor 'other', but there is rows.0, rows.1, scales"):
        shards.array("other")
    alone = fe.open_shards(index.with_name("model-1.safetensors"))
    assert sorted(alone.tensors) == ["other", "rows.0", "scales"]


def test_fp8_tensors_are_saved_and_loaded(index):
    tensors, _ = checkpoint.load(index.with_name("model-1.safetensors"))
    assert (tensors["rows.0"].dtype, tensors["scales"].dtype) == (ROWS.dtype, SCALES.dtype)
    assert tensors["rows.0"].tobytes() == ROWS[:4].tobytes()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "Expecting value"),
        ("[]", "it has no weight_map of names to files"),
        ("{}", "it has no weight_map of names to files"),
        ('{"weight_map": {}}', "it has no weight_map of names to files"),
        ('{"weight_map": {"a": 1}}', "tensor 'a' must be in a .safetensors file beside it, got 1"),
        ('{"weight_map": {"a": "../x.safetensors"}}', "must be in a .safetensors file beside it"),
        ('{"weight_map": {"a": "/etc/x.safetensors"}}', "must be in a .safetensors file beside it"),
        ('{"weight_map": {"a": "x.bin"}}', "must be in a .safetensors file beside it"),
        ('{"weight_map": {"a": "x.safetensors", "a": "x.safetensors"}}', "a name occurs twice"),
        ("[" * 100_000, "recursion|Stack overflow"),
    ],
)
def test_an_index_that_is_damaged_is_refused(index, text, why):
    index.write_text(text)
    with pytest.raises(CheckpointError, match=f"is not an index of safetensors files, or is damaged: .*{why}"):
        fe.open_shards(index)


def test_every_changed_byte_of_a_header_is_an_error_or_a_whole_file(index):
    path = index.with_name("model-2.safetensors")
    good = path.read_bytes()
    n_header = 8 + int.from_bytes(good[:8], "little")
    n_refused = 0
    for at, bits in itertools.product(range(n_header), (0x01, 0x80, 0xFF)):
        path.write_bytes(good[:at] + bytes([good[at] ^ bits]) + good[at + 1 :])
        kind, *got = outcome(fe.open_shards, index)
        if kind == "raised":
            assert got[0] is CheckpointError
            assert str(path) in got[1]
            assert len(got[1].splitlines()) == 1
            n_refused += 1
        else:
            tensor = got[0].tensors["rows.1"]
            assert tensor.start + tensor.size <= len(good)
    assert n_refused > n_header
    for size in range(len(good)):
        path.write_bytes(good[:size])
        with pytest.raises(CheckpointError):
            fe.open_shards(index)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"model-2.safetensors is missing"):
        fe.open_shards(index)
    checkpoint.save(path, {"rows.2": ROWS})
    with pytest.raises(CheckpointError, match=r"model-2.safetensors lacks rows.1, which the index says it has"):
        fe.open_shards(index)


def entry(first, end, shape=(2, 4), dtype="U8"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [first, end]}


@pytest.mark.parametrize(
    ("entries", "n_bytes"),
    [
        ({"a": entry(0, 8), "b": entry(4, 12)}, 12),  # overlap
        ({"a": entry(0, 8), "b": entry(0, 8)}, 8),
        ({"a": entry(0, 8), "b": entry(9, 17)}, 17),  # a gap
        ({"a": entry(1, 9)}, 9),
        ({"a": entry(0, 8)}, 7),  # beyond the file
        ({"a": entry(0, 8)}, 9),  # bytes of no tensor
        ({"a": entry(0, 9)}, 9),  # not the bytes of the shape
        ({"a": entry(8, 0)}, 8),
        ({"a": entry(-8, 0)}, 8),
        ({"a": entry(0, 2**64)}, 8),
        ({"a": entry(0, 8, [2**63, 2**63])}, 8),
        ({"a": entry(0, 8, [-2, -4])}, 8),
        ({"a": entry(0, 8, [2.0, 4])}, 8),
        ({"a": entry(0, 8, "24")}, 8),
        ({"a": entry(0, 8, dtype=8)}, 8),
        ({"a": {"dtype": "U8", "shape": [8]}}, 8),
        ({"a": [0, 8]}, 8),
        ([], 8),
    ],
)
def test_places_and_lengths_that_contradict_the_file(tmp_path, entries, n_bytes):
    path, text = tmp_path / "one.safetensors", json.dumps(entries).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(n_bytes))
    with pytest.raises(CheckpointError, match=r"one\.safetensors is not a safetensors file, or is damaged: \w") as raised:
        fe.open_shards(path)
    assert len(str(raised.value).splitlines()) == 1
    for length in (0, len(text) - 1, len(text) + n_bytes + 1, 2**63, 2**64 - 1):
        path.write_bytes(length.to_bytes(8, "little") + text + bytes(n_bytes))
        with pytest.raises(CheckpointError, match=r"one\.safetensors is not a safetensors file, or is damaged: \w"):
            fe.open_shards(path)
