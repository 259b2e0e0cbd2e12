"""Statistics of tables, and counts of look-ups: the reference's numbers, whatever the layer, the threads and the way back."""

import copy
import pickle
import struct
import threading
import tracemalloc
import zlib

import ml_dtypes
import numpy as np
import pytest
from common import DTYPES, READ_LAYOUTS, floats, relaid, same_bits
from hypothesis import given, settings
from hypothesis import strategies as st

import fastembed as fe
from fastembed import checkpoint, cli, reference
from fastembed._kernels import backend
from fastembed.functional import statistics

FIELDS = (
    "rows", "columns", "min_norm", "mean_norm", "max_norm", "zero_rows", "nonfinite_rows", "lookups", "never_looked_up",
    "most_frequent",
)  # fmt: skip
HALVES = {"float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}


def assert_is(found, expected, dtype, n_bytes):
    for name in FIELDS:
        assert getattr(found, name) == expected[name], name
    assert (found.dtype, found.nbytes) == (dtype, n_bytes)


# ---- one table ----


@pytest.mark.parametrize("dtype", [*DTYPES, *HALVES])
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), n_rows=st.integers(0, 40), n_cols=st.integers(0, 40), layout=st.sampled_from(READ_LAYOUTS),
    is_counted=st.booleans(), block=st.sampled_from([1, 100, 1 << 18]),
)  # fmt: skip
def test_statistics_are_the_reference(dtype, seed, n_rows, n_cols, layout, is_counted, block):
    rng = np.random.default_rng(seed)
    with np.errstate(all="ignore"):
        table = floats(rng, (n_rows, n_cols), "float64").astype(HALVES.get(dtype, dtype))
    table[rng.random(n_rows) < 0.3] = rng.choice([0.0, -0.0])
    table[rng.random(n_rows) < 0.3] = rng.standard_normal()
    counts = rng.integers(0, 5, n_rows) if is_counted else None
    before = table.copy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "_BLOCK", block)
        given_table = table if dtype in HALVES else relaid(table, layout)
        found = fe.table_statistics(given_table, None if counts is None else counts.astype("u2"))
    rows = table.astype("f8").tolist()
    expected = reference.statistics.table_statistics(rows, None if counts is None else counts.tolist())
    assert_is(found, expected | {"columns": n_cols}, dtype, table.nbytes)
    assert same_bits(table, before)


def test_norms_beyond_float64_and_counts_beyond_64_bits():
    found = fe.table_statistics(np.array([[1e300, 1e300], [1.0, 0.0], [1e-300, 0.0]]), [2**63 - 1, 2**63 - 1, 0])
    assert (found.min_norm, found.max_norm, found.mean_norm) == (0.0, np.inf, np.inf)
    assert (found.zero_rows, found.nonfinite_rows) == (0, 0)
    assert found.lookups == 2**64 - 2
    assert found.most_frequent == ((0, 2**63 - 1), (1, 2**63 - 1))


def test_tables_without_rows_columns_or_numbers():
    for table, norms in ((np.zeros((0, 3)), None), (np.full((2, 3), np.nan), None), (np.zeros((2, 0)), 0.0)):
        found = fe.table_statistics(table, np.zeros(len(table), int))
        assert (found.min_norm, found.mean_norm, found.max_norm) == (norms, norms, norms)
        assert (found.lookups, found.never_looked_up, found.most_frequent) == (0, len(table), ())
        assert str(found).count("\n") == (2 if norms is None else 3)
    assert fe.table_statistics(np.zeros((2**40, 0), "f4")).zero_rows == 2**40  # that nobody reads


def test_a_mapped_table_is_not_copied(tmp_path):
    n_rows = 1 << 20 if backend.name == "c" else 1 << 14
    table = np.memmap(tmp_path / "table", np.float32, "w+", shape=(n_rows, 64))  # 256 MB, sparse on the disk
    table[5] = 1
    tracemalloc.start()
    found = fe.table_statistics(table)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (found.max_norm, found.zero_rows) == (8.0, n_rows - 1)
    assert most < 16 << 20 or backend.name != "c"


