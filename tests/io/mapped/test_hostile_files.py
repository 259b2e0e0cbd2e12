"""Files that are damaged or lie: an error that says so, or a table that lies within the file."""

import io
import json
import os
import struct
import zlib

import numpy as np
import pytest
from common import examples
from hypothesis import given
from hypothesis import strategies as st
from mapped_tables import D, V, optimizer_of, train
from safetensors.numpy import save_file

import fastembed as fe
from fastembed.checkpoint import CheckpointError
from fastembed.io.atomic import beside
from fastembed.io.mapped import journal, record

pytestmark = pytest.mark.on_reference


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
        (deep, "recursion|Stack overflow|Expecting"),
        (b'{"a": 1, "a": 2}', "twice"),
        (json.dumps({f"{k}": entry for k in range(100_001)}).encode(), "no mapping of at most"),
        (json.dumps({"a": entry, "b": {**entry, "data_offsets": [8, 16], "shape": [1, 2]}}).encode(), "'a' and 'b' overlap"),
    ):
        path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(16))
        with pytest.raises(CheckpointError, match=says):
            fe.Embedding.open(path)
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


@examples(300)
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


@examples(200)
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


def test_journals_that_are_damaged_or_of_another_table(path):
    layer = fe.Embedding.create(path, (V, D), rng=1)
    whole, rows = path.read_bytes(), np.array([1, 2, 5])
    (file,) = layer.storage._files()
    part = journal.part_of(path, layer.storage._place)
    journal.write(path, [file], rows, None)
    layer.storage.close()
    written = beside(path, "journal").read_bytes()
    for content in (
        b"",
        b"x",
        written[:-1],
        written[:20],
        written + b"x",
        written[:60] + b"?" + written[61:],
        b"fe-jrnl1" + bytes(8),
    ):
        beside(path, "journal").write_bytes(content)
        for mode in ("r", "r+"):
            with pytest.raises(CheckpointError, match=r"is not a journal of table\.safetensors, or is damaged"):
                fe.Embedding.open(path, mode)
    assert path.read_bytes() == whole
    beside(path, "journal").write_bytes(written)
    path.write_bytes(whole[:-4] + bytes(28))
    for mode in ("r", "r+"):
        with pytest.raises(CheckpointError):
            fe.Embedding.open(path, mode)
    for change in (
        {"file": "other"}, {"file": "../table.safetensors"}, {"file": "table.safetensors/x"}, {"n_rows": 3}, {"start": -1},
        {"row_size": 0.5}, {"row_size": 8},
    ):  # fmt: skip
        path.write_bytes(whole)
        forged = journal.Journal(path, [part._replace(**change)], [], None, journal.runs_of(rows), memoryview(b""))
        head = {"parts": forged.parts, "renamed": [], "record": None, "n_runs": len(forged.runs)}
        body = struct.pack("<Q", len(json.dumps(head))) + json.dumps(head).encode() + forged.runs.tobytes() + bytes(3 * D * 4)
        checksum = struct.pack("<Q", zlib.crc32(body))
        beside(path, "journal").write_bytes(b"fe-jrnl1" + body + checksum)
        with pytest.raises(CheckpointError, match="damaged"):
            fe.Embedding.open(path, "r+")
        assert path.read_bytes() == whole


NUMBERS = (-1, 1.5, True, None, "3", [1], 2**31, 2**62, 2**63 - 1, 2**63, 2**64, 10**30)


def with_number(written, where, value):
    """The bytes of a journal with a number changed, and a checksum that is right."""
    (length,) = struct.unpack("<Q", written[8:16])
    head, rest = json.loads(written[16 : 16 + length]), bytearray(written[16 + length : -8])
    *path, last = where
    target = head
    if where[0] == "runs":
        rest[8 * last : 8 * last + 8] = struct.pack("<q", value)
    else:
        for key in path:
            target = target[key]
        target[last] = value
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    body = struct.pack("<Q", len(text)) + text + rest
    return b"fe-jrnl1" + body + struct.pack("<Q", zlib.crc32(body))


