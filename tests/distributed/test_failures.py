"""Bad arguments of one rank, ranks that are elsewhere or silent, and messages that lie."""

import numpy as np
import pytest
from loopback import results, run
from runs import D, V, sharded, table, train_lookups

import fastembed as fe
from fastembed import distributed
from fastembed.distributed import PeerError
from fastembed.distributed.exchange import SHARED


def raised(call, *arguments, **options):
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the caller compares it
        call(*arguments, **options)
    return caught.value


def test_a_bad_id_is_raised_there_and_reported_elsewhere():
    def work(group):
        layer = sharded(group)
        opt = fe.optim.AdamW(layer)
        error = raised(layer, [1, V if group.rank == 1 else 2])
        train_lookups(layer, opt, range(2))  # the group goes on
        return error

    first, second, third = results(3, work)
    assert isinstance(second, IndexError)
    for error in (first, third):
        assert isinstance(error, PeerError)
        assert error.peers == (1,)
        assert "look-up of ShardedEmbedding(53, 5" in str(error)
        assert f"rank 1: refused: IndexError: {second}"[:200] in str(error)


@pytest.mark.parametrize("what", ["dout", "optimizer", "pending", "ids"])
def test_a_refused_backward_changes_nothing(what):
    def work(group):
        layer = sharded(group)
        opt = fe.optim.SGD(layer, lr=1.0)
        is_bad = group.rank == 0
        if what == "pending":
            layer.backward(np.ones((1, D)), ids=[0] if group.rank == 0 else [1])
        dout = np.ones((2, D - 1 if what == "dout" and is_bad else D))
        optimizer = object() if what == "optimizer" and is_bad else opt
        ids = [1, -1 if what == "ids" and is_bad else 3]
        error = raised(layer.backward, dout, ids=ids, optimizer=optimizer)
        assert opt.step_counts == [0]
        assert (layer.to_array() == table()).all()
        return error

    errors = results(2, work)
    kinds = {"dout": ValueError, "optimizer": TypeError, "pending": RuntimeError, "ids": IndexError}
    assert type(errors[0]) is kinds[what]
    assert isinstance(errors[1], PeerError)


def test_an_owner_alone_has_a_pending_gradient():
    """The rank whose rows have it refuses, and so do all."""

    def work(group):
        layer = sharded(group)
        opt = fe.optim.SGD(layer)
        layer.backward(np.ones((1, D)), ids=[V - 1])
        return layer.has_grad, raised(layer.backward, np.ones((1, D)), ids=[0], optimizer=opt)

    (has_first, first), (has_second, second) = results(2, work)
    assert (has_first, has_second) == (False, True)
    assert isinstance(first, PeerError)
    assert str(second).startswith("an accumulated gradient is pending")


def test_ranks_in_different_calls():
    def work(group):
        layer = sharded(group)
        layer([1])
        if group.rank == 0:
            layer([1])
        else:
            layer.backward(np.ones((1, D)), ids=[1])

    _, errors = run(2, work)
    assert len(errors) == 2
    for error in errors.values():
        assert isinstance(error, PeerError)
        assert "all ranks make the same calls" in str(error)


def test_layers_of_other_options_are_not_mixed_up():
    def work(group):
        sharded(group, partition="hash" if group.rank else "ranges")([1])

    assert [type(error) for error in run(2, work)[1].values()] == [PeerError, PeerError]


def test_a_silent_rank():
    def work(group):
        layer = sharded(group)
        layer([1, 2])
        if group.rank == 1:
            return None
        error = raised(layer, [1, 2])
        again = raised(layer, [1, 2])
        return error, again

    first, second, third = results(3, work, deadline=300)
    assert second is None
    for error, again in (first, third):
        assert error.peers == (1,)
        assert "look-up of ShardedEmbedding" in error.step
        assert "no answer within the deadline (deadline 300 s)" in str(error)
        assert "the group is unusable after an error: look-up of" in str(again)


def lie(n_before, change):
    """An ``alter`` that changes what rank 0 sends in the exchange after ``n_before`` others."""
    count = {"n": 0}

    def alter(peer, data):
        count["n"] += 1
        return change(data) if count["n"] == n_before + 1 else data

    return {0: alter}


def with_int(position, value):
    def change(data):
        numbers = data[: len(data) // 8 * 8].view(np.int64)
        numbers[position] = value
        return data

    return change


def hold_out(alter, call):
    """What rank 1 raises when rank 0, the only other one, sends something else.

    Rank 0 may not notice in this call.
    """

    def outcome(call, *arguments, **options):
        try:
            return call(*arguments, **options)
        except Exception as error:
            return error

    def work(group):
        layer = sharded(group, kind=distributed.ShardedEmbeddingBag if call == "bag" else distributed.ShardedEmbedding)
        if call == "look-up":
            return outcome(layer, [1, V - 1])
        if call == "bag":
            return outcome(layer.backward, np.ones((1, D)), [1, V - 1], [0])
        return outcome(layer.backward, np.ones((2, D)), ids=[1, V - 1])

    _, error = results(2, work, alter=alter)
    assert isinstance(error, PeerError), error
    assert error.peers == (0,), error
    return str(error)


@pytest.mark.parametrize("value", [-1, 2**31, 2**62, -(2**63)])
def test_impossible_counts(value):
    assert "must be from 0 to" in hold_out(lie(0, with_int(3, value)), "look-up")


@pytest.mark.parametrize("value", [-1, 27, 2**40, -(2**63)])
def test_rows_that_the_owner_has_not(value):
    text = f"sent row number {value} to a rank of 27 rows"
    assert text in hold_out(lie(1, with_int(0, value)), "look-up")
    assert text in hold_out(lie(1, with_int(0, value)), "backward")


def test_another_number_of_gradients_than_of_rows():
    assert "announces 1 rows with 0 gradients" in hold_out(lie(0, with_int(4, 0)), "backward")


@pytest.mark.parametrize("source", [-1, 1, 2**31 - 1])
def test_sources_that_do_not_exist(source):
    def change(data):
        data[: SHARED.itemsize].view(SHARED)["source"] = source
        return data

    assert f"sent an item of gradient {source}, of 1" in hold_out(lie(2, change), "bag")


def test_truncated_messages():
    assert "shorter than announced" in hold_out(lie(1, lambda data: data[:-1]), "look-up")


def test_a_seed_must_be_that_of_all_ranks():
    errors = results(2, lambda group: raised(distributed.ShardedEmbedding, group, 4, 2, rng=group.rank))
    assert {str(error) for error in errors} == {"rng must be the same seed in all ranks, got [0, 1]"}


def test_stochastic_rounding_is_refused():
    def work(group):
        layer = sharded(group, "float16")
        return raised(layer.backward, np.ones((1, D)), ids=[1], optimizer=fe.optim.SGD(layer, stochastic_rounding=1))

    (error,) = results(1, work)
    assert str(error).startswith("stochastic_rounding goes by the place of a row")


def test_exact_mode_counts_rows():
    (error,) = results(1, lambda group: raised(sharded, group, exact=False, scale_grad_by_freq=True))
    assert str(error).startswith("scale_grad_by_freq requires exact=True")
