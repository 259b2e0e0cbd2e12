"""Several tables in the exchanges of one."""

import numpy as np
import pytest
from common import same_bits
from loopback import results
from runs import V, batch, gradient, sharded, share, table

import fastembed as fe
from fastembed import distributed
from fastembed.distributed import PeerError

KINDS = ({"partition": "hash"}, {"partition": "ranges", "padding_idx": 3}, {"partition": "hash", "scale_grad_by_freq": True})
DTYPES = ("float32", "float64", "float16")


def test_the_bits_of_one_process_and_fewer_messages():
    options = [{name: value for name, value in kind.items() if name != "partition"} for kind in KINDS]
    local = [fe.Embedding.from_pretrained(table(dtype), **kind) for dtype, kind in zip(DTYPES, options, strict=True)]
    local_opt = fe.optim.AdamW(local, lr=0.01)

    def work(group):
        layers = [sharded(group, dtype, **kind) for dtype, kind in zip(DTYPES, KINDS, strict=True)]
        opt, part = fe.optim.AdamW(layers, lr=0.01), share(group.rank, group.size)
        for step in range(5):
            before = group.messages_sent
            ids = [batch(step + 10 * k)[0][part] for k in range(3)]
            found = distributed.look_up_together(layers, ids)
            factor = batch(step)[1][part]
            distributed.backward_together(layers, [gradient(x, factor) for x in found], optimizer=opt)
            assert group.messages_sent - before <= 5 * (group.size - 1)
        accumulated = distributed.look_up_together(layers, ids)
        distributed.backward_together(layers, accumulated)
        opt.step()
        return [layer.to_array() for layer in layers]

    for step in range(5):
        ids = [batch(step + 10 * k)[0] for k in range(3)]
        for layer, of_layer in zip(local, ids, strict=True):
            layer.backward(gradient(layer(of_layer), batch(step)[1]), optimizer=local_opt)
    for layer, of_layer in zip(local, ids, strict=True):
        layer.backward(layer(of_layer))
    local_opt.step()
    for arrays in results(3, work):
        for array, layer in zip(arrays, local, strict=True):
            assert same_bits(array, layer.weight)


def test_one_bad_layer_stops_all():
    def work(group):
        layers = [sharded(group), sharded(group)]
        opt = fe.optim.SGD(layers)
        x, y = distributed.look_up_together(layers, [[1], [V - 1]])
        with pytest.raises((ValueError, PeerError)):
            distributed.backward_together(layers, [x, y[:0] if group.rank else y], optimizer=opt)
        assert opt.step_counts == [0, 0]
        with pytest.raises((IndexError, PeerError)):
            distributed.look_up_together(layers, [[1], [V if group.rank == 0 else 0]])
        assert np.array_equal(distributed.look_up_together(layers, [[1], [2]])[1], table()[[2]])

    results(2, work)


def test_arguments():
    (group,) = results(1, lambda group: group)
    with pytest.raises(TypeError, match="layers must be ShardedEmbedding"):
        distributed.look_up_together([fe.Embedding(2, 2)], [[1]])
    with pytest.raises(ValueError, match="of one group, got 2 groups"):
        distributed.look_up_together([sharded(group), sharded(distributed.local())], [[1], [1]])
    with pytest.raises(ValueError, match="of one group, got 0 groups"):
        distributed.look_up_together([], [])
