"""Training of mapped tables: the bits of tables in memory, through flushes and reopened files."""

import copy
import json
import os

import numpy as np
import pytest
from common import same_bits
from mapped_tables import KINDS, D, V, optimizer_of, state_in, state_of, train

import fastembed as fe
from fastembed.io.atomic import beside

pytestmark = pytest.mark.on_reference


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_training_gives_the_bits_of_a_table_in_memory(path, kind, dtype):
    """Through flushes and reopened files; an optimiser of another kind is refused."""
    layer, expected = fe.Embedding.create(path, (V, D), dtype, rng=1), fe.Embedding(V, D, dtype=dtype, rng=1)
    optimizer, like = optimizer_of(kind, layer), optimizer_of(kind, expected)
    for first in (0, 4, 8):
        train(layer, optimizer, range(first, first + 2))
        layer.flush()
        train(layer, optimizer, range(first + 2, first + 4))
        train(expected, like, range(first, first + 4))
        assert state_of(layer, optimizer) == state_of(expected, like)
        layer.close()
        assert state_in(path, kind) == state_of(expected, like)
        layer = fe.Embedding.open(path, "r+")
        optimizer = optimizer_of(kind, layer)
        assert state_of(layer, optimizer) == state_of(expected, like)
    names = {f"{path.name}.{kind.split()[0]}.{name}" for name in optimizer._state_kinds(0, optimizer._options_of(0))}
    assert set(os.listdir(path.parent)) == {path.name, f"{path.name}.optimizer.json", f"{path.name}.lock"} | names
    other = "Adagrad" if kind != "Adagrad" and "Adagrad from" not in kind else "RowWiseAdagrad"
    if names:
        with pytest.raises(ValueError, match=f"has a state of {kind.split()[0]} weight beside it, not of {other} weight: .*json"):
            optimizer_of(other, layer)
        train(layer, optimizer, [12])
        train(expected, like, [12])
        assert state_of(layer, optimizer) == state_of(expected, like)
    layer.close()


@pytest.mark.parametrize("options", [{"master_rows": True}, {"stochastic_rounding": 5}])
def test_half_precision_resumes(path, options):
    expected = fe.Embedding(V, D, dtype="bfloat16", rng=1)
    like = fe.optim.SparseAdam(expected, **options)
    fe.Embedding.create(path, (V, D), "bfloat16", rng=1).close()
    for first in (0, 3):
        with fe.Embedding.open(path, "r+") as layer:
            optimizer = fe.optim.SparseAdam(layer, **options)
            train(layer, optimizer, range(first, first + 3))
            train(expected, like, range(first, first + 3))
            assert state_of(layer, optimizer) == state_of(expected, like)


def test_bags_max_norm_and_accumulated_gradients(path):
    rng = np.random.default_rng(0)
    ids, dout = rng.integers(0, V, (4, 5)), rng.standard_normal((4, D)).astype("f4")
    options = {"max_norm": 1.5, "mode": "sum"}
    expected = fe.EmbeddingBag.from_pretrained(fe.Embedding(V, D, rng=1).weight, **options)
    like = fe.optim.Adagrad(expected, lr=0.1)
    with fe.EmbeddingBag.create(path, (V, D), rng=1, **options) as bag:
        optimizer = fe.optim.Adagrad(bag, lr=0.1)
        for _ in range(3):
            for layer, opt in ((expected, like), (bag, optimizer)):
                layer(ids)
                layer.backward(dout)
                opt.step()
                opt.zero_grad()
            assert same_bits(bag.weight, expected.weight)
    with fe.Embedding.open(path, "r+", max_norm=0.5) as layer:
        single = fe.Embedding.from_pretrained(expected.weight, max_norm=0.5)
        assert same_bits(layer(ids), single(ids))
        assert same_bits(layer.weight, single.weight)
    with fe.Embedding.open(path) as layer:
        assert same_bits(layer.weight, single.weight)
    with pytest.raises(ValueError, match="which max_norm changes, is read-only"):
        fe.Embedding.open(path, max_norm=0.5)
    with fe.Embedding.open(path, max_norm=0.25, max_norm_in_place=False) as layer:
        pure = fe.Embedding.from_pretrained(single.weight, max_norm=0.25, max_norm_in_place=False)
        assert same_bits(layer(ids), pure(ids))


