"""Nearest rows: ties, large tables, every layout, pending updates, bounded memory."""

import tracemalloc

import numpy as np
import pytest
from common import DTYPES, READ_LAYOUTS, OnlyDlpack, relaid, same_bits
from searches import METRICS, each_metric, layer_of

import fastembed as fe
from fastembed._kernels import backend
from fastembed.functional.search import nearest

pytestmark = pytest.mark.on_reference


# Ties, and large tables

large = pytest.mark.skipif(backend.name == "reference", reason="pure Python scores one pair in 50 us")


@large
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_queries", [1, 5])
@each_metric
def test_equal_rows_go_by_their_ids_in_every_block(metric, n_queries, dtype):
    """Rows that BLAS adds up in different orders, at the edges of its tiles and of our blocks."""
    rng = np.random.default_rng(1)
    table = rng.standard_normal((30_001, 67)).astype(dtype)
    places = np.sort(rng.choice(len(table), 40, replace=False))
    table[places] = table[places[0]]
    queries = np.repeat(table[places[:1]], n_queries, 0)
    found = layer_of(table).nearest(queries, 25, metric)
    if metric == "dot":  # a longer row may come before
        found = found._replace(ids=np.array([[i for i in ids if i in places][:25] for ids in found.ids.tolist()]))
    n = found.ids.shape[1]
    assert n > 15
    assert (found.ids == places[:n]).all()
    assert len(set(found.scores[:, -1].tolist())) == 1


@large
@pytest.mark.parametrize("dtype", DTYPES)
@each_metric
def test_sums_without_rounding_have_the_order_of_a_stable_sort(metric, dtype):
    rng = np.random.default_rng(2)
    table, queries = rng.integers(-3, 4, (20_000, 24)), rng.integers(-3, 4, (7, 24))
    dots, lengths = queries @ table.T, (table**2).sum(-1)
    keys = {
        "dot": -dots,
        "l2": lengths - 2 * dots,  # and the length of the query, which is the same for all rows
        "cosine": -dots / np.sqrt(np.maximum(lengths, 1) * (queries**2).sum(-1)[:, None]),
    }[metric]
    for k in (1, 10, 3_000):
        found = layer_of(table.astype(dtype)).nearest(queries.astype(dtype), k, metric)
        assert (found.ids == np.argsort(keys, axis=-1, kind="stable")[:, :k]).all()


@large
@each_metric
def test_a_table_of_equal_rows(metric):
    table = np.full((50_000, 3), 0.1, np.float32)
    found = layer_of(table).nearest([0, 7], 4, metric)
    assert found.ids.tolist() == [[0, 1, 2, 3]] * 2
    assert len(set(found.scores.ravel().tolist())) == 1
    assert layer_of(table * 0).nearest([[1.0, 2.0, 3.0]], 4, metric).ids.tolist() == [[0, 1, 2, 3]]


@large
@pytest.mark.parametrize("dtype", DTYPES)
@each_metric
def test_large_tables_agree_with_a_sort_of_all_scores(metric, dtype):
    rng = np.random.default_rng(3)
    table, queries = (rng.standard_normal((n, 48)).astype(dtype) for n in (40_000, 9))
    wide, wide_queries = table.astype(np.float64), queries.astype(np.float64)
    scores = wide_queries @ wide.T
    if metric == "cosine":
        scores /= np.linalg.norm(wide, axis=1) * np.linalg.norm(wide_queries, axis=1)[:, None]
    elif metric == "l2":
        scores = -np.sqrt(((wide_queries[:, None] - wide) ** 2).sum(-1))
    order = np.argsort(-scores, axis=-1, kind="stable")[:, :50]
    found = layer_of(table).nearest(queries, 50, metric)
    assert (found.ids == order).all()
    expected = np.take_along_axis(scores, order, -1)
    np.testing.assert_allclose(found.scores, -expected if metric == "l2" else expected, rtol=1e-12)


class Computed(nearest.Searchable):
    """A table that is nowhere: rows are made when they are read."""

    num_embeddings, embedding_dim = 100_000, 16

    def __init__(self):
        self.reads = []

    def _float_rows(self, first, end):
        self.reads.append((first, end))
        return np.cos(np.arange(first, end, dtype=np.float32)[:, None] * np.arange(1, 17, dtype=np.float32))


