"""Sizes of mapped tables change as those in memory do."""

import os

import numpy as np
import pytest
from common import same_bits
from mapped_tables import D, V, optimizer_of, state_of, train

import fastembed as fe
from fastembed.io.mapped import journal

pytestmark = pytest.mark.on_reference


@pytest.mark.parametrize("kind", ["SGD", "Adagrad from 0.5", "RowWiseAdagrad", "Adam"])
@pytest.mark.parametrize("suffix", ["npy", "safetensors"])
def test_resize(tmp_path, kind, suffix):
    path = tmp_path / f"t.{suffix}"
    layer, expected = fe.Embedding.create(path, (V, D), rng=1), fe.Embedding(V, D, rng=1)
    optimizer, like = optimizer_of(kind, layer), optimizer_of(kind, expected)
    mode = os.stat(path).st_mode
    large = 20_000 if kind == "SGD" else V + 60
    for k, (n, rows) in enumerate(((V + 9, None), (V - 5, None), (V + 30, np.ones(D)), (V + 3, None), (large, None))):
        for of, opt in ((layer, optimizer), (expected, like)):
            train(of, opt, range(3 * k, 3 * k + 3))
            of.backward(np.ones((2, D)), [1, of.num_embeddings - 1])
            of.resize(n, new_rows=rows)
            opt.step()
            opt.zero_grad()
        assert state_of(layer, optimizer) == state_of(expected, like)
    layer.close()
    with fe.Embedding.open(path, "r+") as layer:
        optimizer = optimizer_of(kind, layer)
        assert state_of(layer, optimizer) == state_of(expected, like)
    assert os.stat(path).st_mode == mode
    assert not [name for name in os.listdir(tmp_path) if name.endswith(("new", "journal"))]
    if kind == "SGD":
        assert os.stat(path).st_blocks * 512 < 100_000 < os.stat(path).st_size
    with fe.Embedding.open(path, "r+") as layer:  # a state that no optimiser has asked for goes with its table
        layer.resize(V)
        layer.resize(V + 2)
        expected.resize(V)
        expected.resize(V + 2)
        optimizer = optimizer_of(kind, layer)
        assert state_of(layer, optimizer) == state_of(expected, like)


def test_a_resize_that_cannot_be_changes_nothing(path):
    with fe.Embedding.create(path, (V, D), rng=1, padding_idx=30) as layer:
        before = layer.weight.copy()
        for error, arguments in ((ValueError, (-1,)), (TypeError, (1.5,)), (ValueError, (30,))):
            with pytest.raises(error):
                layer.resize(*arguments)
        with pytest.raises(ValueError, match="new_rows"):
            layer.resize(V + 2, new_rows=[1.0, 2.0])
        assert same_bits(layer.weight, before)
    assert os.listdir(path.parent) == [path.name]


def resized_without_a_flush(layer, n):
    """A resize that is interrupted where its flush begins."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            layer.resize(n, new_rows=2.0)


def interrupted(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize("suffix", ["npy", "safetensors"])
@pytest.mark.parametrize("then", ["flush", "resize", "another state", "train"])
def test_a_resize_that_is_not_flushed(tmp_path, suffix, then):
    """The layer goes on with its new size; the files keep the last flush until the next one."""
    path = tmp_path / f"t.{suffix}"
    layer, expected = fe.Embedding.create(path, (V, D), rng=1), fe.Embedding(V, D, rng=1)
    optimizer, like = optimizer_of("SGD", layer), optimizer_of("SGD", expected)
    train(layer, optimizer, range(2))
    layer.flush()
    flushed = layer.weight.copy()
    resized_without_a_flush(layer, V + 3)
    train(expected, like, range(2))
    expected.resize(V + 3, new_rows=2.0)
    assert same_bits(layer.weight, expected.weight)
    with fe.Embedding.open(path, snapshot=True) as snapshot:
        assert same_bits(snapshot.weight, flushed)
    with pytest.raises(BlockingIOError):
        fe.Embedding.open(path)
    if then == "resize":
        layer.resize(V - 2)
        expected.resize(V - 2)
    elif then == "another state":
        for of in (optimizer, like):
            of.momentum = 0.9
    train(layer, optimizer, range(2, 4))
    train(expected, like, range(2, 4))
    assert state_of(layer, optimizer) == state_of(expected, like)
    layer.flush()
    with pytest.raises(BlockingIOError):
        fe.Embedding.open(path)
    layer.close()
    with fe.Embedding.open(path, "r+") as layer:
        optimizer = optimizer_of("SGD momentum" if then == "another state" else "SGD", layer)
        assert state_of(layer, optimizer) == state_of(expected, like)
    assert not [name for name in os.listdir(tmp_path) if name.endswith(("new", "journal", "lock"))]


def test_a_resize_that_is_never_flushed(path):
    layer = fe.Embedding.create(path, (V, D), rng=1)
    before = layer.weight.copy()
    resized_without_a_flush(layer, V + 3)
    with pytest.warns(RuntimeWarning, match="lost"):
        del layer
    with fe.Embedding.open(path, "r+") as layer:
        assert same_bits(layer.weight, before)
    assert os.listdir(path.parent) == [path.name]


def test_a_table_that_is_replaced_after_a_resize(path):
    """It is not overwritten by the flush."""
    layer = fe.Embedding.create(path, (V, D), rng=1)
    resized_without_a_flush(layer, V + 3)
    path.unlink()
    path.write_bytes(b"other")
    with pytest.raises(OSError, match="replaced or removed"):
        layer.flush()
    assert path.read_bytes() == b"other"
    layer.storage.close()
