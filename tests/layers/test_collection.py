"""EmbeddingCollection: the reference's bits, every form of a batch, steps of all tables or none."""

import copy
import pickle

import numpy as np
import pytest
from common import BOUNDS, ID_DTYPES, examples, lists, needs_c, outcome, same_bits
from hypothesis import given
from hypothesis import strategies as st
from optimizers import MAKE

import fastembed as fe
from fastembed import reference

pytestmark = pytest.mark.on_reference

FEATURES = {"user": "user", "clicked": "item", "country": "country", "bought": "item"}
SHAPES = {"user": (7, 5), "item": (11, 16), "country": (3, 1)}
N = len(FEATURES)


class Jagged:
    """The methods of TorchRec's KeyedJaggedTensor."""

    def __init__(self, keys, values, offsets, weights=None):
        self._parts = keys, values, offsets, weights

    def keys(self):
        return self._parts[0]

    def values(self):
        return self._parts[1]

    def offsets(self):
        return self._parts[2]

    def lengths(self):
        return np.diff(self._parts[2])

    def weights_or_none(self):
        return self._parts[3]


def draw_tables(rng, dtypes):
    return {name: rng.standard_normal(shape).astype(dtypes[name]) for name, shape in SHAPES.items()}


def draw_batch(rng, n_samples=4, id_dtype="int64", p_outside=0.0):
    """Ids of all features, and offsets."""
    lengths = rng.integers(0, 4, (N, n_samples))
    parts = []
    for (_, table), of_feature in zip(FEATURES.items(), lengths, strict=True):
        ids = rng.integers(0, SHAPES[table][0], of_feature.sum())
        parts.append(np.where(rng.random(ids.shape) < p_outside, rng.integers(-3, 30, ids.shape), ids))
    return np.concatenate(parts).astype(id_dtype), np.concatenate(([0], np.cumsum(lengths)))


def by_feature(values, offsets, weights=None):
    """The same batch as a mapping, and the weights as one."""
    n = (len(offsets) - 1) // N
    ids, factors = {}, {}
    for k, name in enumerate(FEATURES):
        own = offsets[k * n : (k + 1) * n + 1]
        ids[name] = values[own[0] : own[-1]], own - own[0]
        factors[name] = None if weights is None else weights[own[0] : own[-1]]
    return ids, None if weights is None else factors


ALL_DTYPES = [
    dict.fromkeys(SHAPES, "float32"),
    dict.fromkeys(SHAPES, "float64"),
    dict.fromkeys(SHAPES, "float16"),
    {"user": "float64", "item": "float32", "country": "float32"},
    {"user": "float32", "item": "float16", "country": "float32"},
]


@pytest.mark.parametrize("dtypes", ALL_DTYPES)
@pytest.mark.parametrize("mode", ["sum", "mean", "sqrtn"])
@examples(8)
@given(seed=st.integers(0, 2**32 - 1), name=st.sampled_from((*MAKE, None)), bounds=st.sampled_from(BOUNDS))
def test_training_is_the_references(dtypes, mode, seed, name, bounds):
    rng = np.random.default_rng(seed)
    tables = draw_tables(rng, dtypes)
    layer = fe.EmbeddingCollection(copy.deepcopy(tables), FEATURES, mode=mode, bounds=bounds)
    like = reference.EmbeddingCollection(
        {table: array.tolist() for table, array in tables.items()}, FEATURES, mode=mode, bounds=bounds, dtype=dtypes
    )
    optimizer = likes = None
    if name is not None:
        optimizer = getattr(fe.optim, name)(layer, lr=0.1)
        likes = {table: getattr(reference.optim, name)(of, lr=0.1) for table, of in like.layers.items()}
    for _ in range(3):
        values, offsets = draw_batch(rng, p_outside=0.0 if bounds == "raise" else 0.3)
        weights = None if rng.random() < 0.5 else rng.standard_normal(values.shape).astype("float32")
        got, expected = layer(values, offsets, None, weights), like(*lists(values, offsets, weights))
        assert same_bits(got, np.array(expected, got.dtype).reshape(got.shape))
        dout = rng.standard_normal(got.shape).astype("float32")
        layer.backward(dout, optimizer=optimizer)
        like.backward(dout.tolist(), likes)
        if weights is None:
            assert layer.per_sample_weights_grad is None
        else:
            grad = layer.per_sample_weights_grad
            assert same_bits(grad, np.array(like.per_sample_weights_grad, grad.dtype))
        for table, of in like.layers.items():
            grad = layer.grads()[f"{table}.weight"]
            assert grad.ids.tolist() == of.grads()["weight"].ids
            assert same_bits(grad.rows, np.array(of.grads()["weight"].rows, grad.rows.dtype).reshape(grad.rows.shape))
    for table, of in like.layers.items():
        weight = layer.tables[table].weight
        assert same_bits(weight, np.array(of.weight, weight.dtype))


