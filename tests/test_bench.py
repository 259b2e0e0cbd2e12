"""The benchmark suite: what it lists, that it catches wrong answers, deals out fresh batches, and says so when we lose."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from fastembed import bench
from fastembed.bench import cases, peers, report, suite, timing, workloads
from fastembed.bench.peers import PEERS, Contender
from fastembed.bench.suite import CaseResult, Entry, Plan, WorkloadResult

PATH = os.pathsep.join(path for path in sys.path if path)


def run(*arguments, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-m", "fastembed", "bench", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def without_peers(folder):
    """A folder that, first on the path, makes every optional library one that is not there."""
    for module in ("torch", "fbgemm_gpu", "thinc", "numba", "matplotlib"):
        (folder / f"{module}.py").write_text(f"raise ModuleNotFoundError({f'No module named {module!r}'!r})\n")
    return {"PYTHONPATH": f"{folder}{os.pathsep}{PATH}"}


def result_of(seconds_by_name, *, shows="speed", n_bytes=None):
    """A result made up of times."""
    entries = [Entry(peer, "way", seconds=seconds) for peer, seconds in seconds_by_name.items()]
    return WorkloadResult("made-up", "nothing", shows, 1, [CaseResult("one size", n_bytes, 1, "ids", 1_000, entries)])


def test_list_names_workloads_and_peers(tmp_path):
    result = run("--list", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    for name in (*bench.WORKLOADS, *PEERS):
        assert re.search(rf"^  {name} +\S", result.stdout, re.M), name
    assert re.search(rf"^  numpy +{re.escape(np.__version__)}$", result.stdout, re.M)


def test_quick_runs_everything_where_only_numpy_is(tmp_path):
    environment = without_peers(tmp_path)
    result = run("--quick", "--json", "out.json", cwd=tmp_path, **environment)
    assert result.returncode == 0, result.stderr
    assert "absent: No module named 'torch'" in result.stdout
    with open(tmp_path / "out.json", encoding="ascii") as file:
        written = json.load(file)
    assert {workload["id"] for workload in written["workloads"]} == set(bench.USUAL) == set(bench.WORKLOADS) - {"long-run"}
    assert written["machine"]["fastembed"]["backend"] in ("c", "reference")
    assert written["quick"] is True
    assert written["verdict"]
    for workload in written["workloads"]:
        assert workload["summary"]
        for case in workload["cases"]:
            ours, *others = case["contenders"]
            assert (ours["peer"], ours["status"], ours["ratio"]) == ("fastembed", "ok", 1.0)
            assert 0 < ours["min"] <= ours["median"] <= ours["max"]
            assert len(ours["seconds"]) == (1 if workload["id"] == "import" else 3)
            assert ("percent_of_copy" in ours) == (case["bytes"] is not None)
            for other in others:
                optional = other["peer"] not in ("numpy", "python", "copy")
                assert other["status"] == ("absent" if optional else "ok"), other
                assert ("median" in other) != optional


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


@pytest.mark.parametrize("name", ["gpt2-step-sgd", "gpt2-step-rowwise-adagrad", "gpt2-step-sparse-adam", "gpt2-step-adamw"])
def test_steps_are_timed_after_a_warm_up_and_peers_give_the_same_tables(name):
    workload = bench.WORKLOADS[name]
    case = next(workload.cases(True))
    expected = workload.answer(case.inputs)
    for contender in workload.contenders:
        entry, ready = suite._set_up(contender, case, expected)
        assert entry.status in ("ok", "absent"), (entry.name, entry.detail)
        if ready is not None:
            assert ready.seconds([5]) > 0


def test_a_warm_up_comes_once_and_off_the_clock():
    seen = []
    ready = timing.ready_steps(seen.append, lambda: (np.zeros(1),), 10, 3, warmup=4)
    ready.answer(0)
    assert seen == [0, 1, 2]
    ready.seconds([5])
    assert seen[3:] == [6, 7, 8, 9, 5]
    ready.seconds([6, 7])
    assert seen[8:] == [6, 7]


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
    results = bench.run(plan)
    good, bad, failed, _ = results[0].cases[0].entries
    assert (good.status, len(good.seconds)) == ("ok", 2)
    assert (bad.status, bad.detail, bad.seconds) == ("WRONG", "1 of 16,384 numbers are not those expected", [])
    assert (failed.status, failed.detail, failed.seconds) == ("failed", "does not work here", [])
    text = bench.as_text(results, plan)
    assert re.search(r"numpy off by one +WRONG: 1 of 16,384", text)
    assert "numpy off by one is WRONG in" in text
    assert bench.wrong_answers(results) == []


def test_our_own_answer_must_have_the_bits(monkeypatch):
    def nearly(inputs):
        return lambda k: np.nextafter(inputs.wte[inputs.ids[k]] + inputs.positions(), np.float32(9))

    results = bench.run(plan_of(monkeypatch, (Contender("fastembed", "nearly", nearly), Contender("numpy", "nearly", nearly))))
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


@pytest.mark.parametrize(("n_contenders", "calls"), [(3, 1), (4, 2)])
def test_order_rotates_and_no_two_calls_share_a_batch(n_contenders, calls):
    seen = []

    def recording(which):
        return timing.Ready(lambda k: (), lambda batches: seen.append((which, batches)) or float(which))

    seconds = timing.measure(
        [recording(k) for k in range(n_contenders)], n_batches=10 * n_contenders * calls, runs=7, warmup=2, calls=calls
    )
    assert seconds == [[float(k)] * 7 for k in range(n_contenders)]
    dealt = [batch for _, batches in seen for batch in batches]
    assert len(set(dealt)) == len(dealt) == 9 * n_contenders * calls
    rounds = [[which for which, _ in seen[k : k + n_contenders]] for k in range(0, len(seen), n_contenders)]
    assert all(sorted(of_round) == list(range(n_contenders)) for of_round in rounds)
    assert [of_round[0] for of_round in rounds] == [k % n_contenders for k in range(9)]


def test_timed_calls_follow_an_untimed_one_on_a_batch_of_its_own():
    seen = []
    ready = timing.Ready(lambda k: (), lambda batches: seen.append(batches) or 1.0)
    seconds = timing.measure([ready, ready], n_batches=100, runs=3, warmup=1, calls=2, untimed_call=True)
    assert [len(times) for times in seconds] == [3, 3]
    assert [len(batches) for batches in seen] == [1, 2] * 8
    dealt = [batch for batches in seen for batch in batches]
    assert len(set(dealt)) == len(dealt)


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


def test_the_report_says_so_when_we_lose():
    won = result_of({"fastembed": [1.0, 2.0, 3.0], "numpy": [4.0, 5.0, 6.0], "torch": [3.0, 3.0, 3.0]})
    assert report.summary(won) == ["fastembed is 1.50 times as fast as the best peer, torch way, in one size"]
    assert report.verdict([won]) == ["fastembed is at least as fast as every peer in every case measured, 1 in all"]
    lost = result_of({"fastembed": [2.0, 2.0, 2.0], "numpy": [4.0, 4.0, 4.0], "torch": [1.5, 1.0, 0.5]})
    assert report.summary(lost) == ["fastembed LOSES in one size: torch way takes 0.50 of its time"]
    (line,) = report.verdict([won, lost])
    assert line == "fastembed LOSES made-up at 1 thread, one size: torch way takes 0.50 of its time"
    assert line in bench.as_text([won, lost], Plan())
    alone = result_of({"fastembed": [1.0]})
    assert report.verdict([alone]) == ["there was no peer to compare with"]
    assert report.summary(alone) == ["one size: no peer to compare with"]


def test_wins_growth_and_copies_are_summarised():
    draws = result_of({"fastembed": [1.0], "numpy": [2.0]}, shows="wins")
    draws.cases += result_of({"fastembed": [1.0], "numpy": [0.5]}).cases
    assert report.summary(draws) == ["fastembed wins 1 of 2 draws against the best of its peers in each"]
    growth = result_of({"fastembed": [1e-6]}, shows="growth")
    growth.cases += [CaseResult("ten times", None, 10, "ids", 10_000, [Entry("fastembed", "way", seconds=[5e-6])])]
    assert report.summary(growth) == [
        "cost per id over ids: 1000.0 ns at 1,000, 500.0 ns at 10,000; the highest is 2.00 times the lowest"
    ]
    copied = result_of({"fastembed": [2.0], "numpy": [4.0], "copy": [1.0]}, n_bytes=4 * 10**9)
    ours = report.as_json([copied], Plan())["workloads"][0]["cases"][0]["contenders"][0]
    assert (ours["gb_per_s"], ours["percent_of_copy"]) == (2.0, 50.0)
    assert report.verdict([copied]) == ["fastembed is at least as fast as every peer in every case measured, 1 in all"]


def test_a_copy_of_any_number_of_threads_copies():
    for n_threads in (1, 3):
        ready = timing.copy_limit(16 * 1_001, n_threads)
        assert ready.answer(5)[0].tolist() == [1.0] * 1_001


def test_the_plot_is_written(tmp_path):
    pytest.importorskip("matplotlib")
    results = [result_of({"fastembed": [1.0], "numpy": [2.0, 30.0]}, shows=shows) for shows in ("speed", "wins", "growth")]
    results[1].cases *= 12
    bench.write_outputs(results, Plan(), None, str(tmp_path / "plot.png"))
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("fly",), "unknown workload 'fly'; there are: one-token, one-name"),
        (("one-token", "--peers", "cupy"), "unknown peer 'cupy'; there are: python, numpy, torch"),
        (("one-token", "--threads", "0"), "--threads must be numbers from 1 to 1024, or all, got '0'"),
        (("one-token", "--threads", "1,x"), "got 'x'"),
        (("one-token", "--runs", "0"), "argument --runs: must be an integer of at least 1"),
        (("one-token", "--json", "no/where"), "cannot write 'no/where'"),
        (("one-token", "--json", "."), "cannot write '.'"),
        (("one-token", "--plot", "a.svg"), "--plot must name a .png file, got 'a.svg'"),
        (("one-token", "--plot", "a.png"), "--plot needs matplotlib: pip install matplotlib"),
    ],
)
def test_what_cannot_be_done_is_one_line(tmp_path, arguments, text):
    result = run(*arguments, cwd=tmp_path, **without_peers(tmp_path))
    assert result.returncode == 2
    assert text in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
