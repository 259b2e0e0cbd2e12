"""Runs of workloads: wrong answers are caught, inputs come from the seed, peers start alike."""

import dataclasses
import os
import re

import numpy as np
import pytest

import fastembed as fe
from fastembed import bench
from fastembed.bench import cases, peers, suite, traces, workloads
from fastembed.bench.beside import against_itself
from fastembed.bench.peers import Contender
from fastembed.bench.suite import Plan


@pytest.mark.skipif(os.name != "posix", reason="the system does not say what is in its page cache")
@pytest.mark.parametrize("name", ["mapped-gather", "ngram-disk"])
def test_cold_files_are_read_from_the_disk(name):
    """What the page cache has afterwards is counted for every contender, of cold files alone."""
    (result,) = bench.run(Plan([name], ["numpy"], [1], runs=2, quick=True))
    warm, cold = result.cases
    assert all(not entry.bytes_of_file for entry in warm.entries)
    taken = {entry.peer: entry.bytes_of_file for entry in cold.entries}
    assert taken["numpy"]["left_in_page_cache"] > 0
    assert all(counts.get("read_from_disk", 0) >= 0 and counts["left_in_page_cache"] >= 0 for counts in taken.values())


def test_a_run_of_minutes_runs_where_it_is_named(tmp_path, monkeypatch):
    """Small here; the peer's tables are compared with updates of every element."""
    monkeypatch.setattr(cases, "LONG_RUN_STEPS", 50)
    long_run = workloads.Workload(
        "long-run", "small", cases.long_run, peers.long_run_answer(50), peers.long_run(50), takes_minutes=True
    )
    monkeypatch.setitem(suite.WORKLOADS, "long-run", long_run)
    (result,) = bench.run(Plan(["long-run"], ["torch"], [1], runs=5, quick=True))
    ours, torchs = result.cases[0].entries
    assert (ours.status, len(ours.seconds)) == ("ok", 1)
    assert torchs.status in ("ok", "absent")


def test_what_runs_only_where_it_is_named():
    unusual = set(bench.WORKLOADS) - set(bench.USUAL)
    large = {"long-run", "growth-step", "mlperf-int4-full", "mlperf-step-32", "ngram-fp8"}
    assert all(name in large or name.startswith(("beside-", "second-core-")) for name in unusual)
    assert {"long-run", "beside-gpt2-backward-zipf", "second-core-gpt2-backward-zipf"} <= unusual


def test_fastembed_against_itself_with_one_thread():
    seen = []

    def setup(inputs):
        return lambda k: seen.append(fe.get_num_threads())

    ours, itself = against_itself((Contender("fastembed", "counts", setup), Contender("torch", "other", setup)), False)
    with fe.threads(3):
        for contender in (ours, itself):
            assert contender.ready(peers.Inputs()).seconds([0, 1]) > 0
    assert (ours.peer, itself.peer, seen) == ("fastembed", "itself", [3, 3, 1, 1])
    (result,) = bench.run(Plan(["second-core-gpt2-backward-zipf"], ["itself"], [2], runs=2, quick=True))
    assert [entry.status for entry in result.cases[0].entries] == ["ok", "ok", "ok"]


def test_fastembed_beside_the_threads_of_torch():
    pytest.importorskip("torch")
    (result,) = bench.run(Plan(["beside-gpt2-backward-zipf"], ["itself", "torch"], [2], runs=2, quick=True))
    names = [entry.peer for entry in result.cases[0].entries if entry.status == "ok"]
    assert names == ["fastembed", "itself", "torch", "torch", "copy"]


@pytest.mark.parametrize("name", ["bag-reuse", "many-tables", "mlperf-int4-full", "mlperf-int4"])
def test_many_tables_have_one_answer(name):
    workload = bench.WORKLOADS[name]
    for case in workload.cases(True):
        expected = workload.answer(case.inputs)
        for contender in workload.contenders:
            entry, _ = suite._set_up(contender, case, expected)
            assert entry.status in ("ok", "absent"), (entry.name, entry.detail)


def test_ids_repeat_as_said():
    (ids,) = traces.reused(np.random.default_rng(0), 10_000_000, (1, 65_536))
    counts = np.unique(ids, return_counts=True)[1]
    for (low, high), share in traces.REUSE:
        assert abs(np.mean((counts >= low) & (counts <= high)) - share) < 0.02


