"""The libFuzzer harnesses compile with the C entry points as they are."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HARNESSES = sorted((ROOT / "tests" / "campaigns" / "fuzz").glob("*.c"))


@pytest.mark.parametrize("harness", HARNESSES, ids=lambda path: path.stem)
def test_harnesses_compile(harness):
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("needs gcc or clang")
    options = ["-std=gnu11", "-Wall", "-Werror", "-fsyntax-only", f"-I{ROOT / 'src_c'}"]
    result = subprocess.run([compiler, *options, harness], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
