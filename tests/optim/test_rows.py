"""Rows that do not move, learning rates of rows, and tables that are resized in a run."""

import copy

import numpy as np
import pytest
from common import DTYPES, lists, same_bits
from optimizers import MAKE, batches, each_optimizer, like_of, train

import fastembed as fe
from fastembed import reference

pytestmark = pytest.mark.on_reference


@each_optimizer
@pytest.mark.parametrize("dtype", DTYPES)
def test_frozen_rows_and_learning_rates_of_rows(name, dtype):
    rng = np.random.default_rng(0)
    mask, factors = rng.random(8) < 0.6, rng.choice([0.0, 0.5, 1.0, 3.0], 8)
    rows = {"trainable_rows": mask, "lr_multipliers": {"wte": factors, "wpe": [1.0, 0.0, 2.0]}}
    like_rows = {"trainable_rows": mask.tolist(), "lr_multipliers": {"wte": factors.tolist(), "wpe": [1.0, 0.0, 2.0]}}
    wte, wpe = rng.standard_normal((8, 5)).astype(dtype), rng.standard_normal((3, 5)).astype(dtype)
    layer = fe.TokenPositionEmbedding.from_arrays(wte.copy(), wpe.copy(), trainable_rows=[0, 1, 2, 5, 6])
    like = reference.TokenPositionEmbedding.from_arrays(*lists(wte, wpe), dtype=dtype, trainable_rows=[0, 1, 2, 5, 6])
    opt = MAKE[name](layer, **rows)
    like_opt = like_of(opt, like, dtype, **like_rows)
    for k, (ids, dout) in enumerate(batches(rng, 10, 8, (2, 3), 5, dtype)):
        train(layer, opt, [(ids, dout)], fused=k % 2 == 0)
        like.backward(*lists(dout, ids), optimizer=like_opt)
    assert same_bits(layer.wte, np.array(like.wte, dtype))
    assert same_bits(layer.wpe, np.array(like.wpe, dtype))
    frozen = ~(mask & np.isin(np.arange(8), [0, 1, 2, 5, 6]) & (factors != 0))
    assert 0 < frozen.sum() < 8
    assert same_bits(layer.wte[frozen], wte[frozen])
    assert same_bits(layer.wpe[1], wpe[1])


def test_rows_that_begin_to_move_take_no_earlier_step():
    layer = fe.Embedding(4, 2, dtype="float64", rng=0)
    opt = fe.optim.AdamW(layer, lr=0.1, weight_decay=0.5, trainable_rows=[0, 1])
    train(layer, opt, [([0, 3], np.ones((2, 2)))] * 5)
    before = layer.weight.copy()
    opt.trainable_rows = None
    assert same_bits(layer.weight, before)
    train(layer, opt, [([0], np.ones((1, 2)))])
    assert np.array_equal(layer.weight[3], before[3] * (1 - 0.1 * 0.5))


@pytest.mark.parametrize("given", ["attribute", "group", "written into the group", "mapping", "layer"])
def test_rows_that_were_given_are_copied(given):
    """An array that changes later was read again once, when the layer was resized or copied."""
    mask, factors = np.array([True, True, False, False, True]), np.array([1.0, 0.5, 1.0, 1.0, 2.0])
    rows = {"trainable_rows": mask, "lr_multipliers": factors}
    expected = fe.Embedding(5, 2, dtype="float64", rng=0)
    expected_opt = fe.optim.AdamW(expected, trainable_rows=mask.tolist(), lr_multipliers=factors.tolist())
    layer = fe.Embedding(5, 2, dtype="float64", rng=0)
    if given == "attribute":
        opt = fe.optim.AdamW(layer, **rows)
    elif given == "group":
        opt = fe.optim.AdamW([{"params": layer, **rows}])
    elif given == "mapping":
        opt = fe.optim.AdamW(layer, **{name: {"weight": array} for name, array in rows.items()})
    elif given == "layer":
        layer = fe.Embedding(5, 2, dtype="float64", rng=0, trainable_rows=mask)
        opt = fe.optim.AdamW(layer, lr_multipliers=factors)
    else:
        opt = fe.optim.AdamW(layer)
        opt.param_groups[0] |= rows
    some = batches(np.random.default_rng(0), 6, 5, (2,), 2)
    if given == "written into the group":
        train(layer, opt, some[:1])  # which takes them
    else:
        mask[:], factors[:] = ~mask, 7.0
        train(layer, opt, some[:1])
    train(expected, expected_opt, some[:1])
    mask[:], factors[:] = ~mask, 9.0
    train(layer, opt, some[1:3])
    layer, opt = copy.deepcopy((layer, opt))
    train(layer, opt, some[3:])
    train(expected, expected_opt, some[1:])
    assert same_bits(layer.weight, expected.weight)
    kept = [opt.trainable_rows, opt.lr_multipliers, *opt.param_groups[0].values(), layer.trainable_rows]
    kept += [array for value in kept if isinstance(value, dict) for array in value.values()]
    arrays = [value for value in kept if isinstance(value, np.ndarray)]
    assert len(arrays) == 2
    for array in arrays:
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


