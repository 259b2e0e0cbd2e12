"""Embedding and TokenPositionEmbedding: the reference's numbers, gradients, state, copies."""

import copy
import pickle
import threading

import numpy as np
import pytest
from common import DTYPES, lists, same_bits

import fastembed as fe
from fastembed import reference

pytestmark = pytest.mark.on_reference


def gradients(layer):
    """Ids and rows of every gradient, as lists."""
    return {name: (list(map(int, grad.ids)), np.array(grad.rows).tolist()) for name, grad in layer.grads().items()}


@pytest.mark.parametrize("dtype", DTYPES)
def test_layers_do_what_the_reference_does(dtype):
    rng = np.random.default_rng(0)
    wte, wpe = rng.standard_normal((11, 5)).astype(dtype), rng.standard_normal((7, 5)).astype(dtype)
    pair = fe.TokenPositionEmbedding.from_arrays(wte, wpe)
    single = fe.Embedding.from_pretrained(wte)
    expected_pair = reference.TokenPositionEmbedding.from_arrays(*lists(wte, wpe), dtype=dtype)
    expected_single = reference.Embedding.from_pretrained(wte.tolist(), dtype=dtype)
    assert gradients(pair) == gradients(expected_pair) == {"wte": ([], []), "wpe": ([], [])}
    for shape in ((), (6,), (3, 7), (0,), (2, 3, 4)):
        ids = np.asarray(rng.integers(0, 11, shape))
        start = int(rng.integers(0, 8 - (shape[-1] if shape else 1)))
        dout = rng.standard_normal((*shape, 5)).astype(dtype)
        assert same_bits(single(ids), np.array(expected_single(ids.tolist()), dtype).reshape(dout.shape))
        got, expected = pair(ids, start=start), expected_pair(ids.tolist(), start=start)
        assert same_bits(got, np.array(expected, dtype).reshape(dout.shape))
        for layer, like in ((single, expected_single), (pair, expected_pair)):
            layer.backward(dout)
            like.backward(dout.tolist())
            assert gradients(layer) == gradients(like)
            assert all(len(grad.ids) == len(set(grad.ids)) for grad in layer.grads().values())
    positions = rng.integers(0, 7, (2, 3))
    ids, dout = rng.integers(0, 11, (2, 3)), rng.standard_normal((2, 3, 5)).astype(dtype)
    pair.backward(dout, ids, positions)
    expected_pair.backward(*lists(dout, ids, positions))
    assert gradients(pair) == gradients(expected_pair)
    pair.zero_grad()
    assert gradients(pair) == {"wte": ([], []), "wpe": ([], [])}


def test_the_three_lines_of_microgpt():
    emb = fe.TokenPositionEmbedding(27, 8, 16, dtype="float64", rng=1)
    x = emb(4, 2)
    assert x.shape == (16,)
    assert same_bits(x, emb.wte[4] + emb.wpe[2])
    name = [26, 4, 12, 12, 0]
    assert same_bits(emb(name), emb.wte[name] + emb.wpe[:5])
    assert same_bits(emb([name, name], start=2), emb.wte[[name, name]] + emb.wpe[2:7])
    out = np.empty((5, 16))
    assert emb(name, out=out) is out


def test_gradients_match_finite_differences():
    """dL/dW of L = sum(c x^2), by central differences of the layer's own forward."""
    rng = np.random.default_rng(2)
    emb = fe.TokenPositionEmbedding(6, 5, 3, dtype="float64", rng=3)
    ids, c, h = rng.integers(0, 6, (2, 4)), rng.standard_normal((2, 4, 3)), 1e-6
    emb.backward(2 * c * emb(ids))
    for name, table in emb.state_dict().items():
        dense = emb.grads()[name].to_dense()
        assert dense.shape == table.shape
        for index in np.ndindex(table.shape):
            value = table[index]
            table[index] = value + h
            above = (c * emb(ids) ** 2).sum()
            table[index] = value - h
            below = (c * emb(ids) ** 2).sum()
            table[index] = value
            assert abs((above - below) / (2 * h) - dense[index]) < 1e-8


