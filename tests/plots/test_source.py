"""What is shown of a layer or an array: rows, names, counts."""

import numpy as np
import pytest

import fastembed as fe
from fastembed.plots import Source


def test_a_layer_gives_rows_names_and_counts():
    layer = fe.Embedding.from_pretrained(np.array([[3.0, 4.0], [0.0, 0.0], [np.nan, 1.0]])).count_lookups()
    layer.vocabulary = ["a", "b", "c"]
    layer([1, 1, 0])
    shown = Source.of(layer)
    assert (shown.names, shown.is_named, shown.n_rows, shown.dtype) == (["a", "b", "c"], True, 3, "float64")
    assert shown.counts.tolist() == [1, 2, 0]
    assert shown.order.tolist() == [1, 0, 2]
    np.testing.assert_array_equal(shown.norms, [5, 0, np.nan])
    assert str(shown) == "3 x 2 float64"


def test_the_first_rows_of_a_large_table_and_of_other_tables():
    shown = Source.of(np.zeros((100, 3), np.float32), max_rows=10)
    assert (len(shown.rows), shown.n_rows, shown.is_named, shown.names[-1]) == (10, 100, False, "9")
    assert str(shown) == "the first 10 rows of 100 x 3 float32"
    layer = fe.TokenPositionEmbedding(5, 3, 4, rng=0)
    layer.vocabulary = list("abcde")
    assert Source.of(layer).names == list("abcde")
    assert Source.of(layer, table="wpe").names == ["0", "1", "2"]
    quantized = fe.QuantizedEmbedding.from_float(np.eye(4, dtype=np.float32))
    quantized.vocabulary = ["a", "b", "c", "d"]
    assert Source.of(quantized).names == ["a", "b", "c", "d"]
    assert Source.of(quantized, names=list("wxyz")).names == ["w", "x", "y", "z"]
    assert Source.of(quantized).rows.shape == (4, 4)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"names": "abc"}, TypeError, "names must be an iterable of strings, got 'abc'"),
        ({"names": ["a"]}, ValueError, "names must be one for each of the 3 rows, got 1"),
        ({"names": ["a", 5, "b"]}, TypeError, "names must be strings, got 5 at position 1"),
        ({"lookups": [1, 2]}, ValueError, "lookups must"),
        ({"max_rows": -1}, ValueError, "max_rows must"),
    ],
)
def test_what_does_not_fit_is_named(arguments, error, text):
    with pytest.raises(error, match=text):
        Source.of(np.zeros((3, 2)), **arguments)
    with pytest.raises(TypeError, match="source must"):
        Source.of("text")
    with pytest.raises(KeyError, match="table must be one of"):
        Source.of(fe.Embedding(3, 2, rng=0), table="wpe")
