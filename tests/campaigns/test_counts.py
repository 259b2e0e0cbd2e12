"""Counts of instructions: every case runs, and a change is seen."""

from counts import __main__ as command
from counts import cases, run


def test_every_case_has_a_kept_count_and_can_be_called():
    _, before = command.kept()
    assert list(before) == run.names()
    for _, call in [*cases.short_calls(), *cases.kernels()]:
        call()


def test_what_changed_is_said():
    before = {"same": 1000, "noise": 1000, "slower": 1000, "faster": 1000, "old": 7}
    after = {"same": 1000, "noise": 1005, "slower": 1200, "faster": 900, "added": 5}
    assert command.changes(before, after) == [
        "    gone  old",
        "  +20.0%  slower: 1,000 to 1,200",
        "  -10.0%  faster: 1,000 to 900",
        "     new  added: 5",
    ]
    assert command.changes(before, before) == []