def test_a_table_that_is_read_is_not_trained(path):
    fe.Embedding.create(path, (V, D), rng=0).close()
    before = path.read_bytes()
    with fe.Embedding.open(path) as layer, fe.Embedding.open(path) as second:
        assert same_bits(layer.weight, second.weight)
        layer.backward(np.ones((1, D)), [1])
        assert layer.grads()["weight"].ids.tolist() == [1]
        layer.flush()
        for trainable in (False, True):
            layer.trainable = trainable
            with pytest.raises(ValueError, match=r"item 1 is a table in a file, opened with mode 'r'"):
                fe.optim.SparseAdam([fe.Embedding(V, D), layer])
        with pytest.raises(ValueError, match="read-only"):
            layer.set_rows([1], 0.0)
        with pytest.raises(ValueError, match="read-only"):
            layer.load_state_dict(fe.Embedding(V, D).state_dict())
        with pytest.raises(ValueError, match='with mode="r", and is not written'):
            layer.resize(3)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]
    with fe.Embedding.open(path, "r+", freeze=True) as layer:
        optimizer = fe.optim.SGD(layer, momentum=0.9)
        train(layer, optimizer, range(2))
        assert sorted(os.listdir(path.parent)) == [path.name, f"{path.name}.lock"]
        layer.trainable = True
        train(layer, optimizer, range(2))
        assert not same_bits(layer.weight, fe.Embedding(V, D, rng=0).weight)


def test_one_optimiser_at_a_time(path):
    """A second one goes on from the pending updates of the first, which is refused from then on."""
    layer, expected = fe.Embedding.create(path, (V, D), rng=1), fe.Embedding(V, D, rng=1)
    first, like = optimizer_of("Adam", layer), optimizer_of("Adam", expected)
    train(layer, first, range(3))
    second = optimizer_of("Adam", layer)
    before = state_of(layer, second)
    for use in (lambda: train(layer, first, [9]), first.step, lambda: first.load_state_dict(second.state_dict())):
        with pytest.raises(RuntimeError, match="another optimiser has been made for the table"):
            use()
    assert state_of(layer, second) == before
    first = None
    train(layer, second, range(3, 5))
    second = None
    train(expected, like, range(5))
    third = optimizer_of("Adam", layer)
    assert state_of(layer, third) == state_of(expected, like)
    layer.flush()
    third.load_state_dict(copy.deepcopy(third.state_dict()) | {"lr": 0.5})
    assert third.lr == 0.5
    train(layer, third, [5])
    like.lr = 0.5
    train(expected, like, [5])
    layer.close()
    assert state_in(path, "Adam") == state_of(expected, like)


def test_an_option_that_needs_more_state(path):
    layer, expected = fe.Embedding.create(path, (V, D), rng=1), fe.Embedding(V, D, rng=1)
    optimizer, like = fe.optim.SGD(layer, lr=0.1), fe.optim.SGD(expected, lr=0.1)
    for opt, of in ((optimizer, layer), (like, expected)):
        train(of, opt, range(2))
        of.flush()
        train(of, opt, range(2, 4))
        opt.momentum = 0.9
        train(of, opt, range(4, 5))
    assert json.loads(beside(path, "optimizer.json").read_text())["step"] == 2  # what is on the disk is that of the flush
    assert state_of(layer, optimizer) == state_of(expected, like)
    layer.close()
    with fe.Embedding.open(path, "r+") as layer:
        optimizer = fe.optim.SGD(layer, lr=0.1, momentum=0.9)
        assert state_of(layer, optimizer) == state_of(expected, like)


@pytest.mark.parametrize("how", ["file", "freeze"])
def test_frozen_tables_have_gradients_and_take_no_step(tmp_path, how):
    np.save(tmp_path / "t.npy", np.ones((3, 2)))
    opened = fe.Embedding.open(tmp_path / "t.npy")
    layer = opened if how == "file" else fe.Embedding.from_pretrained(np.ones((3, 2)), freeze=True)
    layer.backward([[1.0, 2.0]], [1])
    assert layer.grads()["weight"].ids.tolist() == [1]
    assert layer.dense_grads()["weight"].tolist() == [[0, 0], [1, 2], [0, 0]]
    if how == "freeze":
        fe.optim.SGD(layer, lr=1.0).step()
    else:
        with pytest.raises(ValueError, match="opened with mode 'r': only with 'r\\+' can it be trained"):
            fe.optim.SGD(layer, lr=1.0)
    assert layer.weight.tolist() == [[1, 1]] * 3
    layer.zero_grad()
    assert not layer.has_grad