@pytest.mark.parametrize(
    ("error", "text", "table", "lookups"),
    [
        (TypeError, "table must be float32", np.zeros((2, 2), int), None),
        (ValueError, "table must have 2 axes", np.zeros(3), None),
        (TypeError, "lookups must be integers, got float64", np.zeros((2, 2)), [0.0, 1.0]),
        (TypeError, "lookups must be integers, got bool", np.zeros((2, 2)), [True, False]),
        (ValueError, r"lookups must have shape \(2,\), got \(3,\)", np.zeros((2, 2)), [0, 1, 2]),
        (ValueError, "lookups must be from 0 to 9223372036854775807, got -4 at position 1", np.zeros((2, 2)), [0, -4]),
        (ValueError, "got 9223372036854775808 at position 0", np.zeros((2, 2)), np.array([2**63, 0], np.uint64)),
    ],
)
def test_what_is_refused(error, text, table, lookups):
    with pytest.raises(error, match=text):
        fe.table_statistics(table, lookups)


# ---- counts ----


def counts_of(layer):
    return {name: counts.tolist() for name, counts in layer.lookup_counts().items()}


def crc(string):
    return zlib.crc32(string.encode())


def expected_counts(*pairs):
    """Counts by the reference: (rows of the table, row of each look-up or None) for each table."""
    counts = []
    for n_rows, rows in pairs:
        of_table = [0] * n_rows
        reference.statistics.count(of_table, rows)
        counts.append(of_table)
    return counts


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), is_trained=st.booleans(), dtype=st.sampled_from([*DTYPES, "float16"]))
def test_counts_of_embedding(seed, is_trained, dtype):
    rng = np.random.default_rng(seed)
    options = {"padding_idx": 1, "max_norm": rng.choice([None, 1.0]), "max_norm_in_place": bool(rng.random() < 0.5)}
    layer = fe.Embedding(7, 3, dtype=dtype, rng=0, **options)
    plain = copy.deepcopy(layer)
    assert layer.count_lookups() is layer
    opt = fe.optim.Adam([layer, plain], lr=0.1)
    seen = []
    for shape in ((), (5,), (2, 3), (0,)):
        ids = rng.integers(0, 7, shape)
        assert same_bits(layer(ids), plain(ids))
        assert same_bits(layer(ids.tolist()), plain(ids.tolist()))
        seen += 2 * ids.reshape(-1).tolist()
        if is_trained:
            for each in (layer, plain):
                each.backward(np.ones((*shape, 3), "f4"), ids, optimizer=opt)
    assert counts_of(layer)["weight"] == expected_counts((7, seen))[0]
    assert counts_of(plain) == {}
    assert same_bits(layer.weight, plain.weight)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), mode=st.sampled_from(["sum", "mean", "max"]), include_last=st.booleans())
def test_counts_of_bags(seed, mode, include_last):
    rng = np.random.default_rng(seed)
    layer = fe.EmbeddingBag(7, 3, mode=mode, padding_idx=2, include_last_offset=include_last, rng=0)
    plain = copy.deepcopy(layer)
    layer.count_lookups()
    ids, offsets = rng.integers(0, 7, 12), [0, 3, 3, 9]
    assert same_bits(layer(ids, offsets), plain(ids, offsets))
    in_bags = ids[:9] if include_last else ids
    assert counts_of(layer)["weight"] == expected_counts((7, [None if i == 2 else i for i in in_bags.tolist()]))[0]


@pytest.mark.parametrize("n_types", [0, 2])
def test_counts_of_tokens_and_positions(n_types):
    options = {"n_types": n_types, "norm": "rms" if n_types else None, "rng": 0}
    layer, plain = fe.TokenPositionEmbedding(5, 6, 4, **options).count_lookups(), fe.TokenPositionEmbedding(5, 6, 4, **options)
    ids = np.array([[4, 1, 1], [0, 4, 2]])
    assert same_bits(layer(ids), plain(ids))
    assert same_bits(layer(3, 5), plain(3, 5))
    assert same_bits(layer(ids, start=2), plain(ids, start=2))
    assert same_bits(layer([[1, 99, 99]], lengths=[1]), plain([[1, 99, 99]], lengths=[1]))
    tokens = [*ids.ravel().tolist(), 3, *ids.ravel().tolist(), 1]
    positions = [0, 1, 2, 0, 1, 2, 5, 2, 3, 4, 2, 3, 4, 0]
    found = counts_of(layer)
    assert [found["wte"], found["wpe"]] == expected_counts((5, tokens), (6, positions))
    assert found.get("wtype") == ([14, 0] if n_types else None)
    statistics_of = layer.statistics()
    assert {name: of.lookups for name, of in statistics_of.items()} == dict.fromkeys(found, 14)
    assert statistics_of["wpe"].never_looked_up == 0


