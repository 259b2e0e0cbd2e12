"""Data flows one way: who may import whom, and what the reference may use."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastembed

PACKAGE = Path(fastembed.__file__).parent

# Each package or module at the top may import those that stand before it, and of its own what it likes.
ORDER = (
    "_typing",
    "data",
    "_version",
    "_checks",
    "reference",
    "_kernels",
    "_runtime",
    "_threads",
    "functional",
    "io",
    "tables",
    "layers",
    "optim",
    "microgpt",
    "checkpoint",  # public names of what lies deeper
    "search",
    "training",
    "__init__",
    "bench",
    "cli",
    "__main__",
)


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).with_suffix("").as_posix(), ast.parse(path.read_text())


def imports(name, tree):
    """(top-level names within the package, and outside it) that a module imports."""
    inside, outside = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            outside |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            outside.add(node.module.split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            path = name.split("/")[: -node.level] + (node.module.split(".") if node.module else [])
            tops = {path[0]} if path else {alias.name for alias in node.names}
            inside |= {top if top in ORDER else "__init__" for top in tops}  # any other name is one that the package offers
    return inside, outside


def test_nothing_imports_upward():
    for name, tree in modules():
        inside, outside = imports(name, tree)
        top = name.split("/")[0]
        allowed = {*ORDER[: ORDER.index(top)], top}
        assert inside <= allowed, f"{name} imports {inside - allowed}"
        assert "fastembed" not in outside, f"{name} imports the package by its absolute name"


def test_every_package_says_its_duty_and_is_small():
    for folder in {path.parent for path in PACKAGE.rglob("*.py")}:
        files = sorted(folder.glob("*.py"))
        assert len(files) <= 14, folder
        assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text())), folder
        for file in files:
            assert len(file.read_text().splitlines()) <= 400, file


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