@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("id_dtype", ID_DTYPES)
def test_every_form_of_a_batch_is_the_same(id_dtype, is_weighted):
    rng = np.random.default_rng(1)
    layer = fe.EmbeddingCollection(draw_tables(rng, ALL_DTYPES[0]), FEATURES, mode="mean")
    values, offsets = draw_batch(rng, 5, id_dtype)
    weights = rng.standard_normal(values.shape) if is_weighted else None
    ids, factors = by_feature(values, offsets, weights)
    lengths = np.diff(offsets)
    keys = ["other", "bought", "user", "clicked", "country"]
    parts = {"other": (np.array([99], id_dtype), np.array([0, 1, 1, 1, 1, 1])), **ids}
    permuted = np.concatenate([parts[key][0] for key in keys])
    ends = np.concatenate(([0], np.cumsum(np.concatenate([np.diff(parts[key][1]) for key in keys]))))
    of_permuted = np.concatenate([[0.5], *(factors[key] for key in keys[1:])]) if is_weighted else None
    lists = {name: [own.tolist() for own in np.split(of_one, starts[1:-1])] for name, (of_one, starts) in ids.items()}
    of_lists = factors and {name: np.split(factors[name], ids[name][1][1:-1]) for name in FEATURES}
    expected = layer(values, offsets, None, weights)
    for got in (
        layer(lists, per_sample_weights=of_lists),
        layer(values, lengths=lengths, per_sample_weights=weights),
        layer(values, lengths=lengths.reshape(N, 5), per_sample_weights=weights),
        layer(values.tolist(), offsets.tolist(), None, weights),
        layer(ids, per_sample_weights=factors),
        layer(Jagged(list(FEATURES), values, offsets, weights)),
        layer(Jagged(keys, permuted, ends, of_permuted)),
        layer(values, offsets, None, weights, out=np.full((5, layer(values, offsets).shape[1]), np.nan, "f4")),
    ):
        assert same_bits(got, expected)
    parts = layer.split(expected)
    for name, table in FEATURES.items():
        bag = fe.EmbeddingBag.from_pretrained(layer.tables[table].weight, mode="mean", include_last_offset=True)
        assert same_bits(parts[name], bag(*ids[name], None if factors is None else factors[name]))
    dout = rng.standard_normal(expected.shape).astype("f4")
    layer.backward(dout, values, offsets, None, weights)
    grads = layer.dense_grads()
    for arguments in (
        (dout, ids, None, None, factors),
        (dout, lists, None, None, of_lists),
        (layer.split(dout), values, None, lengths, weights),
    ):
        layer.zero_grad()
        layer.backward(*arguments)
        assert all(same_bits(grad, grads[name]) for name, grad in layer.dense_grads().items())


def test_arrays_of_one_or_more_ids_a_sample():
    layer = fe.EmbeddingCollection({"a": [[1.0], [2.0]], "b": [[10.0], [20.0]]})
    assert layer({"a": [0, 1], "b": [[0, 1], [1, 1]]}).tolist() == [[1.0, 30.0], [2.0, 40.0]]
    assert layer({"a": np.zeros((0, 3), int), "b": []}).shape == (0, 2)
    assert layer([], offsets=[0]).shape == (0, 2)
    assert layer({"a": [[0, 1], []], "b": [[], [1]]}).tolist() == [[3.0, 0.0], [0.0, 20.0]]
    with pytest.raises(IndexError, match="b id 7 at position"):
        layer({"a": [[0, 1], []], "b": [[], [7]]})
    with pytest.raises(ValueError, match="every feature must have as many samples, got 3 of b after 2"):
        layer({"a": [[0, 1], []], "b": [[], [1], [1, 1]]})
    with pytest.raises(ValueError, match=r"a ids must have 1 or 2 axes \(samples, ids of each\), got shape \(3, 1\)"):
        layer({"a": [[[0], [1]], [[0]]], "b": [0, 1]})


