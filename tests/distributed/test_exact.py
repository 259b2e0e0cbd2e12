"""Any number of ranks gives the bits of one process with the local layers."""

import numpy as np
import pytest
from common import same_bits
from loopback import results
from runs import HASH, local_state, sharded, share, table, train_bags, train_lookups, train_ngrams, whole_state

import fastembed as fe
from fastembed import distributed

OPTIMIZERS = {
    "SGD": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01},
    "Adagrad": {"lr": 0.1},
    "Adam": {"lr": 0.01, "betas": (0.85, 0.99)},
    "AdamW": {"lr": 0.01, "weight_decay": 0.1},
    "SparseAdam": {"lr": 0.01},
    "RowWiseAdagrad": {"lr": 0.1, "weight_decay": 0.01},
}


def assert_same_state(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert same_bits(found[name], array), name


def compare(size, train, make_local, make_sharded, optimizer="AdamW", steps=12, **options):
    """Train both; the whole tables and states, and what ``train`` returned, must be the same."""
    opt_of = getattr(fe.optim, optimizer)
    options = options or OPTIMIZERS[optimizer]
    layer = make_local()
    opt = opt_of(layer, **options)
    returned = train(layer, opt, range(steps))

    def work(group):
        own = make_sharded(group)
        own_opt = opt_of(own, **options)
        own_returned = train(own, own_opt, range(steps), share(group.rank, group.size))
        return whole_state(own, own_opt), own_returned

    found = results(size, work)
    for state, _ in found:
        assert_same_state(state, local_state(layer, opt))
    return returned, [own for _, own in found]


@pytest.mark.parametrize("partition", ["ranges", "hash"])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_adamw_after_many_steps(size, partition):
    compare(
        size,
        train_lookups,
        lambda: fe.Embedding.from_pretrained(table()),
        lambda group: sharded(group, partition=partition),
        steps=200 if size == 3 else 40,
    )


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_every_optimizer(optimizer, dtype):
    compare(
        3,
        train_lookups,
        lambda: fe.Embedding.from_pretrained(table(dtype)),
        lambda group: sharded(group, dtype, partition="hash"),
        optimizer,
    )


@pytest.mark.parametrize(
    "options", [{"padding_idx": 2}, {"max_norm": 1.0}, {"scale_grad_by_freq": True}, {"trainable_rows": [0, 1, 5, 50]}]
)
def test_options_of_rows(options):
    compare(
        3,
        lambda *arguments: train_lookups(*arguments, fused=False),
        lambda: fe.Embedding.from_pretrained(table(), **options),
        lambda group: sharded(group, **options),
    )


@pytest.mark.parametrize("mode", ["sum", "mean", "sqrtn", "max"])
@pytest.mark.parametrize("size", [2, 3])
def test_bags(mode, size):
    options = {"mode": mode, "padding_idx": 1, "max_norm": 2.0}
    compare(
        size,
        train_bags,
        lambda: fe.EmbeddingBag.from_pretrained(table(), **options),
        lambda group: sharded(group, kind=distributed.ShardedEmbeddingBag, partition="hash", **options),
        "RowWiseAdagrad",
    )


def test_weights_of_bags():
    options = {"mode": "sum", "scale_grad_by_freq": True}
    whole, parts = compare(
        3,
        lambda *arguments: train_bags(*arguments, weighted=True),
        lambda: fe.EmbeddingBag.from_pretrained(table("float64"), **options),
        lambda group: sharded(group, "float64", distributed.ShardedEmbeddingBag, **options),
    )
    for step, of_all in enumerate(whole):
        assert same_bits(np.concatenate([part[step] for part in parts]), of_all)


def test_weights_in_one_rank_alone():
    """The ranks look rows up again together, though only one has weights."""

    def work(group):
        bag = sharded(group, kind=distributed.ShardedEmbeddingBag, mode="sum")
        weights = [0.5, 2.0] if group.rank == 1 else None
        x = bag([3, 4], [0], weights)
        bag.backward(x, [3, 4], [0], weights)
        return bag.per_sample_weights_grad

    nothing, grad = results(2, work)
    expected = fe.EmbeddingBag.from_pretrained(table(), mode="sum")
    expected.backward(expected([3, 4], [0], [0.5, 2.0]))
    assert nothing is None
    assert same_bits(grad, expected.per_sample_weights_grad)


def test_ngrams():
    rows = np.random.default_rng(5).standard_normal((HASH.n_rows, 5)).astype(np.float32)
    compare(
        3,
        train_ngrams,
        lambda: fe.NgramEmbedding(HASH, rows.copy()),
        lambda group: distributed.ShardedNgramEmbedding.from_pretrained(group, rows, hash=HASH),
    )


def test_fast_mode_differs_by_rounding_alone():
    def work(group):
        layer = sharded(group, "float64", exact=False)
        opt = fe.optim.AdamW(layer, lr=0.01)
        train_lookups(layer, opt, range(30), share(group.rank, group.size))
        return layer.to_array(), group.bytes_sent

    layer = fe.Embedding.from_pretrained(table("float64"))
    train_lookups(layer, fe.optim.AdamW(layer, lr=0.01), range(30))
    for found, _ in results(3, work):
        np.testing.assert_allclose(found, layer.weight, rtol=1e-12, atol=1e-12)


def test_new_tables_do_not_depend_on_the_number_of_ranks():
    def work(group, partition):
        return distributed.ShardedEmbedding(group, 9000, 2, rng=7, padding_idx=3, partition=partition).to_array()

    (expected,) = results(1, lambda group: work(group, "ranges"))
    assert not expected[3].any()
    assert 0.9 < expected.std() < 1.1
    for size, partition in ((2, "ranges"), (3, "hash")):
        for found in results(size, lambda group, kind=partition: work(group, kind)):
            assert same_bits(found, expected)


def test_out_and_bounds():
    def work(group):
        layer = sharded(group, bounds="zero")
        out = np.ones((2, 5), np.float32)
        return layer([-1, 4], out=out) is out, out

    for is_out, out in results(2, work):
        assert is_out
        assert same_bits(out, np.stack([np.zeros(5, np.float32), table()[4]]))