@pytest.mark.parametrize(
    ("error", "text", "rows"),
    [
        (IndexError, "trainable_rows.* 4 ", {"trainable_rows": [0, 4]}),
        (ValueError, "trainable_rows", {"trainable_rows": [True, False]}),
        (TypeError, "trainable_rows", {"trainable_rows": [0.5]}),
        (ValueError, "lr_multipliers", {"lr_multipliers": [1.0, 2.0]}),
        (ValueError, "lr_multipliers", {"lr_multipliers": [1.0, 2.0, -1.0, 0.0]}),
        (ValueError, "lr_multipliers", {"lr_multipliers": [1.0, 2.0, float("nan"), 0.0]}),
    ],
)
def test_bad_rows(error, text, rows):
    layer = fe.Embedding(4, 2, dtype="float64", rng=0)
    before = layer.weight.copy()
    with pytest.raises(error, match=text):
        train(layer, fe.optim.Adam(layer, **rows), [([0], np.ones((1, 2)))])
    assert same_bits(layer.weight, before)


def test_rows_of_a_table_that_is_not_there():
    layer, other = fe.TokenPositionEmbedding(5, 3, 2, rng=0), fe.Embedding(4, 2, rng=0)
    for option in ("trainable_rows", "lr_multipliers"):
        with pytest.raises(KeyError, match=rf"{option} must name tables, which are \['wpe', 'wte'\], got \['wtee'\]"):
            fe.optim.SGD(layer, **{option: {"wtee": [1.0] * 5}})
        fe.optim.SGD([layer, other], **{option: {"weight": [1.0] * 4 if option == "lr_multipliers" else [1]}})
    layer.trainable_rows = {"weight": [1]}
    with pytest.raises(KeyError, match="trainable_rows must name tables"):
        fe.optim.SGD([layer, other])
    with pytest.raises(IndexError, match="99"):
        fe.optim.SGD(other, trainable_rows=[99])
    opt = fe.optim.SGD(other)
    opt.trainable_rows = {"wieght": [1]}
    with pytest.raises(KeyError, match="wieght"):
        opt.step()


@each_optimizer
@pytest.mark.parametrize("dtype", DTYPES)
def test_resize_keeps_rows_and_their_state(name, dtype):
    rng = np.random.default_rng(1)
    layer = fe.Embedding(6, 3, dtype=dtype, rng=0)
    like = reference.Embedding.from_pretrained(layer.weight.tolist(), dtype=dtype)
    opt = MAKE[name](layer)
    like_opt = like_of(opt, like, dtype)
    new_rows = rng.standard_normal((3, 3)).astype(dtype)
    for n, new in ((6, None), (9, new_rows), (4, None), (7, None), (2, None)):
        layer.resize(n, new_rows=new)
        like.resize(n, new_rows=None if new is None else new.tolist())
        assert layer.weight.shape == (n, 3)
        for k, (ids, dout) in enumerate(batches(rng, 6, n, (4,), 3, dtype)):
            train(layer, opt, [(ids, dout)], fused=k % 2 == 0)
            like.backward(*lists(dout, ids), optimizer=like_opt)
        assert same_bits(layer.weight, np.array(like.weight, dtype))


def test_resize_drops_gradients_of_rows_that_are_gone_and_refuses_nonsense():
    layer = fe.TokenPositionEmbedding(5, 4, 2, dtype="float64", rng=0)
    layer.backward(np.ones((2, 2)), [1, 4])
    layer.resize(3)
    assert layer.grads()["wte"].ids.tolist() == [1]
    assert layer.grads()["wpe"].ids.tolist() == [0, 1]
    layer.resize(6, table="wpe")
    assert layer.wpe.shape == (6, 2)
    for error, call in (
        (ValueError, lambda: layer.resize(-1)),
        (TypeError, lambda: layer.resize(2.5)),
        (KeyError, lambda: layer.resize(3, table="weight")),
        (ValueError, lambda: layer.resize(5, new_rows=np.ones((3, 2)))),
    ):
        with pytest.raises(error):
            call()
    assert layer.wte.shape == (3, 2)
    with pytest.raises(IndexError, match="id 3"):
        layer([3])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_rows_with_a_larger_rate_miss_many_steps(dtype, name):
    """No bound of later updates holds for them, so that each step is taken."""
    rows = np.linspace(-1, 1, 6).reshape(2, 3).astype(dtype)
    tables = []
    for flushes in (False, True):
        layer = fe.Embedding.from_pretrained(rows.copy())
        options = {"momentum": 0.9} if name == "SGD" else {}
        opt = getattr(fe.optim, name)(layer, lr=0.01, lr_multipliers=[3.0, 1.0], **options)
        layer.backward(np.ones((1, 3)), [0], optimizer=opt)
        for _ in range(40):
            layer.backward(np.ones((1, 3)), [1], optimizer=opt)
            if flushes:
                opt.flush()
        tables.append(layer.weight.copy())
    assert same_bits(*tables)
    assert not same_bits(tables[0], rows)
