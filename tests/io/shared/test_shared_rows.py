"""What is looked up in a shared table, and when it is published."""

import numpy as np
import pytest
from common import BOUNDS, ID_DTYPES, outcome, same_bits

import fastembed as fe
from fastembed.io.shared import segment
from fastembed.tables import attached

pytestmark = pytest.mark.on_reference
V, D = 40, 6


def shared_pair(name, dtype="float32", **options):
    layer = fe.Embedding(V, D, dtype=dtype, rng=0)
    return layer, layer.share(name), fe.Embedding.attach(name, **options)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_look_ups_of_every_dtype(name, dtype):
    layer, _, table = shared_pair(name, dtype)
    ids = np.arange(2 * V).reshape(2, V) % V
    assert same_bits(table(ids), layer(ids))
    assert same_bits(table(3), layer(3))
    assert same_bits(table.snapshot(), layer.weight)
    assert same_bits(table.snapshot(ids), layer(ids))
    for id_dtype in ID_DTYPES:
        assert same_bits(table(ids.astype(id_dtype)), layer(ids))
    wide = "float64" if dtype == "float64" else "float32"
    assert same_bits(table(ids, out_dtype=wide), layer(ids, out_dtype=wide))
    assert outcome(table, ids, out_dtype="float16" if wide == dtype else "float64") == outcome(
        layer, ids, out_dtype="float16" if wide == dtype else "float64"
    )
    out = np.zeros((V, D), layer.dtype)
    assert table(ids[0], out=out) is out
    assert same_bits(out, layer(ids[0]))
    assert (table.num_embeddings, table.embedding_dim, table.dtype, table.generation) == (V, D, layer.dtype, 1)


@pytest.mark.parametrize("bounds", BOUNDS)
def test_errors_and_bounds_are_those_of_the_layer(name, bounds):
    layer = fe.Embedding.from_pretrained(np.arange(V * D, dtype="f4").reshape(V, D), bounds=bounds)
    layer.share(name)
    table = fe.Embedding.attach(name, bounds=bounds)
    for ids in ([1, V, -1], [[0], [2**63 - 1]], np.array([2**64 - 1], np.uint64), [0.5], "a", True, [[]], None):
        for given in (table, table.snapshot):
            got, expected = outcome(given, ids), outcome(layer, ids)
            if got[0] == "raised" or expected[0] == "raised":
                if ids is not None:  # the whole table, of a snapshot
                    assert got == expected
            else:
                assert same_bits(got[1], expected[1])
    for out in (np.zeros((2, D)), np.zeros((3, D), "f4"), [1]):
        got, expected = outcome(table, [1, 2], out=out), outcome(layer, [1, 2], out=out)
        assert got[:2] == expected[:2] == ("raised", expected[1])
        assert got[2] == expected[2]


def test_bags_are_those_of_the_rows(name):
    layer, _, table = shared_pair(name)
    ids, offsets = [3, 5, 3, 1, 0, 7], [0, 2, 2]
    for options in ({}, {"mode": "max"}, {"mode": "sum", "per_sample_weights": np.arange(6, dtype="f4")}, {"padding_idx": 3}):
        assert same_bits(table.bag(ids, offsets, **options), fe.embedding_bag(layer.weight, ids, offsets, **options))
    with pytest.raises(IndexError, match="id 40 at position"):
        table.bag([V], [0])
    assert same_bits(table.bag([V, 1], [0], bounds="zero"), layer.weight[1:2])
    zero = fe.Embedding.attach(name, bounds="zero")
    assert same_bits(zero.bag([V, 1], [0]), layer.weight[1:2])
    with pytest.raises(IndexError, match="id 40 at position"):
        zero.bag([V], [0], bounds="raise")


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_sums_with_another_table_are_those_of_the_rows(name, dtype):
    layer, _, table = shared_pair(name, dtype)
    wpe = np.random.default_rng(1).standard_normal((5, D)).astype("f4")
    for arguments in (([[3, 5, 3]], wpe), ([1, 2], wpe, [4, 0]), (7, wpe), ([], wpe), ([V], wpe), ([1], wpe, [5]), ([1], [1.0])):
        got, expected = outcome(table.gather_add, *arguments), outcome(fe.gather_add, layer.weight, *arguments)
        assert got == expected if "raised" in (got[0], expected[0]) else same_bits(got[1], expected[1])
    zero = fe.Embedding.attach(name, bounds="zero")
    assert same_bits(zero.gather_add([V, 1], wpe), fe.gather_add(layer.weight, [V, 1], wpe, bounds="zero"))
    out = np.empty((2, D), layer.dtype)
    assert table.gather_add([1, 2], wpe, out=out) is out


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_the_nearest_rows_are_those_of_the_layer(name, dtype):
    layer, _, table = shared_pair(name, dtype)
    queries = np.random.default_rng(1).standard_normal((2, 3, D))
    for arguments in ((queries, 4), (queries[:1], 3, "l2"), ([3, 5], 2, "dot")):
        for got, expected in zip(table.nearest(*arguments), layer.nearest(*arguments), strict=True):
            assert same_bits(got, expected)
    got, expected = (of.nearest(7, 3, exclude_queries=True, exclude=[2]) for of in (table, layer))
    assert same_bits(got.ids, expected.ids)
    assert same_bits(table.analogy(1, 2, 3).ids, layer.analogy(1, 2, 3).ids)
    assert outcome(table.nearest, [V]) == outcome(layer.nearest, [V])
    assert outcome(table.nearest, 1, 2, bounds=3)[:2] == ("raised", TypeError)
    layer.set_rows([9], 1000 * layer.weight[7])
    assert table.nearest(7, 1, exclude_queries=True).ids == 9
    layer.resize(2 * V)  # a new generation
    assert table.nearest(queries, 2 * V).ids.shape == (2, 3, 2 * V)