def test_counts_of_hashed_ids_are_of_their_rows():
    layer = fe.HashEmbedding(3, 2, hash=crc, rng=0).count_lookups()
    layer([5, -1])
    layer("word")
    rows = [*layer.rows_of([5, -1]).ravel().tolist(), *layer.rows_of("word").tolist()]
    assert counts_of(layer)["weight"] == expected_counts((3, rows))[0]
    assert layer.statistics()["weight"].lookups == 12


def test_errors_and_backward_count_nothing():
    layer = fe.Embedding(4, 2, rng=0).count_lookups()
    for call in (
        lambda: layer([1, 4]),
        lambda: layer([1.5]),
        lambda: layer([1], out=np.zeros((2, 2), "f4")),
        lambda: layer.count_lookups(1),
        lambda: layer.state_dict(lookups=1),
    ):
        with pytest.raises((IndexError, TypeError, ValueError)):
            call()
    layer.backward(np.ones((1, 2)), ids=[1])
    assert counts_of(layer) == {"weight": [0, 0, 0, 0]}
    layer([1])
    layer.count_lookups()  # goes on
    layer([1])
    assert counts_of(layer) == {"weight": [0, 2, 0, 0]}
    layer.lookup_counts()["weight"][:] = 9  # a copy
    assert counts_of(layer) == {"weight": [0, 2, 0, 0]}
    layer.count_lookups(False)
    layer([1])
    assert counts_of(layer) == {}
    assert counts_of(layer.count_lookups()) == {"weight": [0, 0, 0, 0]}


def test_a_read_only_table_is_counted():
    table = np.arange(8.0).reshape(4, 2)
    table.flags.writeable = False
    for layer in (fe.Embedding.from_pretrained(table), fe.EmbeddingBag.from_pretrained(table)):
        layer.count_lookups()([[3, 3]])
        assert counts_of(layer) == {"weight": [0, 0, 0, 2]}


def test_calls_go_to_c_at_once_unless_they_are_counted():
    layer = fe.Embedding(4, 2, rng=0)
    assert layer._fast_path
    assert not layer.count_lookups()._fast_path
    assert layer.count_lookups(False)._fast_path
    special = fe.Embedding(4, 2, max_norm=1.0, rng=0)
    assert not special.count_lookups().count_lookups(False)._fast_path


