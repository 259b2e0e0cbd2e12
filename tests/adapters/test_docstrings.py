"""The examples in the docstrings of the adapters, each where its framework is installed."""

import doctest
import importlib

import pytest
from common import needs_c

MODULES = {
    "torch": ["functional", "layers", "optim", "tables"],
    "thinc": ["layers", "ops"],
    "jax": [""],
    "sklearn": [""],
}


@needs_c
@pytest.mark.parametrize(("framework", "name"), [(framework, name) for framework in MODULES for name in MODULES[framework]])
@pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning")
def test_examples_run(framework, name):
    pytest.importorskip(framework)
    module = importlib.import_module(f"fastembed.adapters.{framework}.{name}".rstrip("."))
    failed, attempted = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert attempted > 0
    assert failed == 0
