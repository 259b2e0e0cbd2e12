"""examples/scale_model.py counts what ranks send, and finds the coefficients of a model."""

import sys
from pathlib import Path

import numpy as np
import pytest
from loopback import results

from fastembed import distributed

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def model():
    sys.path.insert(0, str(EXAMPLES))
    try:
        import scale_model

        yield scale_model
    finally:
        sys.path.remove(str(EXAMPLES))


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("size", [2, 5])
def test_the_bytes_and_messages_of_a_step(model, size, exact):
    n_tokens, n_rows, n_cols = 300, 5000, 8

    def work(group):
        layer = distributed.ShardedEmbedding(group, n_rows, n_cols, partition="hash", exact=exact, rng=0)
        ids = model.batch(3, group.rank, n_tokens, n_rows)
        before = group.bytes_sent, group.messages_sent
        layer.backward(layer(ids))
        return group.bytes_sent - before[0], group.messages_sent - before[1]

    found = model.load(size, n_tokens, n_rows, n_cols, exact)
    sent = [n_bytes - 2 * 64 * (size - 1) for n_bytes, _ in results(size, work)]
    assert {n_messages for _, n_messages in results(size, work)} == {found.messages}
    assert max(sent) <= found.n_bytes < 2 * max(sent)  # the most that one sends, or receives
    assert sum(sent) <= found.n_bytes * size


def test_the_formula_of_the_example_is_what_is_sent(model):
    import distributed_table

    def work(group):
        layer = distributed.ShardedEmbedding(group, 700, 4, partition="hash", rng=0)
        ids = model.batch(0, group.rank, 90, 700)
        expected = distributed_table.bytes_of_step(group, layer, ids)
        before = group.bytes_sent
        layer.backward(layer(ids))
        return group.bytes_sent - before, expected

    for sent, expected in results(3, work):
        assert sent == expected


def test_a_fit_finds_the_coefficients(model):
    rng = np.random.default_rng(0)
    rows = rng.uniform(1, 5, (20, 5))
    of_model = np.array([0.3, 0.0, 2.0, 0.0, 1.0])
    np.testing.assert_allclose(model.fitted(rows, rows @ of_model), of_model, atol=1e-9)


def test_the_gain_of_a_second_processor_is_found_by_runs_of_two_ranks(model):
    true, gain, runs = np.array([1e-3, 2e-7, 1e-8, 5e-5, 1e-9]), 0.3, []
    for ranks, processors in ((1, 2), (2, 2), (2, 1), (4, 2)):
        for tokens in (512, 2048):
            for exact in (True, False):
                counts = model.load(ranks, tokens, 5000, 8, exact)
                seconds = float(model.columns_of(counts, ranks, processors, gain) @ true)
                kind = {"ranks": ranks, "processors": processors, "tokens": tokens * ranks, "exact": exact}
                runs += [kind | {"rows": 5000, "columns": 8, "seconds": seconds * slower} for slower in (1.0, 3.0)]
    runs = model.fastest(runs)
    assert len(runs) == 16
    found, of_gain, of_model = model.fit(runs, np.array([run["ranks"] < 4 for run in runs]))
    assert of_gain == pytest.approx(gain)
    np.testing.assert_allclose(found, true, rtol=1e-6)
    np.testing.assert_allclose(of_model, [run["seconds"] for run in runs])
