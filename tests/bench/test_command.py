"""The command of the benchmark suite: what it lists, a quick run of all, and what it refuses."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from fastembed import bench
from fastembed.bench.peers import OURS, PEERS

PATH = os.pathsep.join(path for path in sys.path if path)


def run(*arguments, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-m", "fastembed", "bench", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def without_peers(folder):
    """A folder that, first on the path, makes every optional library one that is not there."""
    for module in ("torch", "fbgemm_gpu", "thinc", "numba", "faiss", "matplotlib"):
        (folder / f"{module}.py").write_text(f"raise ModuleNotFoundError({f'No module named {module!r}'!r})\n")
    return {"PYTHONPATH": f"{folder}{os.pathsep}{PATH}"}


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
    lines = result.stdout.split("\n")
    assert len(lines) <= 50  # a screen
    (absent,) = (line for line in lines if line.startswith("absent: "))
    assert "torch" in absent
    assert "LOSES" not in result.stdout
    with open(tmp_path / "out.json", encoding="ascii") as file:
        written = json.load(file)
    assert {workload["id"] for workload in written["workloads"]} == set(bench.USUAL)
    assert written["machine"]["fastembed"]["backend"] in ("c", "reference")
    assert written["quick"] is True
    assert written["verdict"]
    for workload in written["workloads"]:
        assert workload["summary"] == []
        for case in workload["cases"]:
            ours, *others = case["contenders"]
            assert (ours["peer"], ours["status"], ours["ratio"]) == ("fastembed", "ok", 1.0)
            assert 0 < ours["min"] <= ours["median"] <= ours["max"]
            assert len(ours["seconds"]) == (1 if workload["id"] == "import" else 3)
            assert ("percent_of_copy" in ours) == ((case["bytes"] or 0) >= 16 << 20)
            for other in others:
                optional = other["peer"] not in ("numpy", "python", "copy", "itself", OURS)
                assert other["status"] == ("absent" if optional else "ok"), other
                assert ("median" in other) != optional


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("fly",), "unknown workload 'fly'; there are: one-token, one-name"),
        (("one-token", "--peers", "cupy"), "unknown peer 'cupy'; there are: python, numpy, torch"),
        (("one-token", "--threads", "0"), "--threads must be numbers from 1 to 1024, or all, got '0'"),
        (("one-token", "--threads", "1,x"), "got 'x'"),
        (("one-token", "--runs", "0"), "argument --runs: must be an integer of at least 1"),
        (("one-token", "--json", "no/where"), "--json: cannot write no/where"),
        (("one-token", "--json", "."), "--json: . is not a regular file"),
        (("one-token", "--plot", "a.svg"), "--plot must name a .png file, got 'a.svg'"),
        (("one-token", "--plot", "a.png"), "fastembed.plots needs matplotlib: pip install 'microgpt-fastembed[plot]'"),
    ],
)
def test_what_cannot_be_done_is_one_line(tmp_path, arguments, text):
    result = run(*arguments, cwd=tmp_path, **without_peers(tmp_path))
    assert result.returncode == 2
    assert text in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_an_interrupted_run_keeps_the_workloads_that_are_over(tmp_path):
    script = """
import signal, sys
from fastembed import cli
from fastembed.bench import suite
run_case = suite.run_case
def interrupted(workload, *arguments):
    if workload.id == "random-shapes":
        signal.raise_signal(signal.SIGINT)
    return run_case(workload, *arguments)
suite.run_case = interrupted
sys.exit(cli.main(["bench", "--quick", "--json", "out.json", "one-token", "random-shapes"]))
"""
    environment = {**os.environ, **without_peers(tmp_path)}
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 130, result.stderr
    assert "interrupted: this is of the workloads that were over" in result.stdout
    assert {result["id"] for result in json.loads((tmp_path / "out.json").read_text())["workloads"]} == {"one-token"}
