"""Packages are a chain without a step upward; files are small; libraries stay where they belong."""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "fastembed"

# A package, or module beside them, imports itself and what stands before it.
CHAIN = (
    "_typing", "data", "_version", "_messages", "_interactive", "_memory", "_float_env",
    "_checks",
    "reference",
    "_kernels", "_runtime", "_threads",
    "functional",
    "io",
    "tables",
    "layers",
    "losses",
    "schedule",
    "optim",
    "distributed",
    "microgpt",
    "checkpoint", "search", "training",
    "plots",
    "explorer",
    "__init__",
    "adapters",
    "bench",
    "cli", "__main__",
)  # fmt: skip

OPTIONAL = {
    "adapters/thinc/": {"thinc"},
    "adapters/sklearn": {"sklearn"},
    "adapters/jax/": {"jax"},
    "distributed/ranks/mpi": {"mpi4py"},
    "distributed/ranks/gloo": {"torch"},
    "cli/__init__": {"argcomplete"},
    "cli/progress": {"tqdm"},
    "layers/sentences": {"tokenizers"},
    "plots/figure": {"matplotlib"},
    "plots/film": {"PIL"},
    "bench/beside": {"torch"},
    "bench/plot": {"matplotlib"},
    "adapters/torch/": {"torch", "ml_dtypes"},
    "bench/peers/": {"torch", "fbgemm_gpu", "thinc", "faiss", "numba", "threadpoolctl"},
}


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
            inside |= {top if top in CHAIN else "__init__" for top in tops}  # other names are those that the package offers
    return inside, outside


def test_nothing_imports_upward():
    assert {name.split("/")[0] for name, _ in modules()} == set(CHAIN)
    for name, tree in modules():
        inside, outside = imports(name, tree)
        top = name.split("/")[0]
        upward = inside - {top, *CHAIN[: CHAIN.index(top)]}
        assert not upward, f"{name} imports {upward}"
        assert "fastembed" not in outside, f"{name} imports the package by its absolute name"


def test_adapters_use_the_public_names_only():
    """But JAX, whose compiled programs call the C below public functions, checked as those are.

    scikit-learn's unit rows are arithmetic of its adapter's own.
    """
    beneath = {"adapters/jax/": {"_checks", "_kernels", "functional"}, "adapters/sklearn": {"_kernels"}}
    public = {"adapters", "__init__", "optim", "_typing", "_interactive"}
    for name, tree in modules():
        if name.startswith("adapters/"):
            more = set().union(*(names for place, names in beneath.items() if name.startswith(place)))
            assert imports(name, tree)[0] <= public | more, name


def test_other_libraries_are_imported_where_they_belong():
    for name, tree in modules():
        allowed = sys.stdlib_module_names | (set() if name.startswith("reference/") else {"numpy"})
        for place, libraries in OPTIONAL.items():
            if name == place or (place.endswith("/") and name.startswith(place)):
                allowed |= libraries
        assert imports(name, tree)[1] <= allowed, name


def test_every_package_is_small_and_says_its_duty():
    for folder in {path.parent for path in PACKAGE.rglob("*.py")}:
        assert len(list(folder.glob("*.py"))) <= 14, folder
        assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text())), folder


def test_every_file_is_small():
    files = [path for folder in (PACKAGE, ROOT / "src_c", ROOT / "tests") for path in folder.rglob("*.*")]
    sources = [path for path in files if path.suffix in (".py", ".pyx", ".pxd", ".pyi", ".c", ".h", ".inc")]
    assert {path.suffix for path in (PACKAGE / "_kernels").iterdir()} <= {"", ".py", ".pyx", ".pxd", ".pyi", ".so"}
    assert not [path for path in sources if len(path.read_text().splitlines()) > 400]


def test_the_backends_have_the_same_calls():
    """By their sources, because only one of them is loaded."""
    trees = dict(modules())
    (calls,) = (ast.literal_eval(node.value) for node in trees["_kernels/on_c"].body if isinstance(node, ast.Assign))
    body = trees["_kernels/on_reference"].body
    names = {node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)} | {"N_SCALARS"}
    shared = ("_on_reference", "_float_env")
    imported = [node for node in body if isinstance(node, ast.ImportFrom) and str(node.module).endswith(shared)]
    names |= {alias.name for node in imported for alias in node.names}
    assert {name for name in names if not name.startswith("_")} == set(calls) - {"select_isa"}


def test_what_uses_layers_uses_names_that_they_give():
    for name, tree in modules():
        if name.partition("/")[0] not in ("losses", "schedule", "microgpt", "explorer", "cli"):
            continue
        attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr.startswith("_")]
        others = [ast.unparse(node) for node in attributes if ast.unparse(node.value) not in ("self", "cls", "super()")]
        assert [text for text in others if "__" not in text and not text.endswith(("._asdict", "._replace"))] == [], name
