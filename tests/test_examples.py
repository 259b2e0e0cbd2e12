"""The list has every example; those that promise a number reach it in short form."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples"
EXAMPLES = {path.stem for path in FOLDER.glob("*.py")} - {"text"}


@pytest.fixture
def example(monkeypatch):
    """A function that imports an example, as when its file is run."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)
    yield importlib.import_module
    for name in {*sys.modules} - before:
        if name in EXAMPLES:
            del sys.modules[name]


def test_the_list_has_every_example():
    listed = re.findall(r"`python examples/(\w+)\.py`", (FOLDER.parent / "docs" / "examples.md").read_text())
    assert sorted(listed) == sorted(EXAMPLES)


def test_names_model(example):
    assert example("names_model").main(steps=300) < 2.6


def test_recommender(example):
    assert example("recommender").main(steps=250) > 0.8


def test_skipgram(example):
    assert example("skipgram").main(epochs=4) > 0.85


def test_growing_vocabulary(example):
    assert example("growing_vocabulary").main(n_words=40_000) < 1.3


def test_sentence_vectors(example):
    pytest.importorskip("tokenizers")
    assert example("sentence_vectors").main(vocab_size=2000) > 0.4


@pytest.mark.uninstrumented
def test_larger_than_memory():
    """In a process of its own, whose memory is that of the example alone."""
    command = [sys.executable, FOLDER / "larger_than_memory.py", "--size", str(1 << 33), "--steps", "10"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert float(re.search(r"([\d.]+)% of the table", output)[1]) < 2


@pytest.mark.fork
@pytest.mark.uninstrumented
def test_serving(example):
    assert example("serving").main(n_rows=100_000, n_processes=2, n_requests=200) < 0.3
