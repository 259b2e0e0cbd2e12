"""Bags: every combination of options against the reference to the bit, against PyTorch, and what must be refused."""

import numpy as np
import pytest
from common import BOUNDS, DTYPES, ID_DTYPES, READ_LAYOUTS, assert_same, floats, lists, on_threads, outcome, relaid, same_bits
from hypothesis import given, settings
from hypothesis import strategies as st

import fastembed as fe
from fastembed import reference

MODES = ("sum", "mean", "sqrtn", "max")
V, D = 9, 37


def draw_bags(rng, n_ids=None):
    """Ids and offsets of bags of many sizes, empty ones too; or ids in two axes and no offsets; and include_last_offset."""
    if n_ids is None and rng.random() < 0.3:
        return rng.integers(0, V, (int(rng.integers(1, 6)), int(rng.integers(0, 6)))), None, bool(rng.random() < 0.5)
    n_ids = int(rng.integers(0, 30)) if n_ids is None else n_ids
    ends = np.sort(rng.integers(0, n_ids + 1, int(rng.integers(0, 8))))
    return rng.integers(0, V, n_ids), np.concatenate(([0], ends)).astype(rng.choice(ID_DTYPES)), bool(rng.random() < 0.5)


def draw_weights(rng, ids, mode, dtype):
    return None if mode == "max" or rng.random() < 0.5 else rng.standard_normal(ids.shape).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), bounds=st.sampled_from(BOUNDS), layout=st.sampled_from(READ_LAYOUTS))
def test_forward_and_backward_are_the_reference(dtype, mode, seed, bounds, layout):
    rng = np.random.default_rng(seed)
    table = floats(rng, (V, D), dtype)
    ids, offsets, include_last = draw_bags(rng)
    if rng.random() < 0.3 and ids.size:
        ids.reshape(-1)[rng.integers(0, ids.size)] = rng.choice([-1, V, 100])
    options = {"mode": mode, "padding_idx": rng.choice([None, 2, -1]), "include_last_offset": include_last, "bounds": bounds}
    weights = draw_weights(rng, ids, mode, dtype)
    n_bags = len(ids) if offsets is None else len(offsets) - include_last
    given_table, given_ids = relaid(table, layout), relaid(ids, layout)
    got = outcome(fe.embedding_bag, given_table, given_ids, offsets, per_sample_weights=weights, **options)
    expected = outcome(
        reference.embedding_bag, *lists(table, ids, offsets), per_sample_weights=lists(weights)[0], dtype=dtype, **options
    )
    assert_same(got, expected, dtype, (n_bags, D))
    if got[0] == "raised":
        return
    dout, start = floats(rng, (n_bags, D), dtype), rng.standard_normal((V, D)).astype(dtype)
    by_frequency = mode != "max" and bool(rng.random() < 0.5)
    dtable, expected_rows = start.copy(), start.tolist()
    with np.errstate(all="ignore"):
        of_weights = fe.embedding_bag_backward(
            relaid(dout, layout), given_ids, dtable, offsets, per_sample_weights=weights, scale_grad_by_freq=by_frequency,
            table=given_table, **options,
        )  # fmt: skip
    expected_weights = reference.embedding_bag_backward(
        dout.tolist(), ids.tolist(), expected_rows, lists(offsets)[0], per_sample_weights=lists(weights)[0],
        scale_grad_by_freq=by_frequency, table=table.tolist(), dtype=dtype, **options,
    )  # fmt: skip
    assert same_bits(dtable, np.array(expected_rows, dtype))
    assert (of_weights is None) == (weights is None)
    if weights is not None:
        assert same_bits(of_weights, np.array(expected_weights, dtype).reshape(ids.shape))


LAYER_OPTIONS = st.fixed_dictionaries(
    {
        "padding_idx": st.sampled_from([None, 0, -2]),
        "max_norm": st.sampled_from([None, 3.0]),
        "max_norm_in_place": st.booleans(),
        "scale_grad_by_freq": st.booleans(),
        "trainable_rows": st.sampled_from([None, [0, 2, 3]]),
    }
)
OPTIMIZERS = ("SGD", "Adagrad", "RowWiseAdagrad", "Adam", "AdamW", "SparseAdam", None)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=25, deadline=None)
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


