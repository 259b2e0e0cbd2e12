"""EmbeddingBag: training as the reference does, against PyTorch, and errors that change nothing."""

import halves
import numpy as np
import pytest
from common import DTYPES, READ_LAYOUTS, examples, lists, relaid, same_bits
from drawn_bags import MODES, D, V, draw_bags, draw_weights
from hypothesis import given
from hypothesis import strategies as st
from optimizers import MAKE

import fastembed as fe
from fastembed import reference

pytestmark = pytest.mark.on_reference

LAYER_OPTIONS = st.fixed_dictionaries(
    {
        "padding_idx": st.sampled_from([None, 0, -2]),
        "max_norm": st.sampled_from([None, 3.0]),
        "max_norm_in_place": st.booleans(),
        "scale_grad_by_freq": st.booleans(),
        "trainable_rows": st.sampled_from([None, [0, 2, 3]]),
    }
)

OPTIMIZERS = (*MAKE, None)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
@examples(25)
@given(options=LAYER_OPTIONS, seed=st.integers(0, 2**32 - 1), name=st.sampled_from(OPTIMIZERS))
def test_layers_train_as_the_reference_does(dtype, mode, options, seed, name):
    rng = np.random.default_rng(seed)
    options = options | {"mode": mode, "scale_grad_by_freq": options["scale_grad_by_freq"] and mode != "max"}
    table = rng.standard_normal((V, D)).astype(dtype)
    layer = fe.EmbeddingBag.from_pretrained(table.copy(), **options)
    like = reference.EmbeddingBag.from_pretrained(table.tolist(), dtype=dtype, **options)
    if name is None:
        optimizer = like_optimizer = None
    else:
        optimizer, like_optimizer = (
            getattr(optim, name)(of, lr=0.1) for of, optim in ((layer, fe.optim), (like, reference.optim))
        )
    for _ in range(3):
        ids, offsets, _ = draw_bags(rng)
        weights = draw_weights(rng, ids, mode, dtype)
        got, expected = layer(ids, offsets, weights), like(*lists(ids, offsets, weights))
        assert same_bits(got, np.array(expected, dtype).reshape(got.shape))
        dout = rng.standard_normal(got.shape).astype(dtype)
        layer.backward(dout, optimizer=optimizer)
        like.backward(dout.tolist(), optimizer=like_optimizer)
        assert (layer.per_sample_weights_grad is None) == (weights is None)
        if weights is not None:
            assert same_bits(layer.per_sample_weights_grad, np.array(like.per_sample_weights_grad, dtype).reshape(ids.shape))
        assert layer.grads()["weight"].ids.tolist() == like.grads()["weight"].ids
        assert same_bits(layer.grads()["weight"].rows, np.array(like.grads()["weight"].rows, dtype).reshape(-1, D))
    assert same_bits(layer.weight, np.array(like.weight, dtype))


