"""What an import loads: one backend, nothing heavy, no peer of the benchmarks."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(("backend", "absent"), [("c", "fastembed.reference"), ("reference", "fastembed._kernels._core")])
def test_one_backend_is_loaded(backend, absent):
    script = f"import sys, fastembed as fe; assert fe.show_config()['backend'] == {backend!r}; print({absent!r} in sys.modules)"
    environment = {**os.environ, "FASTEMBED_BACKEND": backend}
    result = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


def test_an_unknown_backend_is_an_import_error():
    environment = {**os.environ, "FASTEMBED_BACKEND": "gpu"}
    result = subprocess.run(
        [sys.executable, "-c", "import fastembed"], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert "ImportError: FASTEMBED_BACKEND must be c or reference, got 'gpu'" in result.stderr


def test_import_loads_nothing_heavy():
    script = "import sys, numpy; before = set(sys.modules); import fastembed; print(*sorted(set(sys.modules) - before))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in result.stdout.split()}
    assert not loaded & {"argparse", "tqdm", "importlib", "json", "dataclasses", "thinc", "sklearn"}, loaded


def test_the_benchmarks_load_no_peer_until_one_runs():
    peers = ("torch", "fbgemm_gpu", "thinc", "numba", "faiss", "matplotlib")
    script = f"import sys, fastembed.bench; print(*(name for name in {peers} if name in sys.modules))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == "\n"


@pytest.mark.parametrize(("adapter", "library"), [("thinc", "thinc"), ("sklearn", "scikit-learn")])
def test_an_adapter_names_the_framework_that_is_missing(adapter, library):
    script = f"import sys; sys.modules[{adapter!r}] = None; import fastembed.adapters.{adapter}"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    message = f"fastembed.adapters.{adapter} needs {library}: pip install 'microgpt-fastembed[{adapter}]'"
    assert result.stderr.splitlines()[-1] == f"ImportError: {message}"
