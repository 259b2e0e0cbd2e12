"""Searches with an index: the answers of those without, certified bounds, writes."""

import copy
import gc
import pickle

import numpy as np
import pytest
from common import DTYPES, examples, same_bits
from halves import HALVES
from hypothesis import given
from hypothesis import strategies as st
from searches import METRICS, each_metric, layer_of
from test_search import drawn_table

import fastembed as fe
from fastembed._kernels import backend, on_reference
from fastembed.functional.search.index import SearchIndex

KINDS = ("apart", "integers", "equal", "near", "odd")


def assert_same_found(got, like):
    assert got.ids.tolist() == like.ids.tolist()
    assert same_bits(got.scores, like.scores)


def check(table, queries, k, metric, **options):
    layer = layer_of(table)
    found = layer.nearest(queries, k, metric, index=layer.build_index(), **options)
    assert_same_found(found, layer.nearest(queries, k, metric, **options))


@pytest.mark.parametrize("dtype", [*DTYPES, *HALVES])
@each_metric
@pytest.mark.parametrize("kind", KINDS)
def test_the_answers_of_a_search_without_an_index(kind, metric, dtype):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    rng = np.random.default_rng(3)
    for n_queries in (1, 3, 9):
        n_rows, width = int(rng.integers(300, 900)), int(rng.integers(1, 70))
        table = drawn_table(rng, kind, n_rows, width, dtype)
        size = rng.choice([1, 1, 0, 1e-12, 1e12])
        check(table, rng.standard_normal((n_queries, width)) * size, int(rng.integers(0, 12)), metric)
        finite = np.flatnonzero(np.isfinite(table.astype(np.float64)).all(-1))
        check(table, rng.choice(finite, n_queries), 7, metric, exclude_queries=True)


@examples(40)
@given(st.data(), st.sampled_from(METRICS), st.sampled_from(DTYPES))
def test_hostile_tables(data, metric, dtype):
    """Few distinct numbers, of very different sizes, in many rows: ties, cancellation, overflow."""
    sizes = [0.0, -0.0, 1.0, -1.0, 1 + 2.0**-23, 127.0, 1e-45, -1e-39, 1e-19, 1e10, 1e19, 3e38, -3e38, np.inf, np.nan]
    numbers = np.array(data.draw(st.lists(st.sampled_from(sizes), min_size=1, max_size=5)))
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    width = data.draw(st.integers(1, 40))
    table = rng.choice(numbers, (300, width)).astype(dtype)
    query = rng.choice([*numbers[np.isfinite(numbers)], 2.0], width)
    check(table, query, data.draw(st.integers(1, 20)), metric)


@pytest.mark.parametrize("kind", KINDS)
@each_metric
def test_bounds_hold(metric, kind):
    """Of products in longdouble, whose rounding is nothing beside the bounds."""
    rng = np.random.default_rng(5)
    for width in (1, 31, 32, 200):
        table, query = drawn_table(rng, kind, 400, width, "float32"), rng.standard_normal(width)
        index = layer_of(table).build_index()
        lower, upper = backend.kernels.code_bounds(index._codes, index._terms_of(metric), *index._factors(query, metric))
        with np.errstate(all="ignore"):
            rows, vector = table.astype(np.longdouble), query.astype(np.longdouble)
            products, squares = (rows * vector).sum(-1), (rows * rows).sum(-1)
            costs = {
                "dot": -products,
                "cosine": -np.where(squares > 0, products / np.sqrt(squares * (vector @ vector)), 0),
                "l2": squares - 2 * products,
            }[metric]
        known = np.isfinite(costs)
        assert (lower[known] <= costs[known]).all()
        assert (costs[known] <= upper[known]).all()
        assert (lower[~known] == -np.inf).all()
        if kind == "apart" and metric == "cosine" and width == 200:
            assert (upper - lower).max() < 0.05


@pytest.mark.parametrize("n_threads", [1, 3])
def test_bounds_of_the_reference_on_every_instruction_set(isa, n_threads):
    rng = np.random.default_rng(6)
    for n_rows, size in ((0, 32), (1, 64), (777, 96), (20_000, 32), (5, 0)):
        codes = rng.integers(-127, 128, (n_rows, size)).astype(np.int8)
        terms = rng.standard_normal((4, n_rows)).astype(np.float32)
        numbers = rng.integers(-32_000, 32_001, size).astype(np.int16)
        factors = (0.25, 1.5, 0.1, 1e-3)
        with fe.threads(n_threads):
            got = backend.kernels.code_bounds(codes, terms, numbers, factors)
        assert same_bits(got, on_reference.code_bounds(codes, terms, numbers, factors))


