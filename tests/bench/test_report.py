"""The report: it says so when we lose, and sums up wins, growth and copies."""

import pytest

from fastembed import bench
from fastembed.bench import report
from fastembed.bench.suite import CaseResult, Entry, Plan, WorkloadResult


def result_of(seconds_by_name, *, shows="speed", n_bytes=None):
    """A result made up of times."""
    entries = [Entry(peer, "way", seconds=seconds) for peer, seconds in seconds_by_name.items()]
    return WorkloadResult("made-up", "nothing", shows, 1, [CaseResult("one size", n_bytes, 1, "ids", 1_000, entries)])


def test_the_report_says_so_when_we_lose():
    won = result_of({"fastembed": [1.0, 2.0, 3.0], "numpy": [4.0, 5.0, 6.0], "torch": [3.0, 3.0, 3.0]})
    assert report.summary(won, Plan()) == ["fastembed is 1.50 times as fast as the best peer, torch way, in one size"]
    assert report.verdict([won], Plan()) == ["fastembed is at least as fast as every peer in every case measured, 1 in all"]
    lost = result_of({"fastembed": [2.0, 2.0, 2.0], "numpy": [4.0, 4.0, 4.0], "torch": [1.5, 1.0, 0.5]})
    assert report.summary(lost, Plan()) == ["fastembed LOSES in one size: torch way takes 0.50 of its time"]
    (line,) = report.verdict([won, lost], Plan())
    assert line == "fastembed LOSES made-up at 1 thread, one size: torch way takes 0.50 of its time"
    assert line in bench.as_text([won, lost], Plan())
    alone = result_of({"fastembed": [1.0]})
    assert report.verdict([alone], Plan()) == ["there was no peer to compare with"]
    assert report.summary(alone, Plan()) == ["one size: no peer to compare with"]


def test_what_calls_took_of_a_file_stands_beside_their_times():
    result = result_of({"fastembed": [1.0], "numpy": [2.0]})
    result.cases[0].entries[1].bytes_of_file = {"read_from_disk": 16_640_000.0, "left_in_page_cache": 20_000.0}
    first, second = (line for line in bench.as_text([result], Plan()).splitlines() if " way  " in line)
    assert second.endswith("16.64 MB read from disk     0.02 MB left in page cache")
    assert "disk" not in first
    found = report.as_json([result], Plan())["workloads"][0]["cases"][0]["contenders"]
    assert found[1]["bytes_read_from_disk"] == 16_640_000
    assert "bytes_read_from_disk" not in found[0]


def test_wins_growth_and_copies_are_summarised():
    draws = result_of({"fastembed": [1.0], "numpy": [2.0]}, shows="wins")
    draws.cases += result_of({"fastembed": [1.0], "numpy": [0.5]}).cases
    assert report.summary(draws, Plan()) == ["fastembed wins 1 of 2 draws against the best of its peers in each"]
    growth = result_of({"fastembed": [1e-6]}, shows="growth")
    growth.cases += [CaseResult("ten times", None, 10, "ids", 10_000, [Entry("fastembed", "way", seconds=[5e-6])])]
    assert report.summary(growth, Plan()) == [
        "cost per id over ids: 1000.0 ns at 1,000, 500.0 ns at 10,000; the highest is 2.00 times the lowest"
    ]
    copied = result_of({"fastembed": [2.0], "numpy": [4.0], "copy": [1.0]}, n_bytes=4 * 10**9)
    ours = report.as_json([copied], Plan())["workloads"][0]["cases"][0]["contenders"][0]
    assert (ours["gb_per_s"], ours["percent_of_copy"]) == (2.0, 50.0)
    assert report.verdict([copied], Plan()) == ["fastembed is at least as fast as every peer in every case measured, 1 in all"]


def test_the_plot_is_written(tmp_path):
    pytest.importorskip("matplotlib")
    results = [result_of({"fastembed": [1.0], "numpy": [2.0, 30.0]}, shows=shows) for shows in ("speed", "wins", "growth")]
    results[1].cases *= 12
    bench.write_plot(results, Plan(), str(tmp_path / "plot.png"))
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_quick_run_fits_a_screen_and_compares_nothing():
    plan = Plan(quick=True)
    lost = result_of({"fastembed": [2.0], "numpy": [1.0]})
    wrong = result_of({"fastembed": [2.0], "numpy": [1.0]})
    wrong.cases[0].entries += [Entry("torch", "way", "WRONG", "3 of 4"), Entry("faiss", "way", "absent", "No module")]
    wrong.id = "another"
    text = bench.as_text([lost, lost, wrong], plan)
    assert "LOSES" not in text
    lines = text.split("\n")
    assert [line.split()[0] for line in lines[4:6]] == ["made-up", "another"]
    assert lines[2] == "absent: faiss"
    assert lines[6] == "    => torch way is WRONG in one size: 3 of 4"
    assert lines[-1].startswith("a quick run shows that all works")
    assert report.as_json([lost], plan)["verdict"] == lines[-1:]


def test_what_is_absent_is_one_line_and_a_copy_is_no_limit_of_small_calls():
    result = result_of({"fastembed": [2.0], "numpy": [4.0], "copy": [1.0]}, n_bytes=10**6)
    result.cases[0].entries += [Entry("faiss", "way", "absent", "No module"), Entry("faiss", "way 2", "absent", "No module")]
    text = bench.as_text([result], Plan())
    assert "copy" not in text
    assert "GB/s" not in text
    assert sum("faiss" in line for line in text.split("\n")[2:]) == 1
    assert "absent: faiss" in text
    result.cases[0].n_bytes = 10**9
    assert "50 % of copy" in bench.as_text([result], Plan())
