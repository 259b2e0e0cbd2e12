"""A layer that is dropped with rows that no flush has written: a warning that people see."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.on_reference

DROPPED = """
import sys
import fastembed as fe
layer = fe.Embedding.create(sys.argv[1], (4, 2), init=0)
layer.set_rows([1], 2.0)
"""


@pytest.mark.parametrize("ending", ["", "del layer", "layer = None", "layer._cycle = layer", "raise SystemExit"])
def test_python_shows_the_warning(tmp_path, ending):
    run = subprocess.run(
        [sys.executable, "-c", f"{DROPPED}{ending}", str(tmp_path / "t")], capture_output=True, text=True, check=True
    )
    assert f"RuntimeWarning: {tmp_path / 't'}: what was trained since the last flush is lost" in run.stderr
    assert run.stderr.count("is lost") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["t"]


@pytest.mark.parametrize("ending", ["layer.flush()", "layer.close()"])
def test_nothing_is_lost_after_a_flush(tmp_path, ending):
    run = subprocess.run(
        [sys.executable, "-c", f"{DROPPED}{ending}", str(tmp_path / "t")], capture_output=True, text=True, check=True
    )
    assert run.stderr == ""
