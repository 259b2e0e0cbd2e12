"""Batches of the names model: the same bits with any number of ranks."""

import numpy as np
import pytest
from common import same_bits
from loopback import results

from fastembed.training import Options, Run


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_any_number_of_ranks(dtype):
    options = Options(batch=5, steps=25, dtype=dtype)
    alone = Run(options)
    losses = list(alone.train(25))
    assert np.mean(losses[-5:]) < losses[0] - 0.3

    def work(group):
        run = Run(options, group=group)
        return list(run.train(25)), run.model.state_dict()

    for size in (1, 3):
        for own_losses, state in results(size, work):
            assert own_losses == losses
            assert all(same_bits(state[name], array) for name, array in alone.model.state_dict().items())


def test_a_batch_of_one_document_is_a_step_of_microgpt():
    """The gradients of all ranks, dense ones, move the model as those of the layers do."""
    plain = Run(Options(steps=5))
    losses = list(plain.train(5))

    def work(group):
        run = Run(Options(steps=5), group=group)
        assert list(run.train(5)) == losses
        return run.model.state_dict()

    for state in results(2, work):
        assert all(same_bits(state[name], array) for name, array in plain.model.state_dict().items())


def test_rank_0_says_when_to_stop():
    def work(group):
        run = Run(Options(batch=2, steps=20), group=group)
        steps = run.train(20)
        for _ in steps:
            if group.rank == 0 and run.step == 3:
                steps.close()
        return run.step

    assert results(3, work) == [3, 3, 3]


def test_the_mean_of_a_batch():
    """Of a batch of equal documents the gradient is that of one."""
    one, two = (Run(Options(batch=batch, steps=3)) for batch in (1, 2))
    one.documents = two.documents = ["emma"]
    for loss, of_batch in zip(one.train(3), two.train(3), strict=True):
        assert loss == of_batch
    pairs = zip(one.model.state_dict().values(), two.model.state_dict().values(), strict=True)
    assert all(same_bits(a, b) for a, b in pairs)


def test_the_batch_is_kept(tmp_path):
    run = Run(Options(batch=3, steps=4))
    next(run.train(1))
    run.save(tmp_path / "run.safetensors")
    resumed = Run.resume(str(tmp_path / "run.safetensors"))
    assert resumed.options.batch == 3
    losses = list(resumed.train(4))
    whole = Run(Options(batch=3, steps=4))
    assert list(whole.train(4))[1:] == losses