def test_initialisation_is_reproducible():
    for make in (lambda **k: fe.Embedding(5000, 3, **k), lambda **k: fe.TokenPositionEmbedding(5000, 7, 3, **k)):
        first, second = make(rng=7).state_dict(), make(rng=np.random.default_rng(7)).state_dict()
        assert all(same_bits(first[name], second[name]) for name in first)
        wide = make(rng=7, dtype="float64").state_dict()
        assert all(same_bits(first[name], wide[name].astype("f4")) for name in first)
        assert not same_bits(make(rng=8).state_dict().popitem()[1], first.popitem()[1])
    assert 0.9 < fe.Embedding(1000, 10, rng=0).weight.std() < 1.1
    assert 0.015 < fe.TokenPositionEmbedding(1000, 10, 10, rng=0).wte.std() < 0.025
    assert 0.4 < fe.Embedding(1000, 10, rng=0, std=0.5).weight.std() < 0.6


def test_from_arrays_copies_nothing():
    wte, wpe = np.zeros((5, 2), "f4"), np.zeros((3, 2), "f4")
    emb = fe.TokenPositionEmbedding.from_arrays(wte, wpe)
    assert emb.wte is wte
    assert emb.parameters()[1] is wpe
    assert fe.Embedding.from_pretrained(wte).weight is wte
    with pytest.raises(TypeError, match="wpe must have the dtype of wte"):
        fe.TokenPositionEmbedding.from_arrays(wte, wpe.astype("f8"))
    with pytest.raises(ValueError, match=r"wpe must have shape \(rows, 2\)"):
        fe.TokenPositionEmbedding.from_arrays(wte, wpe[:, :1])
    frozen = np.zeros((4, 2))
    frozen.flags.writeable = False
    assert fe.Embedding.from_pretrained(frozen)([1, 3]).shape == (2, 2)


def test_train_keeps_ids_and_eval_keeps_none():
    layer = fe.Embedding(4, 2, rng=0)
    with pytest.raises(RuntimeError, match="backward needs ids"):
        layer.backward(np.zeros((1, 2)))
    assert layer.eval() is layer
    layer([1])
    with pytest.raises(RuntimeError, match="backward needs ids"):
        layer.backward(np.zeros((1, 2)))
    layer.backward(np.ones((1, 2)), ids=[3])
    assert layer.train() is layer
    layer([1])
    layer.backward(np.ones((1, 2)))
    assert layer.grads()["weight"].ids.tolist() == [1, 3]
    pair = fe.TokenPositionEmbedding(4, 4, 2, rng=0)
    with pytest.raises(ValueError, match="require ids"):
        pair.backward(np.zeros(2), start=1)


def test_errors_leave_gradients_as_they_were():
    pair = fe.TokenPositionEmbedding(4, 3, 2, dtype="float64", rng=0)
    pair.backward(np.ones((2, 2)), [1, 3])
    before = gradients(pair)
    for error, dout, ids in (
        (IndexError, np.ones((2, 2)), [1, 4]),
        (IndexError, np.ones((4, 2)), [1, 1, 1, 1]),
        (ValueError, np.ones((3, 2)), [1, 1]),
        (TypeError, np.ones((2, 2), complex), [1, 1]),
        (TypeError, np.ones((2, 2)), [1.0, 1.0]),
    ):
        with pytest.raises(error):
            pair.backward(dout, ids)
        assert gradients(pair) == before


def test_state_round_trips():
    emb = fe.TokenPositionEmbedding(5, 3, 2, rng=0)
    state = {name: table.copy() for name, table in emb.state_dict().items()}
    other = fe.TokenPositionEmbedding(5, 3, 2, rng=1)
    tables = other.parameters()
    for prefix, suffix in (("", ""), ("", ".weight"), ("transformer.", ".weight")):
        for table in tables:
            table[...] = 0
        other.load_state_dict({f"{prefix}{name}{suffix}": table for name, table in state.items()})
        assert same_bits(other.wte, state["wte"])
        assert same_bits(other.wpe, state["wpe"])
        assert other.wte is tables[0]


