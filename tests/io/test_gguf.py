"""GGUF files: metadata, tensors, split files; a changed byte, length or place is one error."""

import struct

import numpy as np
import pytest
from common import outcome
from gguf_files import header, padded, string

import fastembed as fe
from fastembed.checkpoint import CheckpointError

KEYS = (
    ("general.architecture", 8, string("engram")),
    ("a.uint8", 0, b"\xff"), ("a.int8", 1, b"\xff"), ("a.float32", 6, struct.pack("<f", 0.5)), ("a.bool", 7, b"\x01"),
    ("a.uint64", 10, b"\xff" * 8), ("a.float64", 12, struct.pack("<d", 0.25)),
    ("numbers", 9, struct.pack("<IQ3i", 5, 3, 1, -2, 3)),
    ("flags", 9, struct.pack("<IQ2B", 7, 2, 0, 1)),
    ("names", 9, struct.pack("<IQ", 8, 2) + string("x") + string("é")),
    ("nested", 9, struct.pack("<IQ", 9, 2) + struct.pack("<IQ2B", 0, 2, 1, 2) + struct.pack("<IQ", 8, 0)),
)  # fmt: skip
FLOATS = np.arange(12, dtype="<f4").reshape(3, 4)
BLOCKS = np.random.default_rng(0).integers(0, 256, (3, 34), np.uint8)
HALVES = np.arange(6, dtype="<f2").reshape(2, 3)


def small_file(keys=KEYS):
    tensors = (("floats", (4, 3), 0, 0), ("blocks", (32, 3), 8, 64), ("halves", (3, 2), 1, 192))
    data = padded(FLOATS.tobytes(), multiple=64) + padded(BLOCKS.tobytes(), multiple=64) + padded(HALVES.tobytes())
    return padded(header(keys, tensors), data)


def test_metadata_and_tensors(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(small_file())
    file = fe.open_gguf(path)
    assert dict(file.metadata) == {
        "general.architecture": "engram", "a.uint8": 255, "a.int8": -1, "a.float32": 0.5, "a.bool": True,
        "a.uint64": 2**64 - 1, "a.float64": 0.25, "numbers": [1, -2, 3], "flags": [False, True], "names": ["x", "é"],
        "nested": [[1, 2], []],
    }  # fmt: skip
    assert {name: tensor[:2] for name, tensor in file.tensors.items()} == {
        "floats": ("float32", (3, 4)), "blocks": ("q8_0", (3, 32)), "halves": ("float16", (2, 3)),
    }  # fmt: skip
    assert np.array_equal(file.array("floats"), FLOATS)
    assert np.array_equal(file.array("blocks"), BLOCKS)
    assert not file.array("blocks").flags.writeable
    assert fe.gather(file.array("floats"), [2]).tolist() == [[8.0, 9.0, 10.0, 11.0]]
    with np.errstate(all="ignore"):
        expected = fe.PackedTable(BLOCKS, 32, format="q8_0")([2, 0])
        assert np.array_equal(fe.PackedTable.from_gguf(file, "blocks")([2, 0]), expected, equal_nan=True)
    assert fe.PackedTable.from_gguf(path, "halves", dtype="float16")(1).tolist() == [3.0, 4.0, 5.0]
    assert repr(file) == "GGUFFile(3 tensors, 11 keys, 1 files)"
    with pytest.raises(KeyError, match=r"no tensor 'other', but there is blocks, floats, halves"):
        file.array("other")
    with pytest.raises(TypeError, match="tensor 'floats' is of float32, and a table must be one of"):
        fe.PackedTable.from_gguf(file, "floats")


def test_the_gguf_package_reads_and_writes_the_same(tmp_path):
    gguf = pytest.importorskip("gguf")
    path = tmp_path / "theirs.gguf"
    writer = gguf.GGUFWriter(path, "engram")
    writer.add_uint32("engram.heads", 8)
    writer.add_array("tokens", ["a", "bc"])
    table = np.random.default_rng(1).standard_normal((5, 256)).astype("f4")
    for kind in ("Q8_0", "Q4_0"):
        found = gguf.GGMLQuantizationType[kind]
        writer.add_tensor(kind, gguf.quants.quantize(table, found), raw_dtype=found)
    writer.add_tensor("floats", table)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = fe.open_gguf(path)
    assert (file.metadata["engram.heads"], file.metadata["tokens"]) == (8, ["a", "bc"])
    assert np.array_equal(file.array("floats"), table)
    for tensor in gguf.GGUFReader(path).tensors[:2]:
        expected = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        assert np.array_equal(fe.PackedTable.from_gguf(file, tensor.name).dequantize(), expected)


def test_every_changed_byte_of_the_header_is_an_error_or_a_whole_file(tmp_path):
    """The format has no checksum: what opens must still have all its tensors within the file."""
    path, good = tmp_path / "model.gguf", small_file()
    n_header, n_refused = len(good) - 224, 0
    for at in range(n_header):
        for bits in (0x01, 0x80, 0xFF):
            path.write_bytes(good[:at] + bytes([good[at] ^ bits]) + good[at + 1 :])
            kind, *got = outcome(fe.open_gguf, path)
            if kind == "raised":
                assert got[0] is CheckpointError
                assert got[1].startswith(f"{path} is not a GGUF file, or is damaged: ")
                n_refused += 1
            else:
                assert all(tensor.start + tensor.size <= len(good) for tensor in got[0].tensors.values())
    assert n_refused > n_header  # a third of all changes at least: magic, counts, lengths, types, places


def test_every_truncation_is_an_error(tmp_path):
    path, good = tmp_path / "model.gguf", small_file()
    for size in range(len(good) - 20):  # the last tensor is followed by 20 bytes of padding
        path.write_bytes(good[:size])
        with pytest.raises(CheckpointError, match="is not a GGUF file, or is damaged"):
            fe.open_gguf(path)


HUGE = 2**64 - 1


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"GGML" + bytes(20), "it does not begin with GGUF"),
        (header(version=1), "its version is 1, and only 2 and 3, little-endian, are read"),
        (header(n_tensors=HUGE), f"{HUGE} tensors follow, more than it has bytes for"),
        (header([("k", 8, struct.pack("<Q", HUGE))]), f"says that {HUGE} bytes follow"),
        (header([("k", 9, struct.pack("<IQ", 12, HUGE))]), f"{HUGE} numbers follow, more than it has bytes for"),
        (header([("k", 9, struct.pack("<IQ", 8, 2**40))]), "1099511627776 values follow, more than it has bytes for"),
        (header([("k", 9, struct.pack("<IQ", 9, 1) * 6 + bytes(12))]), "arrays are nested too deeply"),
        (header([("k", 99, b"")]), "a value of the unknown type 99"),
        (header([("k", 7, b"\x02")]), "a boolean that is neither 0 nor 1"),
        (header([("k", 0, b"\x02")] * 2), "key 'k' occurs twice"),
        (header([("general.alignment", 4, struct.pack("<I", 0))]), "general.alignment must be a multiple of 8"),
        (header([("general.alignment", 8, string("32"))]), "general.alignment must be a multiple of 8"),
        (padded(header((), [("t", (4,), 0, 0)] * 2), bytes(32)), "tensor 't' occurs twice"),
        (padded(header((), [("t", (4,), 0, 8)]), bytes(32)), "tensor 't' begins at 8, which is no multiple of 32"),
        (padded(header((), [("t", (4,) * 5, 0, 0)]), bytes(32)), "tensor 't' has 5 axes, more than 4"),
        (padded(header((), [("t", (33, 2), 8, 0)]), bytes(96)), "rows of 33 elements, no multiple of 32"),
        (padded(header((), [("t", (HUGE, HUGE), 0, 0)]), bytes(32)), "tensor 't' ends at byte"),
        (padded(header((), [("t", (4,), 0, 0), ("u", (4,), 0, 0)]), bytes(32)), "tensors 't' and 'u' overlap"),
        (padded(header((), [("t", (4,), 0, 0), ("u", (4,), 0, 64)]), bytes(96)), "nothing lies from byte"),
        (padded(header((), [("t", (4,), 0, 0)]), bytes(96)), "its tensors end at byte"),
        (b"", "it is empty"),
    ],
)
def test_what_is_refused(tmp_path, content, text):
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"model.gguf is not a GGUF file, or is damaged: .*{text}"):
        fe.open_gguf(path)