def test_a_search_goes_on_with_its_generation(name, monkeypatch):
    layer, shared, table = shared_pair(name)
    expected = layer.nearest([0], V)
    read = attached._SegmentRows._float_rows

    def replaced_meanwhile(self, first, end):
        layer.weight[...] = 0
        shared.publish()
        return read(self, first, end)

    monkeypatch.setattr(attached._SegmentRows, "_float_rows", replaced_meanwhile)
    assert same_bits(table.nearest([0], V).ids, expected.ids)
    assert shared.generation > 3


def test_everything_that_changes_rows_is_published(name):
    layer, shared, table = shared_pair(name)
    opt, state = fe.optim.SGD(layer, lr=0.5), {"weight": np.ones((V, D), "f4")}

    def train():
        layer.backward(np.ones((3, D)), [4, 4, 9])
        opt.step()
        opt.zero_grad()

    changes = {
        "set_rows": lambda: layer.set_rows([1, 1, 0], 5.0),
        "step": train,
        "backward with an optimiser": lambda: layer.backward(np.ones((2, D)), [1, 2], optimizer=opt),
        "load_state_dict": lambda: layer.load_state_dict(state),
        "an operator in place": lambda: setattr(layer, "weight", layer.weight.__imul__(2)),
        "resize": lambda: layer.resize(V + 3, new_rows=1.0),
        "a smaller size": lambda: layer.resize(V - 3),
    }
    for what, change in changes.items():
        before = table.snapshot()
        change()
        assert not np.array_equal(before, layer.weight), what
        assert same_bits(table.snapshot(), layer.weight), what
        assert same_bits(table(np.arange(len(layer.weight))), layer.weight), what
    assert shared.generation == 3  # the two of another size


def test_a_write_past_the_layer_is_published_by_publish(name):
    layer, shared, table = shared_pair(name)
    layer.weight[3] = 7
    assert not (table([3]) == 7).any()
    shared.publish()
    assert (table([3]) == 7).all()
    assert table.generation == shared.generation == 2


def test_pending_updates_are_published_when_they_are_applied(name):
    layer, _, table = shared_pair(name, "float64")
    opt = fe.optim.Adam(layer, lr=0.1)
    for ids in ([1, 2], [3], [4]):
        layer.backward(np.ones((len(ids), D)), ids, optimizer=opt)
        assert same_bits(table(ids), layer.tables["weight"][ids])  # that of the last step is up to date
    behind = table([1, 2])
    assert same_bits(table([1]), layer.tables["weight"][[1]])
    layer([1])  # the look-up applies what is pending of this row
    assert not np.array_equal(table([1]), behind[:1])
    assert same_bits(table([2]), behind[1:])
    layer.flush()
    assert same_bits(table.snapshot(), layer.weight)


def test_other_layers_and_mapped_ones(name, tmp_path):
    bag = fe.EmbeddingBag(V, D, rng=0)
    bag.share(name)
    table = fe.EmbeddingBag.attach(name)
    bag.backward(np.ones((1, D)), [1, 2], [0], optimizer=fe.optim.SGD(bag, lr=1.0))
    assert same_bits(table.snapshot(), bag.weight)
    with fe.Embedding.create(tmp_path / "t.npy", (V, D), rng=1) as layer:
        layer.share(name + "m")
        table = fe.Embedding.attach(name + "m")
        layer.set_rows([2], 3.0)
        layer.resize(V + 1)
        assert same_bits(table.snapshot(), layer.weight)
    assert table(V).shape == (D,)  # who shared it has closed it


