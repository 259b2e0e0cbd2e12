"""Hashed ids: the numbers of thinc, the reference's bits, what trains, and what is refused."""

import copy
import pickle

import ml_dtypes
import numpy as np
import pytest
from common import DTYPES, ID_DTYPES, ISAS, READ_LAYOUTS, crc, examples, floats, outcome, relaid, same_bits
from hypothesis import given
from hypothesis import strategies as st
from optimizers import MAKE

import fastembed as fe
from fastembed import reference

pytestmark = pytest.mark.on_reference

V, D = 13, 5

OPTIMIZERS = (*MAKE, None)


# What thinc 9.1.1's ops.hash gives for these ids and seeds.
KNOWN_IDS = (0, 1, 255, 2**32, 2**63, 2**64 - 1)

KNOWN = {
    0: [
        [3428303819, 685728695, 3303603794, 4065689084], [4211459146, 4457399, 3547175942, 1032506804],
        [3771088952, 1947405479, 1598911267, 445771162], [1167752891, 595509097, 1048789532, 472687675],
        [3025744423, 18193918, 3964657846, 2346645680], [448458099, 2699342458, 1800029871, 1763775177],
    ],
    2**32 - 1: [
        [3379968066, 2350167928, 3358923416, 3283558021], [180552405, 499527447, 1281644803, 1570502297],
        [3168721610, 3606763225, 2432374999, 2222443222], [3011119459, 4080193799, 873270483, 693264359],
        [3178977017, 3391238735, 3467951675, 3700672506], [88181733, 672240216, 4087153151, 3796020537],
    ],
}  # fmt: skip


def ids_of(rng, shape):
    """Integers all over 64 bits, with small and negative ones among them."""
    ids = rng.integers(-(2**63), 2**63, shape)
    return np.where(rng.random(shape) < 0.3, ids % 5, ids)


def test_hashes_are_the_known_ones():
    for seed, hashes in KNOWN.items():
        assert [reference.hashed.murmur(i, seed) for i in KNOWN_IDS] == hashes
        for n_rows in (1, 2, 1000, 2**31 + 11, 2**32 - 1):
            rows = fe.hash_ids(KNOWN_IDS, n_rows, seed=seed)
            assert rows.dtype == np.int64
            assert rows.tolist() == [[h % n_rows for h in four] for four in hashes]


@examples(100)
@given(seed=st.integers(0, 2**32 - 1), n_rows=st.integers(1, 2**32 - 1), rng=st.integers(0, 2**32 - 1))
def test_rows_are_the_reference(seed, n_rows, rng):
    rng = np.random.default_rng(rng)
    for shape in ((), (7,), (2, 3), (0,), (2, 0, 3)):
        ids = ids_of(rng, shape)
        expected = np.array(reference.hash_ids(ids.tolist(), n_rows, seed=seed), np.int64).reshape(*shape, 4)
        assert np.array_equal(fe.hash_ids(ids, n_rows, seed=seed), expected)
        assert np.array_equal(fe.hash_ids(ids.astype(np.uint64), n_rows, seed=seed), expected)
        if ids.size:  # a list knows its shape
            assert np.array_equal(fe.hash_ids(ids.tolist(), n_rows, seed=seed), expected)


@pytest.mark.parametrize("dtype", ID_DTYPES)
@pytest.mark.parametrize("layout", READ_LAYOUTS)
def test_ids_of_every_type_and_layout_mean_their_value(dtype, layout):
    rng = np.random.default_rng(0)
    limits = np.iinfo(dtype)
    ids = rng.integers(limits.min, limits.max, (3, 4), dtype, endpoint=True)
    expected = reference.hash_ids(ids.tolist(), 1000, seed=3)
    assert fe.hash_ids(relaid(ids, layout), 1000, seed=3).tolist() == expected