def test_a_state_that_does_not_fit_changes_nothing():
    emb = fe.TokenPositionEmbedding(5, 3, 2, rng=0)
    before = pickle.dumps(emb.state_dict())
    good = {"wte": np.zeros((5, 2)), "wpe": np.zeros((3, 2))}
    for error, text, state in (
        (KeyError, r"missing names \['wpe'\]", {"wte": good["wte"]}),
        (KeyError, r"unexpected names \['bias'\]", {**good, "bias": np.zeros(2)}),
        (KeyError, "wte is there twice", {**good, "wte.weight": good["wte"]}),
        (ValueError, r"wpe must have shape \(3, 2\), got \(4, 2\)", {**good, "wpe": np.zeros((4, 2))}),
        (TypeError, "wpe must be numbers that convert to float32", {**good, "wpe": np.zeros((3, 2), complex)}),
    ):
        with pytest.raises(error, match=text):
            emb.load_state_dict(state)
        assert pickle.dumps(emb.state_dict()) == before
    emb.load_state_dict({"wpe": good["wpe"], "bias": 0}, strict=False)
    assert not emb.wpe.any()
    assert emb.wte.any()


def test_a_state_of_the_layers_own_tables():
    emb = fe.TokenPositionEmbedding.from_arrays(np.ones((2, 2)), np.zeros((2, 2)))
    emb.load_state_dict({"wte": emb.wpe, "wpe": emb.wte})
    assert not emb.wte.any()
    assert emb.wpe.all()
    for odd in (None, [1], {0: np.ones((2, 2))}):
        with pytest.raises(TypeError, match="state must be a mapping of names to arrays"):
            emb.load_state_dict(odd)


def test_copies_and_pickles():
    emb = fe.TokenPositionEmbedding(5, 3, 2, rng=0)
    emb.backward(np.ones((2, 2)), [1, 1])
    for twin in (copy.deepcopy(emb), pickle.loads(pickle.dumps(emb))):
        assert same_bits(twin.wte, emb.wte)
        assert gradients(twin) == gradients(emb)
        twin.wte[...] = 0
        twin.backward(np.ones((1, 2)), [4])
        assert emb.wte.any()
        assert emb.grads()["wte"].ids.tolist() == [1]
        assert same_bits(twin([0, 1]), twin.wpe[:2])
    shallow = copy.copy(emb)
    assert shallow.wte is emb.wte
    shallow.backward(np.ones((1, 2)), [4])
    assert emb.grads()["wte"].ids.tolist() == [1]


def test_a_deep_copy_waits_for_the_step_of_another_thread():
    emb, copies = fe.Embedding(5, 3, rng=0), []
    thread = threading.Thread(target=lambda: copies.append(copy.deepcopy(emb)))
    with emb.lock:
        thread.start()
        thread.join(0.2)
        assert not copies
        emb.weight[...] = 7
    thread.join()
    assert (copies[0].weight == 7).all()


def test_short_representations():
    assert repr(fe.TokenPositionEmbedding(27, 8, 16)) == "TokenPositionEmbedding(27, 8, 16, dtype=float32)"
    assert repr(fe.Embedding(5, 3, dtype="float64")) == "Embedding(5, 3, dtype=float64)"
    assert repr(fe.Embedding(5, 3).grads()["weight"]) == "RowGrad(0 of 5 rows, 3 columns, dtype=float32)"
    assert repr(fe.Parameter(np.zeros((2, 3)))) == "Parameter(shape=(2, 3), dtype=float64)"


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        ((-1, 2), {}, ValueError, "num_embeddings must be from 0 to 2..63 - 1, got -1"),
        ((2, 1.5), {}, TypeError, "embedding_dim must be an integer, got 1.5"),
        ((2, 3), {"dtype": "int16"}, TypeError, "dtype must be float32, float64, float16 or bfloat16, got int16"),
        ((2**70, 3), {}, ValueError, "num_embeddings must be from 0 to 2..63 - 1"),
        ((True, 3), {}, TypeError, "num_embeddings must be an integer, got True"),
        ((2, 3), {"std": float("nan")}, ValueError, "std must be from 0.0"),
        ((2, 3), {"std": "wide"}, TypeError, "std must be a number, got 'wide'"),
        ((2, 3), {"dtype": None}, TypeError, "dtype must be float32, float64, float16 or bfloat16, got None"),
        ((2, 3), {"dtype": "nonsense"}, TypeError, "dtype must be float32, float64, float16 or bfloat16, got 'nonsense'"),
        ((2, 3), {"rng": "x"}, TypeError, "rng must be a generator, a seed or None, got 'x'"),
        ((2, 3), {"rng": -1}, ValueError, "rng must be a generator, a seed or None, got -1"),
        ((2, 3), {"rng": [[1], [1, 2]]}, ValueError, "rng must have one shape"),
    ],
)
def test_bad_arguments(arguments, options, error, text):
    with pytest.raises(error, match=text):
        fe.Embedding(*arguments, **options)


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_a_matrix_that_seeds_does_not_kill_the_process():
    """NumPy goes through one row by row, and each row is a matrix again."""
    expected = fe.Embedding(4, 3, rng=np.random.default_rng([1, 2])).weight
    for seed in ([1, 2], [[1, 2]], np.array([[1], [2]]), np.matrix([[1, 2]]), [np.matrix([[1, 2]])]):
        assert same_bits(fe.Embedding(4, 3, rng=seed).weight, expected)
        assert fe.TokenPositionEmbedding(4, 3, 2, rng=seed).wte.shape == (4, 2)


