"""Rows of n-grams against the formulas, in short; and that a fault would be seen."""

import numpy as np
import pytest
from ngrams import check


def test_some_thousand_ngrams_of_every_variant(capsys):
    assert check.run(20_000, 0, n_tokens=2_000) == 0, capsys.readouterr().out


@pytest.mark.parametrize("name", ["engram", "v41", "ple", "wrapping"])
def test_a_row_that_differs_is_seen(name):
    _, hash, expected_of = next(case for case in check.variants() if case[0] == name)
    rng = np.random.default_rng(0)
    ids = check.random_tokens(rng, 1000)

    def off_by_one(tokens):
        rows = expected_of(tokens)
        rows[0, 0] += 1
        return rows

    assert check.faults_of(hash, expected_of, ids, rng) == []
    assert len(check.faults_of(hash, off_by_one, ids, rng)) == 7