def test_the_hash_itself_is_to_be_had():
    for seed, hashes in KNOWN.items():
        parts = fe.murmur_hash(KNOWN_IDS, seed=seed)
        assert parts.dtype == np.uint32
        assert parts.tolist() == reference.murmur_hash(list(KNOWN_IDS), seed=seed) == hashes
    words = [["a", "b"], ["b", "c"]]
    assert fe.murmur_hash(words, seed=3, hash=crc).tolist() == reference.murmur_hash(words, seed=3, hash=crc)
    assert fe.murmur_hash(7).shape == (4,)
    assert fe.murmur_hash(np.zeros((2, 0), "i4")).shape == (2, 0, 4)
    for text, error, arguments in (
        ("seed must be from 0 to 2..32 - 1, got -1", ValueError, {"ids": [1], "seed": -1}),
        ("holds a surrogate, and has no UTF-8 to hash", ValueError, {"ids": ["a", "\ud800"]}),
        ("does not fit into 64 bits", ValueError, {"ids": [2**64]}),
    ):
        with pytest.raises(error, match=text):
            fe.murmur_hash(**arguments)


def test_ids_in_lists_may_take_all_of_64_bits():
    mixed = [[2**64 - 1, -1], [-(2**63), 2**63]]
    rows = fe.hash_ids(mixed, 1000)
    assert rows.tolist() == reference.hash_ids(mixed, 1000)
    assert (rows[:, 0] == rows[:, 1]).all()
    for ids, text in (
        ([5, 2**64], r"id 18446744073709551616 at position (1,) does not fit into 64 bits"),
        (-(2**63) - 1, r"id -9223372036854775809 at position () does not fit into 64 bits"),
    ):
        assert outcome(fe.hash_ids, ids, 7) == outcome(reference.hash_ids, ids, 7) == ("raised", ValueError, text)


@examples(60)
@given(seed=st.integers(0, 2**32 - 1), key=st.integers(0, 2**32 - 1), width=st.integers(1, 70), n_rows=st.integers(1, 300))
def test_thinc_gives_the_same_bits(seed, key, width, n_rows):
    thinc = pytest.importorskip("thinc.api")
    rng = np.random.default_rng(seed)
    ops, table = thinc.NumpyOps(), floats(rng, (n_rows, width), "float32")
    ids = rng.integers(0, 2**64, 40, np.uint64)
    assert np.array_equal(fe.hash_ids(ids, n_rows, seed=key), ops.hash(ids, key) % n_rows)
    model = thinc.HashEmbed(width, n_rows, seed=key)
    model.set_param("E", table)
    with np.errstate(all="ignore"):
        assert same_bits(fe.HashEmbedding.from_pretrained(table, seed=key)(ids), model.predict(ids))
    # Its gradient is summed in another order (the first rows of all ids, then the second ones),
    # which makes no difference to whole numbers.
    layer, dout = fe.HashEmbedding.from_pretrained(table, seed=key), rng.integers(-9, 9, (40, width)).astype("f4")
    layer(ids)
    layer.backward(dout)
    _, back = model(ids, is_train=True)
    back(dout)
    assert np.array_equal(layer.dense_grads()["weight"], model.get_grad("E"))


