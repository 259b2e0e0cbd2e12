"""Nearest rows and analogies: the reference to the bit, odd numbers and sizes, refusals."""

import functools

import numpy as np
import pytest
from common import DTYPES, assert_same, examples, floats, outcome, relaid, same_bits
from halves import HALVES
from hypothesis import given
from hypothesis import strategies as st
from searches import METRICS, each_metric, layer_of

import fastembed as fe
from fastembed import reference
from fastembed._kernels import backend, on_reference

SLOW = pytest.mark.slow_on_reference
pytestmark = pytest.mark.on_reference


def drawn_table(rng, kind, n_rows, width, dtype):
    """Tables of distant numbers, of many ties, of equal rows, of close rows, and of odd numbers."""
    table = rng.standard_normal((n_rows, width))
    if kind == "integers":
        table = rng.integers(-2, 3, (n_rows, width)).astype(np.float64)
    elif kind == "equal":
        table = table[rng.integers(0, 1 + n_rows // 9, n_rows)]
    elif kind == "near":
        table = 100 + table * 1e-5
    elif kind == "odd":
        table *= 10.0 ** rng.integers(-30, 30, (n_rows, 1))
        table[rng.random(table.shape) < 0.03] = rng.choice([np.nan, np.inf, -np.inf, 0.0, 1e-40, 1e-310])
    with np.errstate(over="ignore"):
        return table.astype(dtype)


def assert_found(got, expected):
    """A search found the ids of the reference and the bits of its scores, or raised as it did."""
    assert got[0] == expected[0], (got, expected)
    if got[0] == "raised":
        assert got[1:] == expected[1:]
        return
    (ids, scores), (like_ids, like_scores) = got[1], expected[1]
    assert ids.dtype == np.int64
    assert ids.tolist() == like_ids
    assert same_bits(scores, np.array(like_scores, np.float64).reshape(ids.shape))


@functools.cache
def searches(kind, metric, dtype):
    """Tables, calls and the reference's answers, which do not depend on the size of blocks."""
    rng, made = np.random.default_rng(0), []
    for _ in range(8 if backend.name == "c" else 5):
        n_rows, width = int(rng.integers(1, 60)), int(rng.integers(1, 40))
        table = drawn_table(rng, kind, n_rows, width, dtype)
        exclude = bool(rng.integers(2))
        k = int(rng.integers(0, n_rows + 1 - exclude))
        ids = rng.integers(0, n_rows, (2, 3))
        vectors = (rng.standard_normal((3, width)) * rng.choice([1, 0, 1e-12, 1e12])).astype(np.float64)
        rows = table.astype(np.float64).tolist()
        for queries, options in ((ids, {"exclude_queries": exclude}), (vectors, {})):
            like = outcome(reference.nearest, rows, queries.tolist(), k, metric, dtype=dtype, **options)
            made.append((table, (queries, k, metric), options, like))
    return made


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("dtype", ["float32", *(pytest.param(dtype, marks=SLOW) for dtype in ("float64", *HALVES))])
@each_metric
@pytest.mark.parametrize("kind", ["apart", "integers", "equal", "near", "odd"])
def test_the_reference_to_the_bit(kind, metric, dtype):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    for table, arguments, options, like in searches(kind, metric, dtype):
        assert_found(outcome(layer_of(table).nearest, *arguments, **options), like)


@examples(60)
@given(st.integers(0, 10**6), st.sampled_from(METRICS), st.sampled_from(DTYPES), st.booleans())
def test_analogies_of_the_reference(seed, metric, dtype, exclude):
    rng = np.random.default_rng(seed)
    table = drawn_table(rng, "integers" if seed % 2 else "apart", 12, 5, dtype)
    a, b, c = rng.integers(0, 12, (2, 1)), rng.integers(0, 12, 3), int(rng.integers(0, 12))
    k = int(rng.integers(0, 9))
    got = outcome(layer_of(table).analogy, a, b, c, k, metric, exclude_queries=exclude)
    lists = (a.tolist(), b.tolist(), c)
    assert_found(got, outcome(reference.analogy, table.tolist(), *lists, k, metric, exclude_queries=exclude, dtype=dtype))
    assert got[1].ids.shape == (2, 3, k)
    if exclude:
        assert not (got[1].ids == c).any()


def test_an_analogy_in_words():
    layer = layer_of(np.array([[1.0, 0, 0], [1, 1, 0], [0, 0, 1], [0, 1, 1], [9, 9, 9]]))
    layer.vocabulary = ["king", "queen", "man", "woman", "all"]
    king, queen, man = layer.vocabulary.ids(["king", "queen", "man"])
    assert layer.vocabulary.names(layer.analogy(king, queen, man).ids) == ["woman"]
    assert layer.analogy(king, king, man, exclude_queries=False).ids.tolist() == [man]


@each_metric
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_threads", [1, 3])
def test_costs_of_the_reference_on_every_instruction_set(isa, n_threads, dtype, metric):
    rng = np.random.default_rng(8)
    for n_rows, n_queries, width in ((700, 2, 67), (5, 3, 16), (3, 1, 1), (4, 2, 0), (0, 2, 5), (3, 0, 5), (9, 4, 129)):
        rows, queries = floats(rng, (n_rows, width), dtype), floats(rng, (n_queries, width), dtype)
        rows[rng.random(n_rows) < 0.2] = 0
        rows[::5, -1:] *= rng.choice([1e-19, 1e19, np.nan], (len(rows[::5]), min(width, 1)))
        with fe.threads(n_threads):
            got = backend.kernels.costs(relaid(rows, "misaligned"), queries, metric, 1e-30, 1e30)
        for a, b in zip(got, on_reference.costs(rows, queries, metric, 1e-30, 1e30), strict=True):
            assert same_bits(a, b)


# Odd numbers, sizes and arguments


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_of_nan_come_last_and_zeros_have_a_cosine_of_0(dtype):
    table = np.array([[np.nan, 1], [0, 0], [1, 0], [np.inf, 0], [-1, 0], [2, np.nan]], dtype)
    for metric, order in (("cosine", [2, 1, 4, 0, 3, 5]), ("dot", [3, 2, 1, 4, 0, 5]), ("l2", [2, 1, 4, 3, 0, 5])):
        found = layer_of(table).nearest(np.array([1.0, 0.0]), 6, metric)
        assert found.ids.tolist() == order
        assert np.isnan(found.scores[-2:]).all() or metric == "l2"
    zeros = layer_of(table).nearest(np.zeros(2), 3)
    assert zeros.ids.tolist() == [1, 2, 4]
    assert zeros.scores.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1e-30, 1e-18, 1e18, 1e30])