@needs_c
def test_instruction_sets_and_threads_give_the_same_bits(isa):
    rng = np.random.default_rng(2)
    sizes = {f"t{k}": (int(rng.integers(1, 3000)), int(rng.integers(1, 140))) for k in range(12)}
    tables = {name: rng.standard_normal(shape).astype("f4") for name, shape in sizes.items()}
    packed = {
        name: fe.QuantizedEmbedding.from_float(table, bits=4 if k % 2 else 8)
        for k, (name, table) in enumerate(tables.items())
        if k % 3
    }
    layer = fe.EmbeddingCollection(tables | packed, mode="mean")
    lengths = rng.integers(0, 9, (len(sizes), 300))
    ids = np.concatenate([rng.integers(0, n, own.sum()) for (n, _), own in zip(sizes.values(), lengths, strict=True)])
    weights = rng.standard_normal(ids.shape).astype("f4")
    for of_ids in (None, weights):
        parts, begin = [], 0
        for table, own in zip((tables | packed).values(), lengths, strict=True):
            end = begin + own.sum()
            offsets, factors = np.cumsum(own) - own, None if of_ids is None else of_ids[begin:end]
            bag = table.bag if isinstance(table, fe.QuantizedEmbedding) else lambda *a, t=table, **k: fe.embedding_bag(t, *a, **k)
            parts.append(bag(ids[begin:end], offsets, mode="mean", per_sample_weights=factors))
            begin = end
        for n_threads in (1, 2, 4):
            with fe.threads(n_threads):
                assert same_bits(layer(ids, lengths=lengths, per_sample_weights=of_ids), np.concatenate(parts, axis=1))


def test_a_step_of_all_tables_is_that_of_each():
    rng = np.random.default_rng(3)
    tables = draw_tables(rng, ALL_DTYPES[0])
    together, apart = (fe.EmbeddingCollection(copy.deepcopy(tables), FEATURES) for _ in range(2))
    optimizers = []
    for layer in (together, apart):
        user, item, country = (layer.tables[name] for name in SHAPES)
        adam = fe.optim.Adam([{"params": [user], "lr": 0.5}, {"params": [item]}], lr=0.1)
        optimizers.append((adam, fe.optim.RowWiseAdagrad(country, lr=0.2)))
    for _ in range(4):
        values, offsets = draw_batch(rng)
        dout = rng.standard_normal(together(values, offsets).shape).astype("f4")
        together.backward(dout, optimizer=optimizers[0])
        apart.backward(dout, values, offsets)
        for optimizer in optimizers[1]:
            optimizer.step()
            optimizer.zero_grad()
    for a, b in zip(together.parameters(), apart.parameters(), strict=True):
        assert same_bits(a, b)
    assert [optimizer.step_counts for optimizer in optimizers[0]] == [[4, 4], [4]]


def test_what_changes_a_table_is_seen_by_the_next_call():
    rng = np.random.default_rng(4)
    layer = fe.EmbeddingCollection(draw_tables(rng, ALL_DTYPES[0]), FEATURES)
    values, offsets = draw_batch(rng)
    layer(values, offsets)
    item = layer.tables["item"]
    item.resize(20, new_rows=1.0)
    assert layer({"user": [0], "clicked": [19], "country": [0], "bought": [19]})[0, 5:21].tolist() == [1.0] * 16
    item.count_lookups()
    layer({"user": [0], "clicked": [19], "country": [0], "bought": [[19, 3]]})
    assert item.lookup_counts()["weight"][[3, 19]].tolist() == [1, 2]
    item.count_lookups(False)
    adam = fe.optim.Adam(layer, lr=0.1)
    for _ in range(2):  # the second time other rows have pending updates
        layer.backward(np.ones((4, 38), "f4"), *draw_batch(rng), optimizer=adam)
    got = layer(values, offsets)
    again = fe.EmbeddingCollection({name: array.weight.copy() for name, array in layer.tables.items()}, FEATURES)
    assert same_bits(got, again(values, offsets))
    for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert same_bits(copied(values, offsets), got)
        copied.tables["item"].resize(2)
        with pytest.raises(IndexError, match="clicked id"):
            copied({"user": [0], "clicked": [2], "country": [0], "bought": [0]})
    assert same_bits(layer(values, offsets), got)


