"""The number of threads and the instruction set: set in calls, by the environment, by quotas."""

import importlib
import os
import subprocess
import sys

import pytest
from common import ISAS, needs_c

import fastembed as fe


@needs_c
def test_the_number_of_threads():
    before = fe.get_num_threads()
    with fe.threads(5):
        assert fe.get_num_threads() == 5
        assert fe.show_config()["num_threads"] == 5
        with pytest.raises(RuntimeError), fe.threads(3):
            raise RuntimeError
        assert fe.get_num_threads() == 5
    assert fe.get_num_threads() == before
    for bad in (0, -1, 1025):
        with pytest.raises(ValueError, match=r"n must be from"):
            fe.set_num_threads(bad)
    with pytest.raises(TypeError, match=r"n must be an integer, got 1\.5"):
        fe.set_num_threads(1.5)
    assert fe.get_num_threads() == before


def environment_says(**environment):
    script = "import fastembed as fe; c = fe.show_config(); print(c['num_threads'], c['isa'])"
    return subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


@needs_c
def test_the_environment_decides():
    assert environment_says(FASTEMBED_NUM_THREADS="7").stdout.split()[0] == "7"
    for name in ISAS:
        assert environment_says(FASTEMBED_ISA=name).stdout.split()[1] == name
    assert environment_says(FASTEMBED_ISA="").stdout.split()[1] == ISAS[0]
    for bad in ("0", "many", "-2", "99999", "1" * 5001):
        result = environment_says(FASTEMBED_NUM_THREADS=bad)
        assert f"ImportError: FASTEMBED_NUM_THREADS must be from 1 to 1024, got '{bad}'" in result.stderr
    for bad in ("sse9", "\udcff"):
        result = environment_says(FASTEMBED_ISA=bad)
        assert f"ImportError: FASTEMBED_ISA must be one of {', '.join(ISAS)}" in result.stderr
    unset = {k: v for k, v in os.environ.items() if not k.startswith("FASTEMBED_")}
    script = "import fastembed as fe; print(fe.get_num_threads())"
    one = subprocess.run(
        ["taskset", "-c", "0", sys.executable, "-c", script], env=unset, capture_output=True, text=True, check=False
    )
    if one.returncode == 0:  # taskset is there
        assert one.stdout == "1\n"


@pytest.mark.on_reference
@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu.max": "\n"}, None),
        ({}, None),
    ],
)
def test_a_quota_of_processors_is_rounded_up(monkeypatch, files, expected):
    threads = importlib.import_module("fastembed._threads")

    def read(path):
        try:
            return files[path.removeprefix("/sys/fs/cgroup/")]
        except KeyError:
            raise FileNotFoundError(path) from None

    monkeypatch.setattr(threads, "_read", read)
    assert threads._quota() == (threads._LIMIT if expected is None else expected)
