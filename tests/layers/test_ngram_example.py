"""examples/ngram_engram.py, in short: the module is the plain one, and a table of n-grams helps."""

import importlib.util
from pathlib import Path

import pytest
from common import needs_c

pytestmark = needs_c


@pytest.fixture(scope="module")
def example():
    path = Path(__file__).parents[2] / "examples" / "ngram_engram.py"
    spec = importlib.util.spec_from_file_location("ngram_engram", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_module_is_the_plain_one(example):
    assert example.largest_difference() < 1e-5


def test_a_table_of_ngrams_lowers_the_loss_of_the_names(example):
    without, with_ngrams = example.losses(60)
    assert with_ngrams < without - 0.05
