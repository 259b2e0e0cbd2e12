"""The examples of n-grams, in short: the module is the plain one, and tables of n-grams help."""

import importlib.util
from pathlib import Path

import pytest
from common import needs_c

pytestmark = needs_c


def example(name):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[2] / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def engram():
    return example("ngram_engram")


def test_the_module_is_the_plain_one(engram):
    assert engram.largest_difference() < 1e-5


def test_a_table_of_ngrams_lowers_the_loss_of_the_names(engram):
    without, with_ngrams = engram.losses(60)
    assert with_ngrams < without - 0.05


def test_a_table_of_ngrams_lowers_the_loss_of_the_names_model():
    train = example("ngram_names").train
    assert train(400, True) < train(400, False) - 0.02