def test_states():
    rng = np.random.default_rng(5)
    tables = draw_tables(rng, ALL_DTYPES[0])
    packed = fe.QuantizedEmbedding.from_float(tables["user"])
    layer, other = (fe.EmbeddingCollection({"packed": copy.deepcopy(packed), **draw_tables(rng, ALL_DTYPES[0])}) for _ in "12")
    state = {name: array.copy() for name, array in layer.state_dict().items()}
    assert list(state) == ["packed.packed", "user.weight", "item.weight", "country.weight"]
    before = {name: array.copy() for name, array in other.state_dict().items()}
    for bad in ({"country.weight": np.zeros((3, 2))}, {"packed.packed": state["packed.packed"][:-1]}, {"more": 1}):
        with pytest.raises((ValueError, KeyError)):
            other.load_state_dict(state | bad)
    assert all(same_bits(array, before[name]) for name, array in other.state_dict().items() if name != "packed.packed")
    state["packed.packed"] = state["packed.packed"][::-1]
    other.load_state_dict({f"module.embedding_bags.{name}": array for name, array in state.items()})
    for name, array in other.state_dict().items():
        assert array.tobytes() == state[name].tobytes()
    assert other.load_state_dict({"user.weight": tables["user"]}, strict=False).missing_keys == [
        "packed.packed", "item.weight", "country.weight",
    ]  # fmt: skip
    assert len(other.parameters()) == 4
    with pytest.raises(TypeError, match=r"these are packed: .*packed"):
        other.backward(np.zeros((1, 27)), [0, 0, 0, 0], lengths=[1, 1, 1, 1])
    layer.tables["item"].count_lookups()
    assert list(layer.state_dict(lookups=True))[-1] == "item.weight.lookups"


def test_bad_arguments_are_named_and_change_nothing():
    rng = np.random.default_rng(6)
    layer = fe.EmbeddingCollection(draw_tables(rng, ALL_DTYPES[0]), FEATURES)
    values, offsets = draw_batch(rng)
    good, _ = by_feature(values, offsets)
    out, sgd = np.full((4, 38), 7, "f4"), fe.optim.SGD([layer.tables["user"], layer.tables["item"]], lr=1.0)
    other = fe.optim.SGD(list(layer), lr=1.0)
    outside = values.copy()
    outside[offsets[4]] = 11
    before = [array.copy() for array in layer.parameters()]
    of_table = r"clicked id 11 at position \(0,\) is out of range for a table of 11 rows"
    overlapping = np.ndarray((4, 38), "f4", layer.tables["item"].weight)
    for error, text, call in (
        (IndexError, of_table, lambda: layer(outside, offsets, out=out)),
        (IndexError, f"bought id {2**70}", lambda: layer(good | {"bought": [2**70, 0, 0, 0]}, out=out)),
        (IndexError, "clicked id 11", lambda: layer.backward(out, outside, offsets, optimizer=sgd)),
        (ValueError, "optimizer does not hold", lambda: layer.backward(out, values, offsets, optimizer=sgd)),
        (ValueError, "dout must have shape", lambda: layer.backward(out[:, 1:], values, offsets, optimizer=sgd)),
        (KeyError, "dout must have the features", lambda: layer.backward({"user": 1}, values, offsets)),
        (ValueError, "2 optimizers hold this layer: Em", lambda: layer.backward(out, values, offsets, optimizer=[sgd, other])),
        (TypeError, r"a sequence of them, got an empty one, \[\]$", lambda: layer.backward(out, values, offsets, optimizer=[])),
        (ValueError, "require values", lambda: layer.backward(out, offsets=offsets)),
        (ValueError, "neither", lambda: layer(values, out=out)),
        (ValueError, "both", lambda: layer(values, offsets, np.diff(offsets), out=out)),
        (ValueError, "offsets must end", lambda: layer(values, offsets[:-4], out=out)),
        (ValueError, "features times samples", lambda: layer(values, np.append(offsets, len(values)), out=out)),
        (ValueError, "lengths must add up", lambda: layer(values, lengths=np.zeros((N, 4), int), out=out)),
        (ValueError, "lengths must be from 0", lambda: layer(values, lengths=[-1] * 16, out=out)),
        (ValueError, "by feature", lambda: layer(good, offsets, out=out)),
        (KeyError, "values must have the features", lambda: layer({"user": [0]}, out=out)),
        (ValueError, "as many samples", lambda: layer(good | {"country": [0]}, out=out)),
        (ValueError, "country offsets must end", lambda: layer(good | {"country": ([0, 1], [0, 1, 1, 1, 1])}, out=out)),
        (KeyError, "KeyedJaggedTensor must have", lambda: layer(Jagged(["user"], [0], [0, 1]), out=out)),
        (ValueError, "out must have shape", lambda: layer(values, offsets, out=out[:2])),
        (ValueError, "out must not overlap", lambda: layer(values, offsets, out=overlapping)),
        (ValueError, "per_sample_weights must have shape", lambda: layer(values, offsets, None, [1.0], out=out)),
        (KeyError, "must be of one of", lambda: fe.EmbeddingCollection({"a": (2, 2)}, {"f": "b"})),
        (TypeError, "tables must be a mapping", lambda: fe.EmbeddingCollection({})),
        (ValueError, "mode must be one of", lambda: fe.EmbeddingCollection({"a": (2, 2)}, mode="max")),
    ):  # fmt: skip
        with pytest.raises(error, match=text):
            call()
    assert (out == 7).all()
    assert not layer.has_grad
    assert sgd.step_counts == [0, 0]
    assert all(same_bits(a, b) for a, b in zip(layer.parameters(), before, strict=True))
    layer.backward(out, values, offsets)
    assert outcome(layer.backward, out, values, offsets, optimizer=sgd)[1] is RuntimeError
    layer.zero_grad()
    layer.eval()
    with pytest.raises(RuntimeError, match="backward needs ids"):
        layer.backward(out)