@examples(100)
@given(seed=st.integers(0, 2**32 - 1), mode=st.sampled_from(("sum", "mean", "max")), padding=st.sampled_from([None, 0, -1]))
def test_pytorch_agrees(seed, mode, padding):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    ids, offsets, include_last = draw_bags(rng, n_ids=int(rng.integers(1, 30)))
    offsets = offsets.astype(np.int64)
    if include_last:
        offsets = np.append(offsets, len(ids))
    weights = rng.standard_normal(len(ids)) if mode == "sum" and rng.random() < 0.5 else None
    table = rng.standard_normal((V, D))
    layer = fe.EmbeddingBag.from_pretrained(table.copy(), mode=mode, padding_idx=padding, include_last_offset=include_last)
    other = torch.nn.EmbeddingBag.from_pretrained(
        torch.tensor(table), freeze=False, mode=mode, padding_idx=padding, include_last_offset=include_last
    )
    of_weights = None if weights is None else torch.tensor(weights, requires_grad=True)
    expected = other(torch.from_numpy(ids), torch.from_numpy(offsets), of_weights)
    got = layer(ids, offsets, weights)
    assert np.allclose(got, expected.detach().numpy(), rtol=1e-12, atol=1e-14)
    dout = rng.standard_normal(got.shape)
    expected.backward(torch.from_numpy(dout))
    layer.backward(dout)
    assert np.allclose(layer.dense_grads()["weight"], other.weight.grad.numpy(), rtol=1e-12, atol=1e-14)
    if weights is not None:
        assert np.allclose(layer.per_sample_weights_grad, of_weights.grad.numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("layout", READ_LAYOUTS)
def test_weights_of_every_layout(layout):
    rng = np.random.default_rng(0)
    table, weights, ids = rng.standard_normal((5, 3)), rng.standard_normal((2, 4)), rng.integers(0, 5, (2, 4))
    given = relaid(weights, layout)
    bag, same = (fe.EmbeddingBag.from_pretrained(table.copy(), mode="sum") for _ in range(2))
    packed = fe.QuantizedEmbedding.from_float(table)
    assert same_bits(bag(ids, per_sample_weights=given), same(ids, per_sample_weights=weights))
    assert same_bits(
        packed.bag(ids, mode="sum", per_sample_weights=given), packed.bag(ids, mode="sum", per_sample_weights=weights)
    )
    for layer in (bag, same):
        layer.backward(np.ones((2, 3)))
    assert same_bits(bag.grads()["weight"].rows, same.grads()["weight"].rows)
    assert same_bits(bag.per_sample_weights_grad, same.per_sample_weights_grad)


def test_an_error_in_a_step_changes_nothing():
    layer = fe.EmbeddingBag(5, 3, max_norm=0.1, mode="sum", rng=0)
    optimizer = fe.optim.Adam(layer)
    layer([0, 1], [0], [1.0, 2.0])
    before = layer.weight.copy()
    for call in (
        lambda: layer([0, 5], [0]),
        lambda: layer([2, 3], [0], out=np.empty((2, 3), "f4")),
        lambda: layer.backward(np.ones((2, 3), "f4"), optimizer=optimizer),
        lambda: layer.backward(np.ones((1, 3), "f4"), [1], [0, 2], optimizer=optimizer),
        lambda: layer.backward(np.ones((1, 3), "f4"), offsets=[0]),
    ):
        with pytest.raises((ValueError, IndexError)):
            call()
    assert same_bits(layer.weight, before)
    assert optimizer.state_dict()["items"][0]["step"] == 0
    assert layer.per_sample_weights_grad is None
    layer.eval()
    with pytest.raises(RuntimeError, match="backward needs ids"):
        layer.backward(np.ones((1, 3)))
    assert repr(layer) == f"EmbeddingBag(5, 3, mode=sum, dtype=float32, max_norm={0.1})"


def test_bags_of_different_lengths():
    table = np.random.default_rng(0).normal(size=(5, 2))
    bags, weights = [[1, 2, 2], [], (3,), np.array([0, 4])], [[0.5, 1.0, 2.0], [], [3.0], np.array([1.5, 2.5])]
    flat, offsets = [1, 2, 2, 3, 0, 4], [0, 3, 3, 4]
    for options, nested in (({}, None), ({"per_sample_weights": [0.5, 1.0, 2.0, 3.0, 1.5, 2.5]}, weights)):
        for mode in ("sum", "mean"):
            expected = fe.embedding_bag(table, flat, offsets, mode=mode, **options)
            assert same_bits(fe.embedding_bag(table, bags, mode=mode, per_sample_weights=nested), expected)
            assert same_bits(fe.embedding_bag(table, flat, lengths=[3, 0, 1, 2], mode=mode, **options), expected)
            lists = [[int(i) for i in bag] for bag in bags]
            weights_of_all = options.get("per_sample_weights")
            assert (
                reference.embedding_bag(table.tolist(), lists, mode=mode, per_sample_weights=weights_of_all) == expected.tolist()
            )
    layers = [fe.EmbeddingBag.from_pretrained(table.copy(), include_last_offset=last) for last in (False, True)]
    for layer in layers:
        assert same_bits(layer(bags), layer(flat, lengths=[3, 0, 1, 2]))
        layer.backward(np.ones((4, 2)))
        first = layer.grads()["weight"].to_dense()
        layer.zero_grad()
        layer(bags)
        layer.backward(np.ones((4, 2)))
        assert same_bits(layer.grads()["weight"].to_dense(), first)
        layer.zero_grad()
        layer.backward(np.ones((4, 2)), flat, lengths=[3, 0, 1, 2])
        assert same_bits(layer.grads()["weight"].to_dense(), first)
    for error, text, call in (
        (IndexError, r"id 5 at position \(2,\) is out of range", lambda: layers[0]([[1, 2], [5]])),
        (ValueError, "offsets and lengths exclude each other", lambda: layers[0](flat, offsets, lengths=[6])),
        (ValueError, "lengths must be of 1 axis, at least 0, and make the 6 ids, got", lambda: layers[0](flat, lengths=[3, 2])),
        (ValueError, "lengths must be of 1 axis, at least 0", lambda: layers[0](flat, lengths=[7, -1])),
        (ValueError, "lengths require ids of 1 axis", lambda: layers[0]([[1, 2]], lengths=[2])),
        (ValueError, "offsets must be given, or lengths, unless ids have 2 axes", lambda: layers[0](flat)),
        (ValueError, "per_sample_weights .* got 1 for the 3 of bag 0", lambda: layers[0](bags, None, [[1.0], [], [1.0], [1.0]])),
        (ValueError, "per_sample_weights .* got 0 for the 2 of bag 3", lambda: layers[0](bags, None, [[1.0] * 3, [], [1.0]])),
        (ValueError, "offsets, lengths and per_sample_weights require ids", lambda: layers[0].backward([[1.0]], lengths=[1])),
    ):
        with pytest.raises(error, match=text):
            call()


def test_bags_in_an_array_of_objects():
    """As a column of pandas gives them."""
    layer = fe.EmbeddingBag(6, 2, mode="sum", rng=0)
    for bags in ([[0, 1], [2]], [[0, 1], [2, 3]], [[], []]):
        column, weights = np.empty(len(bags), object), np.empty(len(bags), object)
        column[:], weights[:] = bags, [np.full(len(bag), 2.0) for bag in bags]
        assert same_bits(layer(column), layer(bags))
        assert same_bits(layer(column, per_sample_weights=weights), 2 * layer(bags))
        layer.backward(np.ones((2, 2)), column)
    assert layer(np.empty(0, object)).shape == (0, 2)
    with pytest.raises(TypeError, match="ids must be integers, got an array of object"):
        layer(np.array([0, "a"], object), [0])


def test_names_of_a_vocabulary_are_ids():
    layer = fe.EmbeddingBag(4, 2, mode="sum", rng=0)
    layer.vocabulary = fe.Vocabulary(["a", "b", "c", "?"], unk="?")
    bags, ids = [["a", "c"], [], ["b", "nothing", "a"]], [[0, 2], [], [1, 3, 0]]
    assert layer(bags).tobytes() == layer(ids).tobytes()
    x, call = layer.call([["a", "b"], ["c", "c"]])
    assert x.tobytes() == layer([[0, 1], [2, 2]]).tobytes()
    assert layer(np.array(["a", "b", "c"]), [0, 1]).tobytes() == layer([0, 1, 2], [0, 1]).tobytes()
    layer.backward(np.ones((2, 2)), call=call)
    assert layer.grads()["weight"].rows.tolist() == [[1, 1], [1, 1], [2, 2]]
    layer.zero_grad()
    layer.backward([[1.0, 2.0]], [["b"]])
    assert layer.grads()["weight"].ids.tolist() == [1]
    layer.vocabulary = ["a", "b", "c", "d"]
    with pytest.raises(KeyError, match=r"name 'x' at position .1, 1. is not one of the 4 of the vocabulary"):
        layer([["a"], ["a", "x"]])
    with pytest.raises(TypeError, match="ids must be integers, got strings: layer"):
        fe.EmbeddingBag(4, 2)([["a"]])


def test_positions_of_names_in_bags_are_those_of_ids():
    words = fe.EmbeddingBag(3, 2, rng=0)
    words.vocabulary = ["a", "b", "c"]
    for bags in ([["a", "b"], ["c", "z"]], [["a"], ["c", "z", "b"]]):
        with pytest.raises(KeyError, match=r"name 'z' at position \(1, 1\)"):
            words(bags)
    for unk in (None, "a"):
        words.vocabulary = fe.Vocabulary(["a", "b", "c"], unk=unk)
        with pytest.raises(TypeError, match=r"names must be strings, got 7 at position \(1, 2\)"):
            words([["a"], ["c", "b", 7]])


def test_a_list_of_no_bags_has_no_rows():
    layer = fe.EmbeddingBag(3, 2, rng=0)
    assert layer([]).shape == layer((), per_sample_weights=None).shape == (0, 2)
    assert fe.functional.bags.embedding_bag(layer.weight, []).shape == (0, 2)
    layer.backward(np.empty((0, 2)), [])
    assert len(layer.grads()["weight"].ids) == 0


def test_names_for_a_layer_of_ids_say_where_ids_are():
    for layer in (fe.Embedding(3, 2), fe.TokenPositionEmbedding(3, 2, 2)):
        layer.vocabulary = ["a", "b", "c"]
        with pytest.raises(TypeError, match=r"got strings: layer\[names\] has the rows of names, layer\.vocabulary"):
            layer(["a"])


@pytest.mark.parametrize("dtype", halves.HALVES)
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags_of_one_item_of_halves_are_their_rows(dtype, mode):
    """Rows that are rescaled are float32, and the result is halves."""
    table = np.random.default_rng(0).standard_normal((50, 33))
    ids = np.random.default_rng(1).integers(0, 50, 300)
    rows = fe.Embedding.from_pretrained(table.astype(halves.DTYPE[dtype]), max_norm=2.0, max_norm_in_place=False)(ids)
    bags = fe.EmbeddingBag.from_pretrained(table.astype(halves.DTYPE[dtype]), mode=mode, max_norm=2.0, max_norm_in_place=False)
    assert same_bits(bags(ids[:, None]), rows)
