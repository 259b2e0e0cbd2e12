"""The libFuzzer harnesses compile with the C entry points as they are."""

import subprocess
from pathlib import Path

import pytest
from common import c_compiler

ROOT = Path(__file__).parents[2]
HARNESSES = sorted((ROOT / "tests" / "campaigns" / "fuzz").glob("*.c"))


@pytest.mark.parametrize("harness", HARNESSES, ids=lambda path: path.stem)
def test_harnesses_compile(harness):
    options = ["-std=gnu11", "-Wall", "-Werror", "-fsyntax-only", f"-I{ROOT / 'src_c'}"]
    result = subprocess.run([c_compiler(), *options, harness], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
