"""Groups: where they come from, what they refuse, and what they gather."""

import copy
import importlib.util
import pickle
import time

import numpy as np
import pytest
from loopback import results
from runs import D, sharded, table

from fastembed import distributed
from fastembed.distributed import PeerError
from fastembed.distributed.ranks.errors import Unfinished
from fastembed.distributed.ranks.group import Group
from fastembed.distributed.ranks.transport import Alone


def test_gathering():
    def work(group):
        total = group.allreduce("sums", np.array([0.1 * 3**group.rank, 1.0]))
        parts = group.allgatherv("parts", np.full((group.rank, 2), group.rank), np.arange(group.size))
        turned = group.alltoall("numbers", np.arange(group.size)[:, None] + 10 * group.rank)
        group.barrier()
        return total.tolist(), parts[:, 0].tolist(), turned[:, 0].tolist()

    for rank, (total, parts, turned) in enumerate(results(3, work)):
        assert total == [0.1 + 0.1 * 3 + 0.1 * 9, 3.0]
        assert parts == [1, 2, 2]
        assert turned == [rank, 10 + rank, 20 + rank]


def test_items_of_several_kinds_in_one_message():
    from fastembed.distributed.ranks.group import Part

    def work(group):
        ones = np.ones(group.size, np.int64)
        rows = Part(np.full((group.size, 3), group.rank, np.float32), ones, ones)
        nothing = Part(np.empty((0, 2)), 0 * ones, 0 * ones)
        before = group.messages_sent
        found = group.alltoallv("two kinds", rows, nothing, Part(np.arange(group.size), ones, ones))
        return [array.tolist() for array in found], group.messages_sent - before

    for rank, ((rows, nothing, numbers), n_messages) in enumerate(results(3, work)):
        assert rows == [[0.0] * 3, [1.0] * 3, [2.0] * 3]
        assert nothing == []
        assert numbers == [rank] * 3
        assert n_messages == 2


def test_copies():
    (group,) = results(1, lambda group: group)
    with pytest.raises(TypeError, match="cannot be copied or pickled: Checkpoints saves its rows"):
        copy.deepcopy(sharded(group))
    layer = distributed.ReplicatedEmbedding.from_pretrained(group, table())
    assert copy.deepcopy(layer).group is group
    with pytest.raises(TypeError, match="a group of ranks cannot be copied or pickled"):
        pickle.dumps(layer)


def test_deadlines():
    assert repr(distributed.local(deadline=2.5)) == "Group(rank 0 of 1, local, deadline=2.5)"
    with pytest.raises(ValueError, match="deadline must be from"):
        distributed.local(deadline=-1)


def test_an_exchange_has_the_seconds_of_the_group():
    class Silent(Alone):
        """A rank of two, whom the other one does not answer."""

        size = 2

        def exchange(self, sends, receives, deadline):
            self.deadline = deadline
            raise Unfinished([1], "no answer")

    transport, before = Silent(), time.monotonic()
    with pytest.raises(PeerError, match=r"no answer \(deadline 2.5 s\)"):
        Group(transport, deadline=2.5).barrier()
    assert before + 2.5 <= transport.deadline <= time.monotonic() + 2.5


@pytest.mark.skipif(importlib.util.find_spec("mpi4py") is not None, reason="mpi4py is installed")
def test_without_mpi4py():
    with pytest.raises(ImportError, match="needs mpi4py: pip install"):
        distributed.mpi()


def test_without_a_process_group():
    has_torch = importlib.util.find_spec("torch") is not None
    with pytest.raises(RuntimeError if has_torch else ImportError, match="must come first" if has_torch else "needs PyTorch"):
        distributed.gloo()


def test_messages_in_pieces(monkeypatch):
    """What is longer than a chunk is sent in several messages."""
    from fastembed.distributed.ranks import transport

    monkeypatch.setattr(transport, "CHUNK", 7)
    data = np.arange(20, dtype=np.uint8)
    assert [part.tolist() for part in transport.chunks(data)] == [data[:7].tolist(), data[7:14].tolist(), data[14:].tolist()]
    assert list(transport.chunks(None)) == []


def test_layers_without_columns_or_ids():
    def work(group):
        layer = distributed.ShardedEmbedding.from_pretrained(group, np.zeros((5, 0), np.float32))
        narrow = layer([1, 2]).shape
        layer.backward(np.zeros((2, 0)), ids=[1, 2])
        empty = distributed.ShardedEmbedding.from_pretrained(group, np.zeros((0, D), np.float32), partition="hash")
        none = empty(np.empty((0, 3), np.int64))
        empty.backward(none)
        return narrow, none.shape, len(empty.grads()["weight"])

    assert results(2, work) == [((2, 0), (0, 3, D), 0)] * 2