def test_handles_and_options():
    layer = fe.EmbeddingCollection({"a": (3, 2), "b": (4, 1)}, {"x": "b"}, dtype={"b": "float64"}, rng=0)
    first, handle = layer.call([1, 2], lengths=[1, 1])
    layer([3, 3], lengths=[1, 1])
    layer.backward([[1.0], [2.0]], call=handle)
    assert layer.dense_grads()["b.weight"].tolist() == [[0.0], [1.0], [2.0], [0.0]]
    assert first.dtype == layer.dtype == np.float64
    assert layer.tables["a"].dtype == np.float32
    with pytest.raises(TypeError, match="does not support item assignment"):
        layer.tables["a"] = layer.tables["b"]
    assert (layer.features, layer.mode) == ({"x": "b"}, "sum")
    assert repr(layer) == "EmbeddingCollection(2 tables, 1 feature, 1 column, mode=sum, dtype=float64)"
    assert len(list(layer)) == 2
    with pytest.raises(ValueError, match="result must have shape"):
        layer.split(np.zeros((2, 3)))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("step", [1, -1])
def test_a_result_may_lie_beside_a_table_but_not_in_it(dtype, step):
    wide = np.ones((9, 8), dtype)
    layer = fe.EmbeddingCollection({"a": np.zeros((2, 4), dtype), "b": wide[3:6, :4][::step]})
    for first in range(9):
        out = wide[first : first + 1]
        if 3 <= first < 6:
            with pytest.raises(ValueError, match=r"out must not overlap b\.weight"):
                layer({"a": [[0]], "b": [[2]]}, out=out)
        else:
            assert layer({"a": [[0]], "b": [[2]]}, out=out).tolist() == [[0.0] * 4 + [1.0] * 4]


@pytest.mark.on_reference
@pytest.mark.parametrize("bounds", ["raise", "zero"])
def test_a_table_without_rows_gives_zeros_beside_the_others(bounds):
    tables = {"a": np.ones((2, 3), "f4"), "b": np.ones((0, 2), "f4")}
    collection = fe.EmbeddingCollection(tables, mode="mean", bounds=bounds)
    assert collection([1], lengths=[1, 0]).tolist() == [[1, 1, 1, 0, 0]]
    assert collection({"a": [[1], [0]], "b": np.zeros((2, 0), int)}).tolist() == 2 * [[1, 1, 1, 0, 0]]


def test_names_of_tables_that_are_none():
    with pytest.raises(KeyError, match=r"feature .?f.? must be of one of .*got \['a'\]"):
        fe.EmbeddingCollection({"a": (2, 3)}, {"f": ["a"]})
    with pytest.raises(KeyError, match=r"dtype must be of tables of .*, got .*typo"):
        fe.EmbeddingCollection({"a": (2, 3)}, dtype={"typo": "f8"})