@pytest.mark.parametrize("dtype", [*DTYPES, "float16", "bfloat16"])
@examples(30)
@given(
    seed=st.integers(0, 2**32 - 1), name=st.sampled_from(OPTIMIZERS), dropout=st.sampled_from([0.0, 0.3]),
    n_rows=st.sampled_from([1, 3, V]), trainable_rows=st.sampled_from([None, [0]]),
)  # fmt: skip
def test_layers_train_as_the_reference_does(dtype, seed, name, dropout, n_rows, trainable_rows):
    rng = np.random.default_rng(seed)
    to = np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype)
    wide = np.dtype("float64" if dtype == "float64" else "float32")
    table = rng.standard_normal((n_rows, D)).astype(to)
    options = {"seed": seed, "dropout": dropout, "dropout_seed": 5, "hash": crc, "trainable_rows": trainable_rows}
    layer = fe.HashEmbedding.from_pretrained(table.copy(), **options)
    like = reference.HashEmbedding.from_pretrained(table.astype("f8").tolist(), dtype=dtype, **options)
    optimizer = like_optimizer = None
    if name is not None:
        optimizer, like_optimizer = (getattr(of.optim, name)(to, lr=0.1) for of, to in ((fe, layer), (reference, like)))
    for shape in ((4,), (), (2, 3), (0,)):
        ids = ids_of(rng, shape)
        given_ids = ids if rng.random() < 0.7 else np.array([f"word {i}" for i in ids.flat], object).reshape(shape)
        assert layer.rows_of(given_ids).tolist() == like.rows_of(given_ids.tolist())
        (got, call), (expected, like_call) = layer.call(given_ids), like.call(given_ids.tolist())
        assert same_bits(got, np.array(expected, to).reshape(*shape, D))
        dout = rng.standard_normal(got.shape).astype(wide)
        layer.backward(dout, optimizer=optimizer)
        like.backward(dout.tolist(), optimizer=like_optimizer)
        of_call, like_of_call = ({"call": call}, {"call": like_call}) if dropout else ({"ids": ids}, {"ids": ids.tolist()})
        layer.backward(dout, **of_call, optimizer=optimizer)
        like.backward(dout.tolist(), **like_of_call, optimizer=like_optimizer)
        assert layer.grads()["weight"].ids.tolist() == like.grads()["weight"].ids
        assert same_bits(layer.grads()["weight"].rows, np.array(like.grads()["weight"].rows, wide).reshape(-1, D))
    assert same_bits(layer.weight, np.array(like.weight, to))


def test_gradients_match_finite_differences():
    layer = fe.HashEmbedding(3, 2, dtype="float64", rng=0)
    ids, c, h = np.arange(6), np.random.default_rng(1).standard_normal((6, 2)), 1e-6
    assert any(len(set(rows)) < 4 for rows in layer.rows_of(ids).tolist())  # one row several times in an id's four
    layer.backward(2 * c * layer(ids))
    dense = layer.dense_grads()["weight"]
    for index in np.ndindex(layer.weight.shape):
        value = layer.weight[index]
        layer.weight[index] = value + h
        above = (c * layer(ids) ** 2).sum()
        layer.weight[index] = value - h
        below = (c * layer(ids) ** 2).sum()
        layer.weight[index] = value
        assert abs((above - below) / (2 * h) - dense[index]) < 1e-7


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", READ_LAYOUTS)
def test_tables_and_outputs_of_every_layout(dtype, layout):
    rng = np.random.default_rng(0)
    table, ids = rng.standard_normal((V, D)).astype(dtype), ids_of(rng, (3, 4))
    expected = fe.HashEmbedding.from_pretrained(table)(ids)
    layer = fe.HashEmbedding.from_pretrained(relaid(table, layout))
    assert same_bits(layer(ids), expected)
    gaps = np.zeros((3, 8, D), dtype)[:, ::2]
    for out in (np.zeros_like(expected), gaps):
        assert layer(ids, out=out) is out
        assert same_bits(out, expected)


@pytest.mark.slow_on_reference
@pytest.mark.parametrize("n_threads", [1, 2, 3])
@pytest.mark.parametrize("width", [1, 16, 96, 131])
def test_every_instruction_set_and_number_of_threads_gives_the_same(select_isa, width, n_threads):
    rng = np.random.default_rng(0)
    ids, dout = ids_of(rng, 600), rng.standard_normal((600, width)).astype("f4")
    tables = []
    for isa in ISAS or [None]:
        select_isa(isa)
        with fe.threads(n_threads):
            layer = fe.HashEmbedding(50, width, rng=1)
            opt = fe.optim.Adagrad(layer, lr=0.1)
            x = layer(ids)
            layer.backward(dout, optimizer=opt)
            tables.append((x, layer.weight))
    expected = np.zeros((600, width), "f4")
    first = fe.HashEmbedding(50, width, rng=1)
    for rows in first.rows_of(ids).T:
        expected += first.weight[rows]
    for x, weight in tables:
        assert same_bits(x, expected)
        assert same_bits(weight, tables[0][1])


