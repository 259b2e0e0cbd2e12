"""Data flows one way: who may import whom, and what the reference may use."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastembed

PACKAGE = Path(fastembed.__file__).parent

# Each module, and those of the package it may import; what is not listed may import nothing of it.
ALLOWED = {
    "__init__": {
        "_distribution",
        "bag",
        "bag_ops",
        "embedding",
        "hashed",
        "ops",
        "optim",
        "quantized",
        "rowgrad",
        "runtime",
        "statistics",
        "threads",
        "token_position",
        "vocabulary",
    },
    "__main__": {"cli"},
    "_backend": {"_kernels"},  # for type checkers; at run time it imports one of the two by name
    "_reference_kernels": {"reference"},
    "_call_checks": {"_checks"},
    "checkpoint": {"_checks", "statistics"},
    "ops": {"_backend", "_call_checks", "_checks"},
    "rowgrad": {"_backend", "_checks", "ops"},
    "statistics": {"_backend", "_checks"},
    "tensor_file": {"_checks", "checkpoint"},
    "journal": {"_checks", "checkpoint", "tensor_file"},
    "mapped": {"_backend", "_checks", "checkpoint", "journal", "ops", "tensor_file"},
    "trained": {"_backend", "_checks", "mapped", "rowgrad"},
    "search": {"_backend", "_call_checks", "_checks", "ops"},
    "vocabulary": {"_call_checks", "_checks", "ops"},
    "layer": {"_call_checks", "_checks", "mapped", "ops", "rowgrad", "search", "statistics", "trained", "vocabulary"},
    "one_table": {"_call_checks", "_checks", "layer", "mapped", "ops", "renorm"},
    "embedding": {"_backend", "_checks", "one_table", "ops", "renorm"},
    "renorm": {"_backend", "_checks"},
    "bag": {"_call_checks", "_checks", "bag_ops", "mapped", "one_table", "ops", "renorm", "rowgrad"},
    "hashed": {"_backend", "_call_checks", "_checks", "bag_ops", "one_table", "ops", "vocabulary"},
    "bag_ops": {"_backend", "_call_checks", "_checks", "ops", "rowgrad"},
    "quantized": {"_backend", "_call_checks", "_checks", "bag_ops", "checkpoint", "one_table", "ops", "search"},
    "tied_head": {"_checks", "layer", "rowgrad"},
    "token_position": {"_backend", "_call_checks", "_checks", "layer", "ops", "rowgrad", "tied_head"},
    "parameter": {"_checks", "layer", "rowgrad"},
    "optimizer_state": {"_checks", "layer", "mapped", "parameter", "trained"},
    "optimizer": {"_backend", "_checks", "layer", "mapped", "optimizer_state", "parameter", "rowgrad", "trained"},
    "optim": {"_checks", "optimizer", "optimizer_state", "parameter"},
    "runtime": {"_backend", "_distribution"},
    "microgpt": {"_checks", "token_position", "optim"},
    "training": {"_checks", "checkpoint", "microgpt", "optim"},
    "threads": {"_backend", "_checks"},
    "cli": {"_distribution", "bench", "checkpoint", "microgpt", "runtime", "threads", "training"},
    "bench/__init__": {"bench/peers", "bench/report", "bench/suite", "bench/workloads"},
    "bench/plot": {"bench/peers", "bench/suite"},
    "bench/report": {"__init__", "bench/peers", "bench/plot", "bench/suite", "bench/workloads"},
    "bench/suite": {"__init__", "bench/peers", "bench/timing", "bench/workloads"},
    "bench/workloads": {"reference", "bench/peers", "bench/timing"},
    "bench/peers/__init__": {
        f"bench/peers/{name}"
        for name in ("backward", "bags", "base", "forward", "hashed", "mapped", "norm", "quantized", "search", "short", "step")
    },
    "bench/peers/mapped": {"__init__", "bench/timing", "bench/peers/base"},
    "bench/peers/backward": {"__init__", "bench/timing", "bench/peers/base"},
    "bench/peers/bags": {"__init__", "bench/timing", "bench/peers/base", "bench/peers/forward"},
    "bench/peers/hashed": {"__init__", "bench/timing", "bench/peers/base"},
    "bench/peers/norm": {"__init__", "bench/timing", "bench/peers/base"},
    "bench/peers/quantized": {"__init__", "bench/timing", "bench/peers/base"},
    "bench/peers/base": {"__init__", "bench/timing"},
    "bench/peers/forward": {"__init__", "bench/timing", "bench/peers/base"},
    "bench/peers/search": {"__init__", "bench/timing", "bench/peers/base"},
    "bench/peers/short": {"__init__", "bench/timing", "bench/peers/base"},
    "bench/peers/step": {"__init__", "bench/timing", "bench/peers/base", "bench/peers/forward"},
    "reference/__init__": {
        f"reference/{name}"
        for name in (
            *("_nested", "bags", "halves", "hashed", "layers", "norms", "ops", "optim", "quantized"),
            *("rules", "search", "sequences", "statistics"),
        )
    },
    "reference/bags": {"reference/_nested", "reference/layers", "reference/ops", "reference/rules"},
    "reference/hashed": {f"reference/{name}" for name in ("_nested", "layers", "norms", "ops")},
    "reference/quantized": {"reference/_nested", "reference/bags", "reference/ops"},
    "reference/_nested": {"reference/halves"},
    "reference/sequences": {f"reference/{name}" for name in ("_nested", "layers", "norms", "ops")},
    "reference/norms": {"reference/_nested", "reference/halves", "reference/rules"},
    "reference/ops": {"reference/_nested", "reference/halves"},
    "reference/layers": {"reference/ops", "reference/rules", "reference/_nested", "reference/search"},
    "reference/search": {"reference/ops", "reference/rules", "reference/_nested"},
    "reference/statistics": {"reference/ops", "reference/rules"},
    "reference/optim": {"reference/halves", "reference/layers", "reference/rules", "reference/_nested"},
}


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).with_suffix("").as_posix(), ast.parse(path.read_text())


def imports(name, tree):
    """(names within the package, top-level names outside it) that a module imports."""
    inside, outside = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            outside |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            outside.add(node.module.split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            folder = "/".join(name.split("/")[: -node.level])
            prefix = f"{folder}/" if folder else ""
            if node.module:
                inside.add(prefix + node.module)
            else:  # a module of that folder, or a name that the folder's package itself offers
                names = {alias.name for alias in node.names}
                public = names & set(fastembed.__all__) if not folder and name != "__init__" and node.level > 1 else set()
                inside |= {prefix + module for module in names - public} | ({"__init__"} if public else set())
    return inside, outside


def test_nothing_imports_upward():
    for name, tree in modules():
        inside, outside = imports(name, tree)
        inside.discard("_typing")  # for type checkers
        assert inside <= ALLOWED.get(name, set()), f"{name} imports {inside - ALLOWED.get(name, set())}"
        assert "fastembed" not in outside, f"{name} imports the package by its absolute name"


def test_the_reference_uses_the_standard_library_only():
    for name, tree in modules():
        if name.startswith("reference/"):
            assert imports(name, tree)[1] <= sys.stdlib_module_names


def test_only_numpy_and_safetensors_are_required():
    optional = {
        "tqdm": {"cli"},
        "matplotlib": {"bench/plot", "bench/report"},
        "torch": {
            f"bench/peers/{name}" for name in ("base", "backward", "bags", "forward", "norm", "quantized", "short", "step")
        },
        "fbgemm_gpu": {"bench/peers/bags", "bench/peers/forward", "bench/peers/quantized"},
        "thinc": {"bench/peers/backward", "bench/peers/forward", "bench/peers/hashed"},
        "faiss": {"bench/peers/base", "bench/peers/search"},
        "threadpoolctl": {"bench/peers/base"},
        "numba": {"bench/peers/base", "bench/peers/backward", "bench/peers/forward"},
    }
    for name, tree in modules():
        for module in imports(name, tree)[1] - sys.stdlib_module_names - {"numpy", "safetensors"}:
            assert name in optional.get(module, set()), f"{name} imports {module}"


@pytest.mark.parametrize(("backend", "absent"), [("c", "fastembed.reference"), ("reference", "fastembed._kernels")])
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
    assert not loaded & {"safetensors", "argparse", "tqdm", "importlib", "json", "dataclasses"}, loaded


def test_the_benchmarks_load_no_peer_until_one_runs():
    peers = ("torch", "fbgemm_gpu", "thinc", "numba", "faiss", "matplotlib")
    script = f"import sys, fastembed.bench; print(*(name for name in {peers} if name in sys.modules))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == "\n"


def test_public_names_have_documented_examples():
    for name in fastembed.__all__:
        public = getattr(fastembed, name)
        if callable(public):
            assert ">>>" in public.__doc__ or name == "show_runtime", name
