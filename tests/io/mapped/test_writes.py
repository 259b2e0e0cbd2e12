"""Writes, closing and copies of mapped tables: no write is lost without a word."""

import copy
import pickle
import warnings

import numpy as np
import pytest
from common import same_bits
from mapped_tables import D, V, optimizer_of, state_in, train

import fastembed as fe

pytestmark = pytest.mark.on_reference


def test_no_write_is_lost(path):
    layer = fe.Embedding.create(path, (V, D), rng=0)
    optimizer = optimizer_of("SparseAdam", layer)
    train(layer, optimizer, [1])
    (item,) = optimizer.state_dict()["items"]
    for array in (layer.weight, layer.state_dict()["weight"], layer.parameters()[0], item["exp_avg"]["weight"]):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    expected = layer.weight.copy()
    layer.set_rows([[3, 4], [5, 3]], np.arange(4.0).reshape(2, 2, 1))
    expected[[3, 4, 5, 3]] = np.arange(4.0)[:, None]
    layer.set_rows(7, layer.weight[8])
    expected[7] = expected[8]
    for error, ids, rows in (
        (IndexError, [V], 0.0),
        (ValueError, [1], [1.0, 2.0]),
        (TypeError, [1], "x"),
        (TypeError, [0.5], 0.0),
    ):
        with pytest.raises(error):
            layer.set_rows(ids, rows)
    assert same_bits(layer.weight, expected)
    layer.flush()
    assert state_in(path, "", "r") == (expected.tobytes(),)
    layer.load_state_dict({"weight": expected[::-1]})
    layer.close()
    with fe.Embedding.open(path) as layer:
        assert same_bits(layer.weight, expected[::-1])


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_set_rows_of_rows_with_pending_updates(kind):
    layer, like = fe.Embedding(V, D, rng=0), fe.Embedding(V, D, rng=0)
    opt, opt_like = optimizer_of(kind, layer), optimizer_of(kind, like)
    train(layer, opt, range(3))
    train(like, opt_like, range(3))
    layer.set_rows([1, 2], 0.5)
    like.weight[[1, 2]] = 0.5
    train(layer, opt, range(3, 5))
    train(like, opt_like, range(3, 5))
    assert same_bits(layer.weight, like.weight)


def test_close(path):
    layer = fe.Embedding.create(path, (V, D), rng=0)
    optimizer = optimizer_of("SparseAdam", layer)
    view = layer.weight
    with layer:
        train(layer, optimizer, range(2))
        expected = view.copy()
    layer.close()
    assert same_bits(view, expected)
    for use in (
        lambda: layer([1]),
        lambda: layer.weight,
        layer.state_dict,
        layer.flush,
        optimizer.step,
        optimizer.state_dict,
        lambda: layer.set_rows([1], 0.0),
        lambda: layer.resize(3),
        lambda: layer.nearest(0, 1),
        layer.statistics,
        layer.parameters,
        lambda: train(layer, optimizer, [1]),
        lambda: fe.optim.SGD(layer),
    ):
        with pytest.raises(ValueError, match="is closed"):
            use()
    layer = fe.Embedding.open(path, "r+")
    assert same_bits(layer.weight, expected)
    layer.set_rows([1], 0.0)
    with pytest.raises(ZeroDivisionError), layer:  # without a flush
        raise ZeroDivisionError
    assert state_in(path, "", "r") == (expected.tobytes(),)
    in_memory = fe.Embedding(2, 2, rng=0)
    with in_memory as same:
        assert same is in_memory
    in_memory.close()
    assert in_memory([1]).shape == (1, 2)


def test_a_layer_that_is_dropped_says_what_is_lost(path):
    layer = fe.Embedding.create(path, (V, D), rng=0)
    layer.set_rows([1], 0.0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del layer
    assert [str(one.message) for one in caught] == [f"{path}: what was trained since the last flush is lost"]
    assert caught[0].category is RuntimeWarning  # which Python shows, unlike ResourceWarning
    with fe.Embedding.open(path, "r+") as layer:
        assert same_bits(layer.weight, fe.Embedding(V, D, rng=0).weight)


def test_copies(path):
    with fe.Embedding.create(path, (V, D), rng=0) as layer:
        optimizer = optimizer_of("SparseAdam", layer)
        for use, what in (
            (copy.copy, layer),
            *((use, what) for use in (copy.deepcopy, pickle.dumps) for what in (layer, optimizer)),
        ):
            with pytest.raises(TypeError, match="is mapped: open it again"):
                use(what)