def test_dropout_drops_columns_in_train_mode_alone():
    layer = fe.HashEmbedding(50, 400, dropout=0.25, dropout_seed=3, rng=0)
    ids = np.arange(6)
    plain = layer.eval()(ids)
    layer.train()
    first, second = layer(ids), layer(ids)
    for x in (first, second):
        kept = (x != 0).all(0)
        assert ((x == 0).all(0) | kept).all()
        assert 0.65 < kept.mean() < 0.85
        assert same_bits(x[:, kept], plain[:, kept] * np.float32(1 / 0.75))
    assert not same_bits(first, second)
    layer.backward(np.ones_like(second))
    assert ((layer.dense_grads()["weight"] != 0).any(0) == (second != 0).all(0)).all()
    again = fe.HashEmbedding(50, 400, dropout=0.25, dropout_seed=3, rng=0)
    assert same_bits(again(ids), first)


def test_strings():
    layer = fe.HashEmbedding(V, D, hash=crc, rng=0)
    words = [["the", "cat"], ["sat", "Gemüse"]]
    expected = layer([[crc(word) for word in words_of] for words_of in words])
    for given_words in (words, np.array(words), np.array(words, object), tuple(map(tuple, words))):
        assert same_bits(layer(given_words), expected)
    assert same_bits(layer("cat"), expected[0, 1])
    for kind in ("U1", object):
        assert layer(np.array([], kind)).shape == (0, D)
    assert same_bits(layer([5]), fe.HashEmbedding.from_pretrained(layer.weight)([5]))
    for error, text, of, ids in (
        (TypeError, "ids must be all integers, or all strings", layer, ["a", 1]),
        (TypeError, "ids must be integers, got", layer, [1, "a"]),
        (TypeError, "ids must be all integers, or all strings", layer, [["a"], ["b", "c"]]),
        (TypeError, "ids must be integers, got", layer, [b"a"]),
        (TypeError, r"hash\('a'\) must be an integer, got 1.5", fe.HashEmbedding(V, D, hash=lambda s: 1.5), "a"),
        (ValueError, r"id \d+ at position \(1,\) does not fit", fe.HashEmbedding(V, D, hash=lambda s: 2**70 * len(s)), ["", "a"]),
        (KeyError, "b", fe.HashEmbedding(V, D, hash={"a": 1}.__getitem__), ["a", "b"]),
    ):
        with pytest.raises(error, match=text):
            of(ids)
        assert of._last_ids is None or of is layer


def test_what_is_refused_and_changes_nothing():
    for text, arguments in (
        ("num_rows must be from 1 to 2..32 - 1, got 0", {"num_rows": 0}),
        ("num_rows must be from 1 to 2..32 - 1, got 4294967296", {"num_rows": 2**32}),
        ("seed must be from 0 to 2..32 - 1, got -1", {"seed": -1}),
        ("dropout must be at least 0.0 and below 1, got 1.0", {"dropout": 1.0}),
        ("dropout_seed must be from 0 to", {"dropout_seed": -1}),
    ):
        with pytest.raises(ValueError, match=text):
            fe.HashEmbedding(**{"num_rows": V, "embedding_dim": D, **arguments})
    with pytest.raises(TypeError, match="hash must be a function, got 5"):
        fe.HashEmbedding(V, D, hash=5)
    with pytest.raises(ValueError, match="the number of rows must be from 1"):
        fe.HashEmbedding.from_pretrained(np.zeros((0, 3)))
    for name in ("num_rows", "seed"):
        with pytest.raises(TypeError, match=f"{name} must be an integer, got 1.5"):
            fe.hash_ids([1], **{"num_rows": 3, name: 1.5})
    layer = fe.HashEmbedding(V, D, rng=0)
    before, ids = layer.weight.copy(), np.arange(2 * D).reshape(2, D)
    for error, text, call in (
        (TypeError, "ids must be integers, got an array of float64", lambda: layer(np.zeros(3))),
        (TypeError, "booleans", lambda: layer([1, True])),
        (ValueError, r"out must have shape \(2, 5\)", lambda: layer([1, 2], out=np.zeros((2, 4), "f4"))),
        (TypeError, "out must be float32", lambda: layer([1, 2], out=np.zeros((2, D)))),
        (ValueError, "out must not overlap table", lambda: layer([1, 2], out=layer.weight[:2])),
        (ValueError, r"dout must have shape \(2, 5\)", lambda: layer.backward(np.zeros((2, 4)), [1, 2])),
        (RuntimeError, "backward needs ids", lambda: layer.backward(np.zeros((2, D)))),
        (ValueError, "a hashed table keeps its 13 rows", lambda: layer.resize(20)),
    ):
        with pytest.raises(error, match=text):
            call()
    memory = np.zeros(4 * D)
    overlapping = fe.HashEmbedding(V, D, dtype="float64")
    with pytest.raises(ValueError, match="out must not overlap ids"):
        overlapping(memory.view(np.int64)[:4], out=memory.reshape(4, D))
    assert same_bits(layer.weight, before)
    assert len(layer.grads()["weight"]) == 0
    assert ids.shape == (2, D)