def test_a_collection_publishes_the_tables_that_it_loads(name):
    group = fe.EmbeddingCollection({"a": fe.EmbeddingBag(V, D, rng=0), "b": fe.EmbeddingBag(3, D, rng=0)})
    layer = group.tables["a"]
    layer.share(name)
    group.load_state_dict({key: np.ones_like(array) for key, array in group.state_dict().items()})
    assert (fe.Embedding.attach(name).snapshot() == 1).all()


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (1, 1)])
def test_small_and_empty_tables(name, shape):
    layer = fe.Embedding.from_pretrained(np.ones(shape, "f4"))
    layer.share(name)
    table = fe.Embedding.attach(name)
    ids = np.zeros(5 if shape[0] else 0, int)
    assert same_bits(table(ids), layer(ids))
    assert same_bits(table.snapshot(), layer.weight)
    with pytest.raises(IndexError):
        table([shape[0]])
    if shape[0]:
        layer.set_rows(ids, 2.0)
        assert same_bits(table(ids), layer(ids))


def test_more_rows_than_versions(name, monkeypatch):
    monkeypatch.setattr(segment, "_MOST_VERSIONS", 8)
    layer, _, table = shared_pair(name)
    assert table._segment.layout.n_versions == 8
    layer.set_rows(np.arange(0, V, 3), np.arange(0, V, 3)[:, None])
    assert same_bits(table(np.arange(V)), layer.weight)


# ---- a process that was killed, or damage ----


def torn(table, shared, rows, phase):
    """The memory as a killed process leaves it: these rows half written, a version odd."""
    memory = shared._open_segment().rows
    sequence, _, versions, journal_size, journal_rows, journal, position = _arrays(shared)
    journal_rows[: len(rows)], journal[: len(rows)], journal_size[0] = rows, 7, len(rows)
    sequence[0] += phase
    if phase == 2:
        memory.rows[rows[0], : D // 2] = 7
        versions[rows[0] % len(versions)] += 1
        position[0] = 0


def _arrays(shared):
    found = shared._open_segment()
    layout, memory = found.layout, found._memory
    shape = layout.n_rows, layout.n_cols
    return [
        np.ndarray(1, np.uint64, memory, 128),
        np.ndarray(1, np.uint64, memory, 192),
        np.ndarray(layout.n_versions, np.uint32, memory, 4096),
        np.ndarray(1, np.int64, memory, 256),
        np.ndarray(layout.n_rows, np.int64, memory, layout.journal_rows_at),
        np.ndarray(shape, layout.dtype, memory, layout.journal_at),
        np.ndarray(1, np.int64, memory, 320),
    ]


@pytest.mark.parametrize("n_versions", [2, 1 << 14])
def test_what_a_killed_process_was_writing_is_read_from_the_journal(name, n_versions, monkeypatch):
    monkeypatch.setattr(segment, "_MOST_VERSIONS", n_versions)
    layer, shared, table = shared_pair(name)
    before = layer.weight.copy()
    shared._segment.reserve(3)
    torn(table, shared, [4, 9, 11], 2)
    after = before.copy()
    after[[4, 9, 11]] = 7
    assert same_bits(table([4, 5, 6]), after[[4, 5, 6]])  # 6 has the version of 4, if there are two
    assert same_bits(table([9, 11]), before[[9, 11]])  # to these it had not come
    assert same_bits(table.snapshot(), after)
    assert same_bits(table.snapshot([11, 3, 4]), after[[11, 3, 4]])
    assert same_bits(table([9, 3, 11]), after[[9, 3, 11]])  # never older than at the last look
    shared.close()
    layer.share(name, replace=True).publish()  # who takes over replaces it as a whole
    assert same_bits(table(np.arange(V)), before)


def test_a_process_that_was_killed_before_it_wrote_has_changed_nothing(name):
    layer, shared, table = shared_pair(name)
    shared._segment.reserve(3)
    torn(table, shared, [4, 9, 11], 1)
    assert same_bits(table.snapshot(), layer.weight)
    assert same_bits(table(np.arange(V)), layer.weight)


def test_damaged_memory_ends_no_call_in_a_loop(name):
    layer, shared, table = shared_pair(name)
    sequence, _, versions, journal_size, *_ = _arrays(shared)
    versions[:] += 1  # odd, at rest
    assert same_bits(table([1, 5]), layer([1, 5]))
    shared._segment.reserve(V)
    sequence[0] += 2
    for length in (1 << 60, -1):  # of a journal that is longer than the table, or shorter than none
        journal_size[0] = length
        assert table([5]).shape == (1, D)
        assert table.snapshot().shape == (V, D)
