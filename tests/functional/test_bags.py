"""embedding_bag and its backward: the reference to the bit, threads, maxima, refusals."""

import numpy as np
import pytest
from common import BOUNDS, DTYPES, READ_LAYOUTS, assert_same, examples, floats, lists, needs_c, outcome, relaid, same_bits
from drawn_bags import MODES, D, V, draw_bags, draw_weights
from hypothesis import given
from hypothesis import strategies as st

import fastembed as fe
from fastembed import reference

pytestmark = pytest.mark.on_reference


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
@examples(40)
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


@needs_c
@pytest.mark.parametrize("dtype", DTYPES)
def test_long_bags_on_any_number_of_threads(dtype):
    """Bags of several blocks of ids, at widths around those of vectors and tiles, against NumPy."""
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


@needs_c
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_bag_that_begins_with_thousands_of_padding(isa, dtype, mode):
    """Its rows, which are all negative, count from the first on that is there."""
    table = -1 - np.arange(20).reshape(4, 5).astype(dtype)
    packed = fe.QuantizedEmbedding.from_float(table.astype("f4"))
    ids = [*[0] * 3000, 2, *[0] * 1500, 3, 2]
    for rows, of_bag in ((table, fe.embedding_bag), (packed.dequantize(), lambda _, *bag, **how: packed.bag(*bag, **how))):
        expected = {"sum": rows[2] + rows[3] + rows[2], "mean": (rows[2] + rows[3] + rows[2]) / 3, "max": rows[2]}[mode]
        got = of_bag(rows, [1, *ids], [0, 1], mode=mode, padding_idx=0)
        np.testing.assert_allclose(got[1], expected, rtol=1e-6)
        assert (got[1] < 0).all()


@needs_c
@pytest.mark.parametrize("dtype", DTYPES)
def test_bags_of_one_item_among_others(isa, dtype):
    """Which go together in C: thousands of them, some before and after longer and empty ones."""
    rng = np.random.default_rng(0)
    for width in (1, 3, 8, 16, 33, 131):
        table = rng.standard_normal((500, width)).astype(dtype)
        table[::5], table[1, 0] = -0.0, np.nan
        lengths = np.concatenate([np.ones(5_000, int), rng.integers(0, 3, 2_000), [40, 1, 1, 0], np.ones(1_023, int)])
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        ids = rng.integers(0, 500, offsets[-1])
        ids[rng.random(len(ids)) < 0.01] = 500
        kept = ids < 500
        expected = np.zeros((len(lengths), width), dtype)
        np.add.at(expected, np.repeat(np.arange(len(lengths)), lengths)[kept], table[ids[kept]])
        out = np.full((len(lengths), 2 * width), 7, dtype)[:, :width]
        for n in (1, 2, 3):
            with fe.threads(n):
                fe.embedding_bag(table, ids, offsets, mode="sum", include_last_offset=True, bounds="zero", out=out)
                assert same_bits(out, expected)
        largest = fe.embedding_bag(table, ids, offsets, mode="max", include_last_offset=True, bounds="zero")
        of_one = (lengths == 1) & kept[np.minimum(offsets[:-1], len(ids) - 1)]
        assert same_bits(largest[of_one], table[ids[offsets[:-1][of_one]]])


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
    assert same_bits(fe.embedding_bag(table, [[1, 0, 2]], mode="max"), np.array([[1.0, 7.0, np.nan]]))
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


TABLE = np.ones((5, 3))


@pytest.mark.parametrize(
    ("ids", "offsets", "options", "error", "text"),
    [
        ([0, 1], None, {}, ValueError, "offsets must be given"),
        ([[0, 1]], [0], {}, ValueError, "offsets require ids of 1 axis"),
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
        ([0, 1], [0], {"per_sample_weights": [1.0, 1.0], "mode": "max"}, ValueError, "per_sample_weights require"),
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
    with pytest.raises(ValueError, match="scale_grad_by_freq requires"):
        fe.embedding_bag_backward(np.ones((1, 3)), [0], np.zeros((5, 3)), [0], mode="max", table=table, scale_grad_by_freq=True)
    with pytest.raises(ValueError, match="scale_grad_by_freq requires"):
        fe.EmbeddingBag(5, 3, mode="max", scale_grad_by_freq=True)
    assert fe.embedding_bag(np.ones((0, 3)), np.empty((2, 0), int)).tolist() == [[0.0] * 3] * 2
    assert fe.embedding_bag(table, np.empty(0, int), np.empty(0, int)).shape == (0, 3)
    assert fe.embedding_bag(np.ones((5, 0)), [[1, 2]]).shape == (1, 0)