@on_threads
@pytest.mark.parametrize("dtype", DTYPES)
def test_long_bags_on_any_number_of_threads(dtype):
    """Bags that span several blocks of ids, at widths around the vectors' and tiles', against NumPy's sums in order."""
    rng = np.random.default_rng(0)
    for width in (1, 3, 8, 16, 33, 64, 128, 131, 300):
        table = rng.standard_normal((500, width)).astype(dtype)
        ids = rng.integers(0, 500, 9_000)
        offsets = np.sort(np.concatenate(([0, 0, 1024, 2048, 2049, 8_000], rng.integers(0, 9_000, 40))))
        dout = rng.standard_normal((len(offsets), width)).astype(dtype)
        expected = np.zeros((len(offsets), width), dtype)
        of_each = np.searchsorted(offsets, np.arange(9_000), side="right") - 1
        np.add.at(expected, of_each[ids != 7], table[ids[ids != 7]])
        results = {}
        for n in (1, 2, 3, 8):
            with fe.threads(n):
                assert same_bits(fe.embedding_bag(table, ids, offsets, mode="sum", padding_idx=7), expected)
                largest = fe.embedding_bag(table, ids, offsets, mode="max")
                dtable = np.zeros_like(table)
                fe.embedding_bag_backward(dout, ids, dtable, offsets, mode="max", table=table)
                weights = fe.embedding_bag_backward(
                    dout, ids, dtable, offsets, mode="mean", table=table, per_sample_weights=rng.random(9_000)
                )
                results[n] = (largest, dtable)
                assert weights.shape == ids.shape
        assert all(same_bits(results[n][0], results[1][0]) for n in results)
        begins, ends = offsets, np.append(offsets[1:], 9_000)
        for b, (begin, end) in enumerate(zip(begins, ends, strict=True)):
            assert same_bits(results[1][0][b], table[ids[begin:end]].max(0) if end > begin else np.zeros(width, dtype))


@settings(max_examples=100, deadline=None)
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


def test_what_pytorch_gets_wrong():
    layer = fe.EmbeddingBag.from_pretrained(np.zeros((4, 1)), mode="sum", scale_grad_by_freq=True)
    layer.backward([[1.0]], [1, 1, 3], [0])
    assert layer.dense_grads()["weight"].ravel().tolist() == [0.0, 1.0, 0.0, 1.0]
    table = np.arange(1.0, 5.0)[:, None]
    assert fe.embedding_bag(table, [0, 1, 2], [0, 2], mode="sum", include_last_offset=True).tolist() == [[3.0]]
    assert fe.embedding_bag(table, [0, 1, 2], [0, 2, 3], mode="sum", include_last_offset=True).tolist() == [[3.0], [3.0]]


def test_a_maximum_belongs_to_the_first_that_has_it():
    table = np.array([[1.0, 5.0, np.nan], [1.0, 7.0, 2.0], [0.5, 7.0, 9.0]])
    assert same_bits(fe.embedding_bag(table, [[0, 1, 2]], mode="max"), np.array([[1.0, 7.0, np.nan]]))
    assert same_bits(fe.embedding_bag(table, [[1, 0, 2]], mode="max"), np.array([[1.0, 7.0, 9.0]]))
    layer = fe.EmbeddingBag.from_pretrained(table, mode="max")
    layer([[0, 1, 2], [2, 1, 2]])
    layer.backward([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]])
    assert layer.dense_grads()["weight"].tolist() == [[1.0, 0.0, 4.0], [8.0, 2.0, 0.0], [0.0, 16.0, 32.0]]


def test_a_maximum_leaves_alone_what_has_not_won():
    table, dtable = np.array([[1.0, 2.0], [0.0, 3.0]]), np.full((2, 2), -0.0)
    like = dtable.tolist()
    fe.embedding_bag_backward([[4.0, 5.0]], [[0, 1]], dtable, mode="max", table=table)
    reference.embedding_bag_backward([[4.0, 5.0]], [[0, 1]], like, mode="max", table=table.tolist())
    assert same_bits(dtable, np.array([[4.0, -0.0], [-0.0, 5.0]]))
    assert same_bits(dtable, np.array(like))


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


TABLE = np.ones((5, 3))


