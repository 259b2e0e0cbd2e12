"""The differential campaign, in short: some thousand cases, and that it sees a wrong bit."""

import numpy as np
import pytest
from common import needs_c
from differential import run
from differential.surroundings import STATES, fp_state

import fastembed as fe

pytestmark = needs_c


@pytest.fixture(autouse=True)
def _as_before(select_isa):
    """Cases choose instruction sets, numbers of threads and NumPy's error state."""
    before, state = fe.get_num_threads(), np.geterr()
    yield
    fe.set_num_threads(before)
    np.seterr(**state)


def test_fifteen_hundred_cases_are_the_reference(capsys):
    assert run.run(1, range(1500)) == 0, capsys.readouterr().out


def test_the_floating_point_state_of_the_caller_changes_nothing(capsys):
    assert run.run(2, range(300), "all") == 0, capsys.readouterr().out
    assert run.run(3, range(60), "all", names="states") == 0, capsys.readouterr().out


def test_calls_that_use_many_threads(capsys):
    assert run.run(1, range(40), names="threads") == 0, capsys.readouterr().out


def test_a_wrong_bit_is_seen_and_its_case_reproduces_it(capsys, monkeypatch):
    def off_by_one_bit(*arguments, **options):
        rows = gather(*arguments, **options)
        rows.view(np.uint8).reshape(-1)[:1] ^= 1
        return rows

    gather = fe.gather
    monkeypatch.setattr(fe, "gather", off_by_one_bit)
    assert run.run(0, range(1000), names="gather", most=1) == 1
    case = int(capsys.readouterr().out.split("CASE=")[1].split()[0])
    assert run.run_one(0, case, "default", "gather") == 1
    monkeypatch.undo()
    assert run.run_one(0, case, "default", "gather") == 0


def test_wrong_error_texts_and_written_inputs_are_seen(capsys, monkeypatch):
    def other_text(*arguments, **options):
        try:
            return gather(*arguments, **options)
        except IndexError:
            raise IndexError("out of range") from None

    def writes(table, ids, **options):
        table.flags.writeable = True
        table[...] = 1
        return gather(table, ids, **options)

    gather = fe.gather
    for wrong, seen in ((other_text, "out of range"), (writes, "table changed")):
        monkeypatch.setattr(fe, "gather", wrong)
        assert run.run(0, range(1000), names="gather", most=1) == 1
        assert seen in capsys.readouterr().out


@pytest.mark.parametrize("state", STATES[1:])
def test_the_floating_point_state_is_set_and_restored(state):
    """Division and the product of small numbers, in C, show it."""
    one, third, tiny = np.float32(1), np.float32(3), np.array([1e-30], np.float32)
    plain = one / third
    with fp_state(state):
        quotient, product = one / third, float((tiny * np.float32(1e-10))[0])
        negative = -one / third
    assert (product == 0) == ("flush" in state)
    lower = {"down": quotient < plain, "zero": quotient < plain, "up": negative > -plain}  # 1 / 3 is rounded up
    assert lower.get(state.split()[-1], quotient == plain)
    assert one / third == plain
    assert float((tiny * np.float32(1e-10))[0]) > 0