@pytest.mark.parametrize(
    "name", ["mlperf-step", "gpt2-step-sgd", "gpt2-step-rowwise-adagrad", "gpt2-step-sparse-adam", "gpt2-step-adamw"]
)
def test_steps_are_timed_after_a_warm_up_and_peers_give_the_same_tables(name):
    workload = bench.WORKLOADS[name]
    case = next(workload.cases(True))
    expected = workload.answer(case.inputs)
    for contender in workload.contenders:
        entry, ready = suite._set_up(contender, case, expected)
        assert entry.status in ("ok", "absent"), (entry.name, entry.detail)
        if ready is not None:
            assert ready.seconds([5]) > 0


def plan_of(monkeypatch, contenders, peers=("numpy",)):
    """A plan for one small workload with contenders of the test's own."""
    original = bench.WORKLOADS["gpt2-forward-zipf"]
    replaced = workloads.Workload(original.id, original.what, original.cases, original.answer, contenders)
    monkeypatch.setitem(suite.WORKLOADS, original.id, replaced)
    return Plan([original.id], peers, [1], runs=2, quick=True)


def test_a_wrong_answer_is_named_and_not_timed(monkeypatch):
    def wrong(inputs):
        out = inputs.wte[inputs.ids[0]] + inputs.positions()
        out[0, 0, 0] += 1
        return lambda k: out

    def broken(inputs):
        raise RuntimeError("does not work\nhere")

    ours = bench.WORKLOADS["gpt2-forward-zipf"].contenders[0]
    plan = plan_of(monkeypatch, (ours, Contender("numpy", "off by one", wrong), Contender("numpy", "broken", broken)))
    results = list(bench.run(plan))
    good, bad, failed, _ = results[0].cases[0].entries
    assert (good.status, len(good.seconds)) == ("ok", 2)
    assert (bad.status, bad.detail, bad.seconds) == ("WRONG", "1 of 16,384 numbers are not those expected", [])
    assert (failed.status, failed.detail, failed.seconds) == ("failed", "does not work here", [])
    text = bench.as_text(results, dataclasses.replace(plan, quick=False))
    assert re.search(r"numpy off by one +WRONG: 1 of 16,384", text)
    for of_plan in (text, bench.as_text(results, plan)):
        assert "numpy off by one is WRONG in" in of_plan
    assert bench.wrong_answers(results) == []


def test_our_own_answer_must_have_the_bits(monkeypatch):
    def nearly(inputs):
        return lambda k: np.nextafter(inputs.wte[inputs.ids[k]] + inputs.positions(), np.float32(9))

    nearly_right = Contender("fastembed", "nearly", nearly), Contender("numpy", "nearly", nearly)
    results = list(bench.run(plan_of(monkeypatch, nearly_right)))
    ours, numpys, _ = results[0].cases[0].entries
    assert ours.status == "WRONG"
    assert numpys.status == "ok"
    (line,) = bench.wrong_answers(results)
    assert "numbers are not those expected" in line


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ((), "0 arrays where 1 are expected"),
        ((np.zeros((2, 2), np.float32),), "float32 of shape (2, 2) where float32 of shape (2, 3) is expected"),
        ((np.zeros((2, 3), np.int64),), "int64 of shape (2, 3)"),
        ((np.full((2, 3), np.nan, np.float32),), "6 of 6 numbers"),
        ((np.full((2, 3), 1e-5, np.float32),), ""),
    ],
)
def test_faults_are_described(answer, text):
    fault = suite.fault(answer, (np.zeros((2, 3), np.float32),), exact=False)
    assert text in fault
    assert bool(text) == bool(fault)


def test_contenders_run_on_the_batch_that_they_are_dealt():
    case = next(bench.WORKLOADS["gpt2-forward-zipf"].cases(True))
    inputs = case.inputs
    assert len({ids.tobytes() for ids in inputs.ids}) == len(inputs.ids)
    for contender in bench.WORKLOADS["gpt2-forward-zipf"].contenders:
        if contender.peer in ("fastembed", "numpy"):
            ready = contender.ready(inputs)
            for k in (3, 0, 5):
                np.testing.assert_array_equal(ready.answer(k)[0], inputs.wte[inputs.ids[k]] + inputs.positions())


def test_zipf_draws_are_as_frequent_as_said():
    ids = cases.zipf(np.random.default_rng(0), 50, (200_000,))
    counts = np.sort(np.bincount(ids, minlength=50))[::-1]
    expected = 1 / (np.arange(50) + 2.7)
    np.testing.assert_allclose(counts / counts.sum(), expected / expected.sum(), rtol=0.1)
    assert np.argmax(np.bincount(ids)) != 0  # ranks are in random order


def test_inputs_come_from_the_seed():
    for name in ("gpt2-backward-zipf", "random-shapes"):
        one, other = (next(bench.WORKLOADS[name].cases(True)).inputs for _ in range(2))
        np.testing.assert_array_equal(one.wte, other.wte)
        np.testing.assert_array_equal(one.ids, other.ids)