@pytest.mark.parametrize(
    ("ids", "offsets", "options", "error", "text"),
    [
        ([0, 1], None, {}, ValueError, "offsets must be given"),
        ([[0, 1]], [0], {}, ValueError, "offsets go with ids of 1 axis"),
        ([0, 1], [1], {}, ValueError, "offsets must start at 0, got 1"),
        ([0, 1], [0, 3], {}, ValueError, "offsets must lie within the 2 ids, got 3 at position 1"),
        ([0, 1], [0, -1], {}, ValueError, "offsets must lie within the 2 ids, got -1 at position 1"),
        ([0, 1], [0, 2**70], {}, ValueError, f"offsets must lie within the 2 ids, got {2**70} at position 1"),
        ([0, 1], [-(2**70), 0], {}, ValueError, f"offsets must lie within the 2 ids, got -{2**70} at position 0"),
        ([0, 2**70], [0, 1], {}, IndexError, rf"id {2**70} at position \(1,\) is out of range"),
        ([0, 1], [0, 2, 1], {}, ValueError, "offsets must not decrease, got 1 at position 2 after 2"),
        ([0, 1], [], {}, ValueError, "offsets must start at 0, got none"),
        ([], [], {"include_last_offset": True}, ValueError, "offsets must start at 0"),
        ([0, 1], [[0]], {}, ValueError, "offsets must have 1 axis"),
        ([0, 1], [0.0], {}, TypeError, "offsets must be integers"),
        ([0, 1], [False], {}, TypeError, "offsets must be integers"),
        ([0, 5], [0], {}, IndexError, r"id 5 at position \(1,\) is out of range for a table of 5 rows"),
        ([0, -1], [0, 1], {"include_last_offset": True}, IndexError, r"id -1 at position \(1,\)"),
        ([0, 1], [0], {"mode": "avg"}, ValueError, "mode must be one of"),
        ([0, 1], [0], {"padding_idx": 5}, ValueError, "padding_idx must be from -5 to 4"),
        ([0, 1], [0], {"per_sample_weights": [1.0]}, ValueError, "per_sample_weights must have shape"),
        ([0, 1], [0], {"per_sample_weights": [1j, 1]}, TypeError, "per_sample_weights must be numbers"),
        ([0, 1], [0], {"per_sample_weights": [1.0, 1.0], "mode": "max"}, ValueError, "per_sample_weights go with"),
        ([0, 1], [0], {"include_last_offset": 1}, TypeError, "include_last_offset must be True or False"),
    ],
)
def test_what_is_refused(ids, offsets, options, error, text):
    out, dtable, dout = np.full((1, 3), 7.0), np.zeros((5, 3)), np.ones((1, 3))
    with pytest.raises(error, match=text):
        fe.embedding_bag(TABLE, ids, offsets, out=out, **options)
    with pytest.raises(error, match=text):
        fe.embedding_bag_backward(dout, ids, dtable, offsets, table=TABLE, **options)
    assert (out == 7).all()
    assert not dtable.any()


def test_outputs_and_gradients_that_do_not_fit():
    table = np.ones((5, 3))
    for out in (np.empty((2, 3)), np.empty((1, 3), "f4"), table[:1], [[0.0] * 3]):
        with pytest.raises((TypeError, ValueError), match="out "):
            fe.embedding_bag(table, [0], [0], out=out)
    for dtable in (table, np.ones((5, 3), "f4").tolist()):
        with pytest.raises((TypeError, ValueError), match="dtable"):
            fe.embedding_bag_backward(np.ones((1, 3)), [0], dtable, [0], table=table, mode="max")
    with pytest.raises(ValueError, match="table must be given with mode max"):
        fe.embedding_bag_backward(np.ones((1, 3)), [0], np.zeros((5, 3)), [0], mode="max")
    with pytest.raises(ValueError, match="scale_grad_by_freq goes with"):
        fe.embedding_bag_backward(np.ones((1, 3)), [0], np.zeros((5, 3)), [0], mode="max", table=table, scale_grad_by_freq=True)
    with pytest.raises(ValueError, match="scale_grad_by_freq goes with"):
        fe.EmbeddingBag(5, 3, mode="max", scale_grad_by_freq=True)
    assert fe.embedding_bag(np.ones((0, 3)), np.empty((2, 0), int)).tolist() == [[0.0] * 3] * 2
    assert fe.embedding_bag(table, np.empty(0, int), np.empty(0, int)).shape == (0, 3)
    assert fe.embedding_bag(np.ones((5, 0)), [[1, 2]]).shape == (1, 0)


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
