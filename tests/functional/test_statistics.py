"""Statistics of tables and of those of a file: the reference's numbers, block by block."""

import tracemalloc

import numpy as np
import pytest
from common import DTYPES, READ_LAYOUTS, examples, floats, relaid, same_bits
from halves import DTYPE
from hypothesis import given
from hypothesis import strategies as st

import fastembed as fe
from fastembed import checkpoint, reference
from fastembed._kernels import backend
from fastembed.functional import statistics

pytestmark = pytest.mark.on_reference

FIELDS = (
    "rows", "columns", "min_norm", "mean_norm", "max_norm", "zero_rows", "nonfinite_rows", "lookups", "never_looked_up",
    "most_frequent",
)  # fmt: skip


def assert_is(found, expected, dtype, n_bytes):
    for name in FIELDS:
        assert getattr(found, name) == expected[name], name
    assert (found.dtype, found.nbytes) == (dtype, n_bytes)


@pytest.mark.parametrize("dtype", [*DTYPES, *DTYPE])
@examples(60)
@given(
    seed=st.integers(0, 2**32 - 1), n_rows=st.integers(0, 40), n_cols=st.integers(0, 40), layout=st.sampled_from(READ_LAYOUTS),
    is_counted=st.booleans(), block=st.sampled_from([1, 100, 1 << 18]),
)  # fmt: skip
def test_statistics_are_the_reference(dtype, seed, n_rows, n_cols, layout, is_counted, block):
    rng = np.random.default_rng(seed)
    with np.errstate(all="ignore"):
        table = floats(rng, (n_rows, n_cols), "float64").astype(DTYPE.get(dtype, dtype))
    table[rng.random(n_rows) < 0.3] = rng.choice([0.0, -0.0])
    table[rng.random(n_rows) < 0.3] = rng.standard_normal()
    counts = rng.integers(0, 5, n_rows) if is_counted else None
    before = table.copy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "_BLOCK", block)
        given_table = table if dtype in DTYPE else relaid(table, layout)
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
        (ValueError, "lookups must be from 0 to 2..63 - 1, got -4 at position 1", np.zeros((2, 2)), [0, -4]),
        (ValueError, "got 9223372036854775808 at position 0", np.zeros((2, 2)), np.array([2**63, 0], np.uint64)),
    ],
)
def test_what_is_refused(error, text, table, lookups):
    with pytest.raises(error, match=text):
        fe.table_statistics(table, lookups)


@pytest.mark.parametrize("dtype", [*DTYPES, *DTYPE])
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
