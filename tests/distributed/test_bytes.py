"""Bytes of a step: those of the formula in docs/scale.md."""

import numpy as np
import pytest
from loopback import results
from runs import D, V, batch, sharded, share

from fastembed import distributed
from fastembed.distributed.partition import partition

AGREEMENT, ID, FLOAT, ITEM = 64, 8, 4, 20


def ids_of(size):
    """The ids of each rank."""
    return [batch(0)[0][share(rank, size)] for rank in range(size)]


def to_others(rows, rank, of):
    """How many of these rows other ranks own."""
    return int((of.place(rows)[0] != rank).sum())


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(("size", "kind"), [(1, "ranges"), (2, "ranges"), (3, "hash"), (5, "hash")])
def test_of_a_look_up_and_its_backward(size, kind, exact):
    ids, of = ids_of(size), partition(kind, V, size)

    def work(group):
        layer = sharded(group, partition=kind, exact=exact)
        before = group.bytes_sent
        x = layer(ids[group.rank])
        looked_up = group.bytes_sent
        layer.backward(x)
        return looked_up - before, group.bytes_sent - looked_up

    for rank, (call, backward) in enumerate(results(size, work)):
        asked = [np.unique(mine) for mine in ids]
        n_replied = sum(int((of.place(rows)[0] == rank).sum()) for peer, rows in enumerate(asked) if peer != rank)
        agreements = AGREEMENT * (size - 1)
        assert call == agreements + ID * to_others(asked[rank], rank, of) + FLOAT * D * n_replied
        tokens = ids[rank].reshape(-1) if exact else asked[rank]
        assert backward == agreements + (ID + FLOAT * D) * to_others(tokens, rank, of)


def test_of_bags():
    """The gradient of a bag goes to each owner once."""
    size = 3
    ids, of = ids_of(size), partition("ranges", V, size)

    def work(group):
        bag = sharded(group, kind=distributed.ShardedEmbeddingBag, mode="sum")
        x = bag(ids[group.rank])
        before = group.bytes_sent
        bag.backward(x)
        return group.bytes_sent - before

    for rank, sent in enumerate(results(size, work)):
        owners = of.place(ids[rank])[0]
        n_rows = sum(len(set(bag.tolist()) - {rank}) for bag in owners)
        assert sent == 2 * AGREEMENT * (size - 1) + ITEM * int((owners != rank).sum()) + FLOAT * D * n_rows