@pytest.mark.parametrize("suffix", ["safetensors", "npy"])
@pytest.mark.parametrize(
    ("where", "values"),
    [(("n_runs",), NUMBERS)]
    + [(("parts", 0, k), NUMBERS) for k in (1, 2, 3, 4)]  # start, size of a row, rows, size of the file
    + [(("identities", 0, k), NUMBERS[:6]) for k in (0, 3)]  # inode, checksum
    + [(("identities", 0, 2), [[x] for x in (*NUMBERS, V)])]  # rows that are not changed
    + [(("runs", k), (-1, -(2**63), V, V + 1, 2**62, 2**63 - 1)) for k in range(4)],
    ids=lambda value: "-".join(map(str, value))[:30],
)
def test_journals_with_impossible_numbers(tmp_path, suffix, where, values):
    """Their checksums are right."""
    path = tmp_path / f"t.{suffix}"
    layer = fe.Embedding.create(path, (V, D), rng=1)
    journal.write(path, layer.storage._files(), np.array([1, 2, 5]), None)
    layer.storage.close()
    whole, written = path.read_bytes(), beside(path, "journal").read_bytes()
    for value in values:
        beside(path, "journal").write_bytes(with_number(written, where, value))
        for mode in ("r", "r+"):
            with pytest.raises(CheckpointError, match="is not a journal of"):
                fe.Embedding.open(path, mode)
        assert path.read_bytes() == whole
    beside(path, "journal").write_bytes(with_number(written, ("n_runs",), 2))  # its own number
    fe.Embedding.open(path, "r+").close()


@pytest.mark.parametrize(
    ("field", "value"),
    [(field, value) for field in ("optimizer", "tensor", "table") for value in (3, [1], True, None, {})]
    + [(field, value) for field in ("options", "states") for value in (3, [1], True, None, "x")]
    + [("step", value) for value in ("3", [1], True, None, 1.5, -1, 2**63)]
    + [
        ("optimizer", "../x"),
        ("optimizer", "n" * 10**6),
        ("states", {"../x": 0.0}),
        ("states", {"x": 1}),
        ("states", {"x": [1]}),
    ],
    ids=lambda value: f"{value!s:.9}",
)
def test_fields_of_records(path, field, value):
    """In the record file, and in a journal."""
    layer = fe.Embedding.create(path, (V, D), rng=1)
    files, found = layer.storage._files(), dict.fromkeys(record.NO_RECORD, "x")
    layer.close()
    found |= {"step": 1, "options": {}, "states": {}}
    record.write(path, found)
    assert record.read(path) == found
    record.write(path, found | {field: value})
    with pytest.raises(CheckpointError, match=f"does not describe an optimiser: {field} must be .*, got") as caught:
        fe.Embedding.open(path, "r+")
    assert len(str(caught.value)) < 500
    os.unlink(beside(path, "optimizer.json"))
    with pytest.raises(ValueError, match=f"{field} must be"):
        journal.write(path, files, np.array([1]), found | {field: value})
    assert os.listdir(path.parent) == [path.name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record, "checked", lambda found: found)
        journal.write(path, files, np.array([1]), found | {field: value})
    with pytest.raises(CheckpointError, match=rf"{path.name}\.journal is not a journal .*: {field} must be"):
        fe.Embedding.open(path, "r+")


def test_what_lies_beside_a_table_is_checked(path):
    layer = fe.Embedding.create(path, (V, D), rng=1)
    path.chmod(0o600)
    train(layer, optimizer_of("SparseAdam", layer), range(2))
    layer.close()
    assert {os.stat(path.parent / name).st_mode & 0o777 for name in os.listdir(path.parent)} == {0o600}
    described = beside(path, "optimizer.json")
    good = described.read_bytes()
    state = beside(path, "SparseAdam.exp_avg")
    for bad in (
        b"",
        b"5",
        good[:-3],
        good.replace(b'"step": 2', b'"step": -2'),
        good.replace(b"SparseAdam", b"../x"),
        b"[" * 10**5,
    ):
        described.write_bytes(bad)
        with pytest.raises(CheckpointError, match="does not describe an optimiser"):
            fe.Embedding.open(path, "r+")
    described.write_bytes(good)
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
