"""Tables that no machine has room for, and files that no disk has: errors that say how large."""

import os

import numpy as np
import pytest

import fastembed as fe

HUGE = 2**62


@pytest.mark.parametrize(
    "make",
    [
        lambda: fe.Embedding(HUGE, 4),
        lambda: fe.Embedding(4, HUGE),
        lambda: fe.EmbeddingBag(HUGE, 4),
        lambda: fe.TokenPositionEmbedding(HUGE, 2, 4),
        lambda: fe.EmbeddingCollection({"a": (HUGE, 4)}),
        lambda: fe.Embedding(2, 4).resize(HUGE),
        lambda: fe.Embedding(2, 4, dtype="float64").resize(2**46),
        lambda: fe.Embedding(2**46, 4),
    ],
)
def test_no_memory_for_a_table(make):
    with pytest.raises(MemoryError, match=r"no memory for a table of \d+ rows of \d+ float\d\ds, which take [\d,]{15,} bytes"):
        make()


def test_a_resize_without_memory_changes_nothing():
    layer = fe.Embedding(3, 2, rng=0)
    before = layer.weight.copy()
    with pytest.raises(MemoryError):
        layer.resize(HUGE)
    assert np.array_equal(layer.weight, before)


@pytest.mark.parametrize("name", ["table.safetensors", "table.npy"])
def test_a_file_that_is_too_large(name, tmp_path):
    for shape, text in (((HUGE, 4), "rows of 16 bytes are 73,786,976,294,838,206,464, too many"), ((2**59, 2), "for 4,611,686,")):
        with pytest.raises(OSError, match=text) as caught:
            fe.Embedding.create(tmp_path / name, shape, init=0)
        assert caught.value.filename == str(tmp_path / name)
    assert os.listdir(tmp_path) == []