def test_copies_state_and_eval():
    layer = fe.HashEmbedding(V, D, seed=9, hash=crc, dropout=0.5, rng=0)
    opt = fe.optim.Adam(layer, lr=0.1)
    for k in range(3):
        layer.eval().backward(np.ones((2, D), "f4"), ids=[k, k + 1], optimizer=opt)
    layer.train()(["a"])
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert repr(other) == repr(layer) == "HashEmbedding(13, 5, seed=9, dtype=float32, dropout=0.5)"
        assert same_bits(other.weight, layer.weight)
        assert same_bits(other(["b", "c"]), copy.deepcopy(layer)(["b", "c"]))
    resumed = fe.HashEmbedding(V, D, seed=9, hash=crc, dropout=0.5)
    resumed.load_state_dict(layer.state_dict())
    assert resumed.state_dict()["dropout_calls"] == 1
    assert same_bits(resumed(["b", "c"]), copy.deepcopy(layer)(["b", "c"]))
    other = fe.HashEmbedding(V, D, seed=9, hash=crc)
    other.load_state_dict({"E": layer.weight})  # thinc's name
    assert same_bits(other("x"), layer.eval()("x"))
    with pytest.raises(RuntimeError, match="backward needs ids"):
        layer.backward(np.ones((1, D)))
    frozen = fe.HashEmbedding.from_pretrained(layer.weight.copy(), freeze=True, seed=9)
    frozen.backward(np.ones((1, D), "f4"), [3], optimizer=fe.optim.SGD(frozen, lr=1.0))
    assert same_bits(frozen.weight, layer.weight)
    assert (layer.num_rows, layer.embedding_dim, layer.seed) == (V, D, 9)


def test_widths_of_none_and_empty_batches():
    layer = fe.HashEmbedding(V, 0)
    assert layer([[1, 2]]).shape == (1, 2, 0)
    layer.backward(np.zeros((1, 2, 0)))
    layer = fe.HashEmbedding(V, D)
    assert layer(np.zeros((2, 0), np.uint8)).shape == (2, 0, D)
    layer.backward(np.zeros((2, 0, D)))
    assert len(layer.grads()["weight"]) == 0


def test_strings_have_a_number_by_default():
    """That of spaCy, which is MurmurHash2 of the bytes."""
    words = ["apple", "", "Grüße aus Köln", "x" * 100]
    numbers = [reference.hashed.hash_string(word) for word in words]
    assert numbers[0] == 8566208034543834098
    assert fe.hash_ids(words, V).tolist() == fe.hash_ids(numbers, V).tolist() == reference.hash_ids(words, V)
    assert fe.hash_ids("apple", V).shape == (4,)
    assert fe.hash_ids(np.array([], "U1"), V).shape == (0, 4)
    layer = fe.HashEmbedding(V, D, rng=0)
    assert same_bits(layer([words]), layer([numbers]))
    with pytest.warns(UserWarning, match="Python's hash of strings is another one in every process: leave hash= out"):
        fe.HashEmbedding(V, D, hash=hash)


def test_the_number_of_a_string_is_that_of_spacy():
    strings = pytest.importorskip("spacy.strings")
    for n in range(40):
        word = "aé中😀-b"[: n % 7] * n
        assert not word or reference.hashed.hash_string(word) == strings.hash_string(word)
