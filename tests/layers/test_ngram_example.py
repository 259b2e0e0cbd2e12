"""The examples of n-grams: the module is the plain one; a table helps, and reading ahead."""

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


def test_decoding_gives_the_same_tokens_when_rows_are_read_ahead():
    (tokens, _), (ahead, _) = example("ngram_decode").compare(n_tokens=20, n_layers=2, ms=0.5, n_rows=20_000)
    assert len(tokens) == 23
    assert tokens == ahead