def test_threads_count_exactly():
    layer = fe.Embedding(50, 4, rng=0).count_lookups()
    ids = np.random.default_rng(0).integers(0, 50, 300)

    def look_up():
        for _ in range(50):
            layer(ids)

    threads = [threading.Thread(target=look_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts_of(layer)["weight"] == (200 * np.bincount(ids, minlength=50)).tolist()


def test_counts_go_with_copies_and_sizes():
    layer = fe.Embedding(4, 2, rng=0).count_lookups()
    layer([1, 3, 3])
    for other in (copy.copy(layer), copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        other([0])
        assert counts_of(other) == {"weight": [1, 1, 0, 2]}
        assert not other._fast_path
    assert counts_of(layer) == {"weight": [0, 1, 0, 2]}
    layer.resize(6)
    layer([5])
    assert counts_of(layer) == {"weight": [0, 1, 0, 2, 0, 1]}
    layer.resize(2)
    layer([0])
    assert counts_of(layer) == {"weight": [1, 1]}
    pair = fe.TokenPositionEmbedding(3, 2, 2).count_lookups()
    pair([2, 1])
    pair.resize(3, table="wpe")
    assert counts_of(pair) == {"wte": [0, 1, 1], "wpe": [1, 1, 0]}


# ---- states and checkpoints ----


def test_states_carry_counts(tmp_path):
    layer = fe.TokenPositionEmbedding(3, 2, 2, rng=0).count_lookups()
    layer([2, 1])
    assert layer.state_dict().keys() == {"wte", "wpe"}
    path = tmp_path / "c"
    checkpoint.save(path, layer.state_dict(lookups=True))
    tensors, _ = checkpoint.load(path)
    assert tensors.keys() == {"wte", "wpe", "wte.lookups", "wpe.lookups"}
    other = fe.TokenPositionEmbedding(3, 2, 2)
    other.load_state_dict(tensors)
    other([2])
    assert counts_of(other) == {"wte": [0, 1, 2], "wpe": [2, 1]}
    assert counts_of(layer) == {"wte": [0, 1, 1], "wpe": [1, 1]}
    other.load_state_dict({"transformer.wte.weight": layer.wte, "wpe": layer.wpe, "transformer.wte.weight.lookups": [5, 0, 0]})
    assert counts_of(other) == {"wte": [5, 0, 0], "wpe": [2, 1]}
    for error, text, more in (
        (KeyError, "unexpected names .'x.lookups'", {"x.lookups": [0]}),
        (KeyError, "wte is there twice", {"wte.weight.lookups": [0, 0, 0]}),
        (ValueError, r"wte.lookups must have shape \(3,\)", {"wte.lookups": [1]}),
        (ValueError, "wpe.lookups must be from 0 to", {"wpe.lookups": [0, -1]}),
    ):
        with pytest.raises(error, match=text):
            other.load_state_dict(tensors | {"wte": np.zeros((3, 2))} | more)
    assert same_bits(other.wte, layer.wte)
    assert counts_of(other) == {"wte": [5, 0, 0], "wpe": [2, 1]}


@pytest.mark.parametrize("dtype", [*DTYPES, *HALVES])
def test_statistics_of_a_file_are_those_of_its_tables(tmp_path, dtype, monkeypatch):
    monkeypatch.setattr(statistics, "_BLOCK", 64)
    layer = fe.Embedding(50, 3, dtype=dtype, rng=0).count_lookups()
    layer([4, 4, 2])
    layer.weight[7] = 0
    layer.weight[9, 1] = np.nan
    others = {"n": np.arange(3), "x": np.zeros((2, 0), "f4"), "y": np.zeros((0, 2), "f4"), "y.lookups": np.arange(3)}
    checkpoint.save(tmp_path / "c", layer.state_dict(lookups=True) | others, {"note": 1})
    found, description = checkpoint.statistics(tmp_path / "c")
    assert description == {"note": 1}
    assert list(found) == ["n", "weight", "x", "y", "y.lookups"]
    assert found["weight"] == layer.statistics()["weight"]
    assert found["n"] == found["y.lookups"] == "shape (3,), I64"
    assert (found["x"].rows, found["x"].columns, found["y"].rows) == (2, 0, 0)


def test_info_shows_a_checkpoint(tmp_path, capsys):
    layer = fe.Embedding.from_pretrained(np.array([[3.0, 4.0], [0.0, 0.0], [np.inf, 0.0]])).count_lookups()
    layer([0, 0, 2])
    path = tmp_path / "c"
    checkpoint.save(path, layer.state_dict(lookups=True) | {"odd\nname": np.zeros(2)}, {"note": "x" * 300, "k": [1, "\u001b"]})
    assert cli.main(["info", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("note: ")
    assert len(lines[0]) < 120
    assert lines[1:] == [
        'k: [1, "\\u001b"]',
        "odd\\nname: shape (2,), F64",
        "weight: 3 x 2 float64, 48 bytes",
        "  norms of rows: 0 to 5, mean 2.5",
        "  rows of zeros: 1; rows with NaN or infinity: 1",
        "  look-ups: 3; rows never looked up: 1",
        "  most frequent: 0 (2 times), 2 (1 times)",
    ]


def test_info_on_what_is_no_checkpoint(tmp_path, capsys):
    path = tmp_path / "c"
    checkpoint.save(path, {"a": np.zeros((3, 2)), "a.lookups": np.array([1, -2, 3])})
    damaged = path.read_bytes()
    header = b'{"a":{"dtype":"F32","shape":[1152921504606846976,0],"data_offsets":[0,0]}}'
    for content, text in (
        (damaged, "a.lookups must be from 0 to 9223372036854775807, got -2 at position 1"),
        (damaged[:-8], "is not a safetensors file, or is damaged"),
        (b"no checkpoint", "is not a safetensors file, or is damaged"),
    ):
        path.write_bytes(content)
        assert cli.main(["info", str(path)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert text in line
    assert cli.main(["info", str(tmp_path / "none")]) == 2
    assert "No such file" in capsys.readouterr().err
    path.write_bytes(struct.pack("<Q", len(header)) + header)  # more rows than anybody could look at
    assert cli.main(["info", str(path)]) == 0
    assert "rows of zeros: 1,152,921,504,606,846,976;" in capsys.readouterr().out


def test_info_without_a_checkpoint_is_about_the_machine(capsys):
    assert cli.main(["info"]) == 0
    assert f"backend: {backend.name}" in capsys.readouterr().out
