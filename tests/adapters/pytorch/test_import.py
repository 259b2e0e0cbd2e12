"""What an import of the adapters loads, and what it says without PyTorch."""

import doctest
import importlib
import subprocess
import sys

import pytest


def test_without_pytorch_one_line_says_how_to_install_it():
    code = "import sys; sys.modules['torch'] = None; import fastembed.adapters.torch"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 1
    said = "ImportError: fastembed.adapters.torch needs PyTorch: pip install 'microgpt-fastembed[torch]'"
    assert found.stderr.strip().splitlines()[-1] == said


def test_the_package_does_not_import_pytorch():
    code = "import sys, fastembed, fastembed.optim, fastembed.adapters; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("module", ["tables", "functional", "layers"])
def test_the_examples(module):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    results = doctest.testmod(
        importlib.import_module(f"fastembed.adapters.torch.{module}"), optionflags=doctest.NORMALIZE_WHITESPACE
    )
    assert results.attempted > 0
    assert results.failed == 0