@each_metric
def test_rows_and_queries_of_any_size(metric, size, dtype):
    """Squares of float32 numbers that go to 0 or infinity: float64 holds them."""
    rng = np.random.default_rng(4)
    table = (rng.standard_normal((40, 6)) * size).astype(dtype)
    query = table[17] * dtype_one(dtype, 1.001)
    wide, of = table.astype(np.float64), query.astype(np.float64)
    scores = {
        "cosine": wide @ of / np.sqrt((wide**2).sum(-1) * (of @ of)),
        "dot": wide @ of,
        "l2": -np.sqrt(((wide - of) ** 2).sum(-1)),
    }[metric]
    assert layer_of(table).nearest(query, 5, metric).ids.tolist() == np.argsort(-scores)[:5].tolist()


def dtype_one(dtype, x):
    return np.dtype(dtype).type(x)


def test_a_row_is_its_own_neighbour_with_a_cosine_of_1():
    layer = fe.Embedding(50, 17, rng=0)
    found = layer.nearest(np.arange(50), 1)
    assert found.ids[:, 0].tolist() == list(range(50))
    assert (found.scores == 1.0).all()
    assert (layer.nearest(np.arange(50), 1, "l2").scores == 0.0).all()
    others = layer.nearest(np.arange(50), 49, exclude_queries=True)
    assert all(i not in ids for i, ids in enumerate(others.ids.tolist()))


@pytest.mark.parametrize("dtype", DTYPES)
def test_shapes_and_empty_tables(dtype):
    layer = fe.Embedding(5, 3, dtype=dtype, rng=0)
    assert layer.nearest(2, 4).ids.shape == (4,)
    assert layer.nearest(np.uint8(2), 0).scores.shape == (0,)
    assert layer.nearest([[1, 2], [3, 4], [0, 0]], 2).ids.shape == (3, 2, 2)
    assert layer.nearest(np.ones((2, 1, 3)), 2).ids.shape == (2, 1, 2)
    assert layer.nearest([], 2).ids.shape == (0, 2)
    assert layer.nearest(np.empty((0, 3)), 2).ids.shape == (0, 2)
    assert layer.nearest(range(3), 1).ids.shape == (3, 1)
    empty = fe.Embedding(0, 3, dtype=dtype)
    assert empty.nearest(np.ones((2, 3)), 0).ids.shape == (2, 0)
    narrow = fe.Embedding(3, 0, dtype=dtype)
    assert narrow.nearest([2, 1], 2).ids.tolist() == [[0, 1], [0, 1]]