def test_types_that_are_not_read_are_listed(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(padded(header((), [("iq", (256, 2), 16, 0), ("t", (4,), 0, 160)]), bytes(192)))
    file = fe.open_gguf(path)
    assert file.tensors["iq"].format == "type 16"
    with pytest.raises(TypeError, match="tensor 'iq' is of type 16, which is not read"):
        file.array("iq")
    with pytest.raises(OSError, match="is not a regular file"):
        fe.open_gguf(tmp_path)
    with pytest.raises(FileNotFoundError):
        fe.open_gguf(tmp_path / "none.gguf")


def test_split_files(tmp_path):
    def part(k, n, name):
        keys = [("split.no", 2, struct.pack("<H", k)), ("split.count", 2, struct.pack("<H", n))]
        keys += [("k", 4, struct.pack("<I", 5))] if k == 0 else []
        return padded(header(keys, [(name, (4, 1), 0, 0)]), np.full(8, k, "f4").tobytes()[:32])

    paths = [tmp_path / f"m-0000{k + 1}-of-00002.gguf" for k in range(2)]
    for k, path in enumerate(paths):
        path.write_bytes(part(k, 2, f"t{k}"))
    for path in paths:
        file = fe.open_gguf(path)
        assert (list(file.tensors), file.metadata["k"]) == (["t0", "t1"], 5)
        assert [file.array(f"t{k}").tolist() for k in range(2)] == [[[0.0] * 4], [[1.0] * 4]]
    for content, text in (
        (part(0, 2, "t1"), "00002-of-00002.gguf says that it is part 0 of 2, counted from 0"),
        (part(1, 3, "t1"), "00002-of-00002.gguf says that it is part 1 of 3"),
        (part(1, 2, "t0"), "has tensor 't0' of another part"),
        (padded(header((), [("t1", (4, 1), 0, 0)]), bytes(32)), "says that it is part None of None"),
    ):
        paths[1].write_bytes(content)
        with pytest.raises(CheckpointError, match=text):
            fe.open_gguf(paths[0])
    paths[1].unlink()
    with pytest.raises(CheckpointError, match=r"m-00002-of-00002.gguf is missing: m-00001-of-00002.gguf is one of 2 parts"):
        fe.open_gguf(paths[0])
    with pytest.raises(CheckpointError, match="has the number 3 of 2 parts in its name"):
        fe.open_gguf(tmp_path / "m-00003-of-00002.gguf")