def test_what_must_be_a_boolean_or_a_name():
    table = np.ones((4, 3))
    layer = fe.Embedding.from_pretrained(table)
    for call, error, text in (
        (lambda: fe.Embedding.from_pretrained(table, [1, 2]), TypeError, "freeze must be True or False"),
        (lambda: fe.EmbeddingBag.from_pretrained(table, np.ones(2)), TypeError, "freeze must be True or False"),
        (lambda: layer.train(np.ones(2)), TypeError, "mode must be True or False"),
        (lambda: layer.load_state_dict({"weight": table}, strict=np.ones(2)), TypeError, "strict must be True or False"),
        (lambda: layer.resize(5, table=["weight"]), KeyError, r"table must be one of \['weight'\], got \['weight'\]"),
        (lambda: fe.TokenPositionEmbedding.from_arrays(table, None), TypeError, "wpe must be float32"),
        (lambda: layer([[1, 2], [3]]), ValueError, "ids must have one shape"),
        (lambda: layer.backward([[1.0], [1.0, 2.0]], [0, 1]), ValueError, "dout must have one shape"),
    ):
        with pytest.raises(error, match=text):
            call()
    assert layer.training is True
    assert layer.num_embeddings == 4


def test_options_are_shown():
    assert repr(fe.optim.Adam(fe.Embedding(4, 2), lr=0.1)).startswith("Adam(1 item, lr=0.1, ")
    layer = fe.Embedding(4, 2, max_norm=1.5, norm_type=1, scale_grad_by_freq=True)
    assert (layer.max_norm, layer.norm_type, layer.scale_grad_by_freq) == (1.5, 1.0, True)
    assert fe.EmbeddingBag(4, 2, include_last_offset=True).include_last_offset is True
    pair = fe.TokenPositionEmbedding(4, 3, 2, n_types=2)
    assert pair.wtype is pair.state_dict()["wtype"]
    assert fe.TokenPositionEmbedding(4, 3, 2).wtype is None


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "transformer.", "model.", "module._orig_mod.transformer."])
def test_loading_says_what_it_left_out(prefix):
    emb = fe.TokenPositionEmbedding(3, 2, 2, dropout=0.5, rng=0)
    wte = np.full((3, 2), 5.0)
    state = {f"{prefix}wte.weight": wte, f"{prefix}wte.lookups": np.arange(3), f"{prefix}dropout_calls": 7, "lm_head.weight": 0}
    left_out = emb.load_state_dict(state, strict=False)
    assert left_out == (["wpe"], ["lm_head.weight"])
    assert (left_out.missing_keys, left_out.unexpected_keys) == left_out
    assert np.array_equal(emb.wte, wte)
    assert emb.state_dict()["dropout_calls"] == 7
    assert emb.lookup_counts()["wte"].tolist() == [0, 1, 2]
    like = fe.reference.TokenPositionEmbedding(3, 2, 2)
    assert like.load_state_dict({"wte": wte.tolist(), "lm_head": 0}, strict=False) == (["wpe"], ["lm_head"])
    complete = {f"{prefix}{name}": table for name, table in emb.state_dict().items()}
    assert emb.load_state_dict(complete) == ([], [])
    with pytest.raises(KeyError, match="wte is there twice"):
        emb.load_state_dict(complete | {f"model.{prefix}wte": wte})
