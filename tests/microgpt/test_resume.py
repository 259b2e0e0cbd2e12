"""Runs that go on: from any step, with more steps than they had, after an interrupt."""

import sys

import pytest
from common import same_bits

from fastembed import checkpoint
from fastembed.microgpt import training
from fastembed.training import Options, Run

pytestmark = pytest.mark.on_reference
OPTIONS = Options(steps=10, n_embd=4, n_head=2)


def same_runs(one, other):
    states = [run.model.state_dict() | run._optimizer_tensors() for run in (one, other)]
    return one.step == other.step and all(same_bits(array, states[1][name]) for name, array in states[0].items())


def saved_at(path, step, options=OPTIONS):
    run = Run(options)
    losses = list(run.train(step))
    run.save(path)
    return losses


@pytest.mark.slow_on_reference
def test_a_run_goes_on_from_every_step(tmp_path):
    whole = Run(OPTIONS)
    losses = list(whole.train(10))
    for step in range(11):
        path = str(tmp_path / "c")
        first = saved_at(path, step)
        resumed = Run.resume(path)
        assert first + list(resumed.train(10)) == losses
        assert same_runs(resumed, whole)


@pytest.mark.slow_on_reference
@pytest.mark.parametrize("step", [10, 4, 0])
def test_an_extended_run_has_the_rates_of_its_new_length(tmp_path, step):
    path = str(tmp_path / "c")
    saved_at(path, step)
    extended = Run.resume(path, steps=25)
    assert (extended.step, extended.options.steps) == (step, 25)
    rates = []
    for _ in extended.train(25):
        rates.append(extended.optimizer.lr)
    assert rates == [OPTIONS.lr * (1 - k / 25) for k in range(step, 25)]
    by_hand = Run.resume(path)
    by_hand.options = Options(steps=25, n_embd=4, n_head=2)
    assert list(by_hand.train(25)) == list(Run.resume(path, steps=25).train(25))
    assert same_runs(by_hand, extended)


def test_an_extended_run_can_be_stopped_and_resumed(tmp_path):
    path, longer = str(tmp_path / "c"), str(tmp_path / "longer")
    saved_at(path, 10)
    whole = Run.resume(path, steps=20)
    losses = list(whole.train(20))
    stopped = Run.resume(path, steps=20)
    first = list(stopped.train(13))
    stopped.save(longer)
    assert checkpoint.load(longer)[1]["options"]["steps"] == 20
    resumed = Run.resume(longer)
    assert first + list(resumed.train(20)) == losses
    assert same_runs(resumed, whole)


def test_a_run_does_not_become_shorter(tmp_path):
    path = str(tmp_path / "c")
    saved_at(path, 4)
    with pytest.raises(ValueError, match=r"steps must be at least the 10 of .*c, got 9"):
        Run.resume(path, steps=9)
    with pytest.raises(ValueError, match="steps must be from 1 to 100000000"):
        Run.resume(path, steps=10**9)
    assert Run.resume(path, steps=10).step == 4


def interrupted_at(line, run):
    """Train until that line of code of the second step, counted from 0; whether there is one."""
    lines = []

    def trace(frame, event, _):
        if frame.f_code.co_filename != training.__file__:
            return None
        if event == "line" and run.step >= 1:
            lines.append(frame.f_lineno)
            if len(lines) > line:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        list(run.train(2))
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def test_an_interrupted_step_is_taken_completely_or_not_at_all(tmp_path):
    (tmp_path / "text").write_text("abc\nbcd\ncab\n")
    whole = Run(OPTIONS, str(tmp_path / "text"))
    list(whole.train(4))
    seen, line = set(), 0
    while True:
        run = Run(OPTIONS, str(tmp_path / "text"))
        if not interrupted_at(line, run):
            break
        seen.add(run.step)
        list(run.train(4))
        assert same_runs(run, whole), line
        line += 1
    assert seen == {1, 2}
    assert line > 10
