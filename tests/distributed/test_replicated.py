"""Layers that all ranks have whole; and the norm of all gradients."""

import numpy as np
import pytest
from common import same_bits
from loopback import results, run
from runs import D, V, sharded, share, table, train_lookups

import fastembed as fe
from fastembed import distributed
from fastembed.distributed import PeerError


def replicated(group, dtype="float32", **options):
    return distributed.ReplicatedEmbedding.from_pretrained(group, table(dtype), **options)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("optimizer", ["AdamW", "RowWiseAdagrad", "SparseAdam"])
@pytest.mark.parametrize(("size", "dtype"), [(1, "float32"), (2, "float16"), (3, "float32"), (5, "float64")])
def test_the_bits_of_one_process(size, dtype, optimizer, fused):
    """72 tokens for 53 rows: the ranks get sums; with an accumulated gradient, all tokens."""
    options = {"padding_idx": 2, "scale_grad_by_freq": True}

    def work(group):
        layer = replicated(group, dtype, **options)
        opt = getattr(fe.optim, optimizer)(layer, lr=0.05)
        train_lookups(layer, opt, range(8), share(group.rank, group.size), fused)
        return layer.weight

    layer = fe.Embedding.from_pretrained(table(dtype), **options)
    train_lookups(layer, getattr(fe.optim, optimizer)(layer, lr=0.05), range(8), fused=fused)
    for weight in results(size, work):
        assert same_bits(weight, layer.weight)


def test_fewer_bytes_are_sent():
    """All tokens while these are few, sums of rows if the table is smaller."""

    def work(group, n_ids, exact):
        layer = replicated(group, exact=exact)
        before = group.bytes_sent
        layer.backward(np.ones((n_ids, D), np.float32), ids=np.arange(n_ids) % 7)
        rows = layer.grads()["weight"].rows
        assert (rows == 3 * np.bincount(np.arange(n_ids) % 7)[:, None]).all()
        return group.bytes_sent - before

    of_row, agreement, size = 8 + 4 * D, 2 * 64, 3
    few = results(size, lambda group: work(group, 7, True))
    assert few == [agreement + 7 * of_row * 2] * size
    sums = results(size, lambda group: work(group, 200, False))
    assert sums == few  # one for each of seven rows
    many = results(size, lambda group: work(group, 700, True))
    assert many == [3 * agreement + 7 * of_row * 2, 3 * agreement + 700 * of_row, 3 * agreement + 700 * of_row]


@pytest.mark.parametrize("options", [{}, {"token_scale": 0.5}, {"norm": "rms"}])
def test_token_and_position_tables(options):
    def gradient(x):
        return x * np.float32(0.5) - np.float32(0.1)

    def ids(step):
        return np.random.default_rng([4, step]).integers(V, size=(12, 6))

    wpe = np.random.default_rng(9).standard_normal((6, D)).astype(np.float32)

    def work(group):
        layer = distributed.ReplicatedTokenPositionEmbedding.from_arrays(group, table(), wpe.copy(), **options)
        opt = fe.optim.Adam(layer)
        for step in range(6):
            x = layer(ids(step)[share(group.rank, group.size, 12)])
            layer.backward(gradient(x), optimizer=opt)
        return layer.wte, layer.wpe

    layer = fe.TokenPositionEmbedding.from_arrays(table(), wpe.copy(), **options)
    opt = fe.optim.Adam(layer)
    for step in range(6):
        layer.backward(gradient(layer(ids(step))), optimizer=opt)
    for own_wte, own_wpe in results(3, work):
        assert same_bits(own_wte, layer.wte)
        assert same_bits(own_wpe, layer.wpe)


def test_new_layers_are_alike():
    def work(group):
        return (
            distributed.ReplicatedEmbedding(group, 20, 3).weight,
            distributed.ReplicatedTokenPositionEmbedding(group, 20, 4, 3).wte,
        )

    (first, first_wte), (second, second_wte) = results(2, work)
    assert same_bits(first, second)
    assert same_bits(first_wte, second_wte)


def test_a_bad_backward_is_refused_by_all():
    def work(group):
        layer = replicated(group)
        with pytest.raises((ValueError, PeerError)) as caught:
            layer.backward(np.ones((1, D + group.rank)), ids=[1])
        layer.backward(np.ones((1, D)), ids=[1])
        return str(caught.value), layer.grads()["weight"].rows[0, 0]

    (first, first_sum), (second, second_sum) = results(2, work)
    assert "rank 1: refused: ValueError: dout must have shape (1, 5), got (1, 6)" in first
    assert second == "dout must have shape (1, 5), got (1, 6)"
    assert first_sum == second_sum == 2


def test_what_a_replicated_layer_has_not(tmp_path):
    np.save(tmp_path / "table.npy", table())

    def work(group):
        with pytest.raises(ValueError, match="max_norm must be None in a replicated layer"):
            replicated(group, max_norm=1.0)
        with pytest.raises(ValueError, match="dropout must be 0 in a replicated layer"):
            distributed.ReplicatedTokenPositionEmbedding(group, 4, 2, 2, rng=0, dropout=0.5)
        with pytest.raises(ValueError, match="scale_grad_by_freq requires exact=True"):
            replicated(group, scale_grad_by_freq=True, exact=False)
        with pytest.raises(TypeError, match="has no mapped files"):
            distributed.ReplicatedEmbedding.open(tmp_path / "table.npy")

    results(1, work)


def test_tables_must_be_alike():
    def work(group):
        rows = table()
        rows[3, 1] += group.rank
        distributed.ReplicatedEmbedding.from_pretrained(group, rows)

    _, errors = run(2, work)
    assert all("must be the same in all ranks" in str(error) for error in errors.values())
    assert len(errors) == 2


@pytest.mark.parametrize("max_norm", [0.5, 1e9])
def test_clipping(max_norm):
    def backward(layer, weight, part):
        ids = np.arange(30)[part] % 11
        layer.backward(np.linspace(-1, 1, 30 * D).reshape(30, D)[part], ids=ids)
        weight.grad = np.array([1.0, 1e-9])

    def work(group):
        layer, weight = sharded(group, "float64", partition="hash"), fe.Parameter(np.zeros(2))
        backward(layer, weight, share(group.rank, group.size, 30))
        norm = distributed.clip_grad_norm(group, [layer, weight, layer], max_norm)
        dense = np.zeros((V, D))
        dense[layer.rows] = layer.grads()["weight"].to_dense()
        return norm, group.allreduce("gradients", dense), weight.grad

    layer, weight = fe.Embedding.from_pretrained(table("float64")), fe.Parameter(np.zeros(2))
    backward(layer, weight, slice(None))
    norm = fe.optim.clip_grad_norm([layer, weight], max_norm)
    for own_norm, dense, grad in results(3, work):
        assert own_norm == norm
        assert same_bits(dense, layer.grads()["weight"].to_dense())
        assert same_bits(grad, weight.grad)


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_norms_that_are_not_finite(value):
    def work(group):
        layer = sharded(group)
        layer.backward(np.full((1, D), value if group.rank else 1.0), ids=[V - 1 if group.rank else 0])
        with pytest.raises(ValueError, match="cannot be scaled"):
            distributed.clip_grad_norm(group, [layer], 1.0)

    results(2, work)