@large
def test_anything_with_rows_can_be_searched_block_by_block(monkeypatch):
    monkeypatch.setattr(nearest, "_ONE_PASS_BYTES", 1 << 20)
    table = Computed()
    found = table.nearest([5, 99_999], 3, "l2", exclude_queries=True)
    whole = layer_of(Computed()._float_rows(0, 100_000)).nearest([5, 99_999], 3, "l2", exclude_queries=True)
    assert (found.ids == whole.ids).all()
    assert table.analogy(1, 2, 3).ids.shape == (1,)
    n_most = nearest._ONE_PASS_BYTES // (16 * 4)
    assert all(0 <= end - first <= n_most for first, end in table.reads)
    blocks = [(first, end) for first, end in table.reads if end - first > 1][: -(-100_000 // n_most)]
    assert [end for _, end in blocks[:-1]] == [first for first, _ in blocks[1:]]
    assert blocks[0][0] == 0
    assert blocks[-1][1] == 100_000


@large
@pytest.mark.parametrize("kind", ["apart", "equal rows"])
@each_metric
def test_memory_is_bounded(metric, kind):
    rng = np.random.default_rng(7)
    table = rng.standard_normal((100_000, 64)) if kind == "apart" else np.ones((100_000, 64))
    queries = rng.standard_normal((40, 64)) if kind == "apart" else np.ones((2, 64))
    layer = layer_of(table)
    tracemalloc.start()
    try:
        layer.nearest(queries, 10, metric)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 32 << 20


# Layouts, names, pending updates


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("layout", READ_LAYOUTS)
def test_tables_of_any_layout(layout):
    rng = np.random.default_rng(5)
    for dtype in (*DTYPES, "float16"):
        table = rng.standard_normal((30, 7)).astype(dtype)
        expected = layer_of(table).nearest([3, 4], 5, "l2")
        found = layer_of(relaid(table, layout)).nearest(relaid(np.array([3, 4]), layout), 5, "l2")
        assert (found.ids == expected.ids).all()
        assert same_bits(found.scores, expected.scores)


def test_queries_of_another_library():
    layer = fe.Embedding(9, 4, dtype="float64", rng=0)
    vectors = np.random.default_rng(1).standard_normal((2, 3, 4))
    for queries in (vectors, np.array([[1, 2]])):
        found, expected = layer.nearest(OnlyDlpack(queries), 3), layer.nearest(queries, 3)
        assert np.array_equal(found.ids, expected.ids)
        assert same_bits(found.scores, expected.scores)
    with pytest.raises(ValueError, match=r"new_rows of shape \(2, 3, 4\) cannot be broadcast"):
        layer.resize(11, new_rows=OnlyDlpack(vectors))


def test_tables_by_name():
    emb = fe.TokenPositionEmbedding(9, 6, 4, n_types=3, std=1.0, rng=0)
    for name, table in emb.state_dict().items():
        found = emb.nearest([0, 1], 2, "dot", table=name)
        assert (found.ids == layer_of(table).nearest([0, 1], 2, "dot").ids).all()
    assert same_bits(emb.nearest(0, 2).scores, emb.nearest(0, 2, table="wte").scores)
    bag = fe.EmbeddingBag.from_pretrained(emb.wpe)
    assert bag.analogy(0, 1, 2, 3).ids.tolist() == emb.analogy(0, 1, 2, 3, table="wpe").ids.tolist()


@pytest.mark.parametrize("dtype", [*DTYPES, "float16"])
def test_pending_updates_are_applied_before_a_search(dtype):
    layer = fe.Embedding(30, 4, dtype=dtype, rng=0)
    adam = fe.optim.Adam(layer, lr=0.3)
    rng = np.random.default_rng(6)
    for _ in range(20):
        layer.backward(rng.standard_normal((3, 4)), rng.integers(0, 30, 3), optimizer=adam)
    before = layer.tables["weight"].view(f"u{layer.dtype.itemsize}").copy()
    found = layer.nearest(np.arange(30), 5)
    assert not (layer.tables["weight"].view(before.dtype) == before).all()
    expected = layer_of(layer.weight.copy()).nearest(np.arange(30), 5)
    assert (found.ids == expected.ids).all()
    assert same_bits(found.scores, expected.scores)


def test_nothing_is_written():
    table = np.arange(12.0).reshape(4, 3)
    queries = np.ones((2, 3))
    before = table.tobytes(), queries.tobytes()
    for array in (table, queries):
        array.flags.writeable = False
    for metric in METRICS:
        layer_of(table).nearest(queries, 2, metric)
        assert (table.tobytes(), queries.tobytes()) == before