@pytest.mark.parametrize("dtype", DTYPES)
def test_places_below_limits_on_every_instruction_set(isa, dtype):
    rng = np.random.default_rng(7)
    for shape in ((0, 5), (3, 0), (1, 1), (4, 31), (7, 200)):
        rows, (factors, offsets) = rng.standard_normal(shape).astype(dtype), rng.standard_normal((2, shape[1])).astype(dtype)
        limits = rng.choice([-2, 0, 9, np.nan, -np.inf], shape[0]).astype(dtype)
        rows[rng.random(shape) < 0.1] = np.nan
        got = backend.kernels.below(rows, (factors, offsets), limits)
        assert got.tolist() == on_reference.below(rows, (factors, offsets), limits).tolist()
        got = backend.kernels.below(rows, None, limits)
        assert got.tolist() == on_reference.below(rows, None, limits).tolist()


# Writes


def moved(layer, index):
    """The index finds what a search without it does, after whatever has been written."""
    queries = np.array(layer.weight[:3], np.float64)
    for metric in METRICS:
        assert_same_found(layer.nearest(queries, 5, metric, index=index), layer.nearest(queries, 5, metric))


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_steps_of_an_optimizer(optimizer):
    layer = fe.Embedding(500, 8, rng=0)
    index = layer.build_index()
    steps = getattr(fe.optim, optimizer)(layer, lr=0.5)
    for _ in range(3):
        layer([1, 7, 7, 400])
        layer.backward(np.full((4, 8), 2.0, np.float32))
        steps.step()
        moved(layer, index)


@pytest.mark.parametrize(
    "write",
    [
        lambda layer: layer.set_rows([1, 499], 9.0),
        lambda layer: layer.load_state_dict({"weight": np.ones((500, 8))}),
        lambda layer: layer.resize(700, new_rows=2.0),
        lambda layer: layer.resize(100),
        lambda layer: setattr(layer, "weight", layer.weight.__imul__(-3)),
        lambda layer: layer(np.arange(200)),  # by max_norm
    ],
)
def test_writes_of_the_layer(write):
    layer = fe.Embedding(500, 8, rng=0, max_norm=2.0)
    index = layer.build_index()
    write(layer)
    moved(layer, index)


def test_only_the_rows_written_are_converted_again(monkeypatch):
    layer = fe.Embedding(500, 8, rng=0)
    index, places = layer.build_index(), []
    convert = SearchIndex._convert
    monkeypatch.setattr(SearchIndex, "_convert", lambda self, place, rows: places.append(place) or convert(self, place, rows))
    layer.nearest(0, 1, index=index)
    assert places == []
    layer.set_rows([3, 499, 3], 1.0)
    moved(layer, index)
    assert [place.tolist() for place in places] == [[3, 499]]


def test_a_write_past_the_layer_is_reported_where_it_is_met():
    layer = fe.Embedding(500, 8, rng=0)
    index, query = layer.build_index(), np.array(layer.weight[3])
    layer.weight[3] *= 2
    with pytest.raises(RuntimeError, match=r"^row 3 of weight was written since the index was built, through an array and not"):
        layer.nearest(query, 5, index=index)
    with pytest.raises(RuntimeError, match=r"^row 3 of weight"):
        layer.nearest(np.stack([query] * 9), 5, index=index)
    index.rebuild()
    moved(layer, index)


def test_a_mapped_table(tmp_path):
    path = tmp_path / "table.npy"
    np.save(path, np.random.default_rng(0).standard_normal((500, 8), np.float32))
    layer = fe.Embedding.open(path, mode="r+")
    index = layer.build_index()
    layer.set_rows([5], 1.0)
    moved(layer, index)
    layer.resize(600)
    moved(layer, index)


def test_analogies_and_other_tables():
    layer = fe.TokenPositionEmbedding(300, 200, 8, rng=0)
    index = layer.build_index("wpe")
    for abc in ((1, 2, 3), (4, 4, 4)):
        got = layer.analogy(*abc, 4, table="wpe", index=index)
        assert_same_found(got, layer.analogy(*abc, 4, table="wpe"))
    with pytest.raises(ValueError, match=r"^index must be one that build_index of this layer made of wte, got SearchIndex"):
        layer.nearest(0, 1, index=index)
    with pytest.raises(ValueError, match=r"^index must be one that build_index of this layer made of weight, got 3"):
        fe.Embedding(5, 2).nearest(0, 1, index=3)
    with pytest.raises(KeyError, match="table must be one of"):
        layer.build_index("weight")


def test_empty_and_narrow_tables():
    for shape, k in (((0, 3), 0), ((4, 0), 2)):
        layer = fe.Embedding(*shape)
        assert layer.nearest(np.ones((2, shape[1])), k, index=layer.build_index()).ids.shape == (2, k)


def test_copies_have_no_index_and_an_unused_one_is_freed():
    layer = fe.Embedding(50, 4, rng=0)
    index = layer.build_index("weight")
    assert index.nbytes == 50 * (32 + 4 + 4 + 8 + 1)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert len(other.storage._indexes) == 0
        with pytest.raises(ValueError, match="build_index of this layer"):
            other.nearest(0, 1, index=index)
    del index
    gc.collect()
    assert len(layer.storage._indexes) == 0