@pytest.mark.parametrize(
    ("error", "text", "call"),
    [
        (ValueError, "k must be from 0 to 5 for a table of 5 rows; got 6", lambda e: e.nearest(0, 6)),
        (
            ValueError,
            "k must be from 0 to 4 for a table of 5 rows, 1 of them left out; got 5",
            lambda e: e.nearest(0, 5, exclude_queries=True),
        ),
        (ValueError, "k must be from 0 to 3 for a table of 5 rows, 2 of them left out; got 4", lambda e: e.analogy(0, 0, 1, 4)),
        (ValueError, "k must be from 0 to 2..63 - 1, got -1", lambda e: e.nearest(0, -1)),
        (TypeError, "k must be an integer, got 2.0", lambda e: e.nearest(0, 2.0)),
        (ValueError, "metric must be one of cosine, dot, l2; got 'L2'", lambda e: e.nearest(0, 1, "L2")),
        (IndexError, r"id 5 at position \(1,\) is out of range for a table of 5 rows", lambda e: e.nearest([0, 5], 1)),
        (IndexError, r"b id -1 at position \(\) is out of range for a table of 5 rows", lambda e: e.analogy(0, -1, 1)),
        (TypeError, "ids must be integers, got booleans among them", lambda e: e.nearest([0, True], 1)),
        (TypeError, "queries are names, and the rows of the table have none", lambda e: e.nearest(["a"], 1)),
        (ValueError, r"queries must have shape \(3,\), got \(2,\)", lambda e: e.nearest([1.0, 2.0], 1)),
        (
            ValueError,
            r"query at position \(1,\) must be finite in float32, got nan",
            lambda e: e.nearest([[1.0, 0, 0], [0, np.nan, 0]], 1),
        ),
        (ValueError, r"query at position \(\) must be finite in float32, got inf", lambda e: e.nearest([1e300, 0.0, 0.0], 1)),
        (ValueError, "exclude_queries requires ids, got vectors", lambda e: e.nearest([1.0, 0, 0], 1, exclude_queries=True)),
        (TypeError, "exclude_queries must be True or False, got 1", lambda e: e.nearest(0, 1, exclude_queries=1)),
        (KeyError, r"table must be one of \['weight'\], got 'wte'", lambda e: e.nearest(0, 1, table="wte")),
        (KeyError, r"table must be one of \['weight'\], got \{\}", lambda e: e.nearest(0, 1, table={})),
        (
            ValueError,
            r"a of shape \(2,\), b of shape \(3,\), c of shape \(\) do not broadcast",
            lambda e: e.analogy([0, 1], [0, 1, 2], 3),
        ),
    ],
)
def test_what_does_not_fit_is_told(error, text, call):
    with pytest.raises(error, match=text):
        call(fe.Embedding(5, 3, rng=0))


def test_a_query_whose_row_is_not_finite():
    layer = layer_of(np.array([[1.0, 2.0], [np.nan, 1.0], [np.inf, 0.0]]))
    for call, text in (
        (lambda: layer.nearest([0, 1], 1), r"query at position \(1,\) must be finite in float64, got nan"),
        (lambda: layer.analogy(0, [0, 2], 0), r"b - a \+ c at position \(1,\) must be finite in float64, got inf"),
    ):
        with pytest.raises(ValueError, match=text):
            call()


def test_the_reference_refuses_the_same():
    table = fe.Embedding(5, 3, dtype="float64", rng=0).weight
    layer, rows = layer_of(table), table.tolist()
    for arguments in (([0, 5], 1), ([0], 6), ([0], 1, "l1"), ([[0.0, 1.0, np.nan]], 1), ([0, True], 1)):
        assert_same(outcome(layer.nearest, *arguments), outcome(reference.nearest, rows, *arguments), float, ())
