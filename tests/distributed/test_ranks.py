"""Ranks as processes: Open MPI, MPICH (of `make test-mpi`) and gloo, each if it is there."""

import pytest
import ranks
from runs import local_state, table, train_lookups

import fastembed as fe

TRANSPORTS = ("openmpi", "mpich", "gloo")


def run(transport, size, *job, options=()):
    if ranks.python_of(transport) is None:
        pytest.skip(f"{transport} is not installed: make test-mpi, or PyTorch")
    return ranks.run(transport, size, *job, options=options)


@pytest.fixture(scope="module")
def undisturbed():
    """The digests of the whole run, by one process with a local layer."""
    layer = fe.Embedding.from_pretrained(table())
    opt = fe.optim.AdamW(layer, lr=0.01, weight_decay=0.1)
    train_lookups(layer, opt, range(200))
    return ranks.digests(local_state(layer, opt))


@pytest.mark.long
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_two_hundred_steps_of_adamw(transport, size, undisturbed):
    ended = run(transport, size, "train", 200)
    assert ended.status == 0, ended.errors
    assert ended.said == [{"rank": rank, **undisturbed} for rank in range(size)]
