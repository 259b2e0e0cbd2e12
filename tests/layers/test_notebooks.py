"""What notebooks show of layers, statistics and gradients."""

import re
from html import escape

import numpy as np
import pytest

import fastembed as fe
from fastembed._interactive import html


def cells(text):
    assert text.count("<table>") == text.count("</table>") == 1
    return [re.sub(r"<[^>]*>", "", cell) for cell in re.findall(r"<t[dh][^>]*>.*?</t[dh]>", text)]


@pytest.mark.parametrize("kind", [fe.Embedding, fe.EmbeddingBag, fe.HashEmbedding])
def test_layers(kind):
    layer = kind(30, 4, rng=0)
    text = layer._repr_html_()
    assert f"<strong>{escape(repr(layer))}</strong>" in text
    assert cells(text)[:4] == ["table", "shape", "dtype", "size"]
    assert cells(text)[5:8] == ["30 x 4", "float32", "480 bytes"]


def test_names_and_several_tables():
    layer = fe.TokenPositionEmbedding(3, 2, 4, rng=0)
    layer.vocabulary = ["a", "b", "c"]
    found = cells(layer._repr_html_())
    assert found[4::4] == ["wte", "wpe", "names"]
    assert found[5::4] == ["3 x 4", "2 x 4", "3 rows"]


def test_tables_for_look_ups():
    table = fe.QuantizedEmbedding.from_float(np.ones((3, 4)))
    assert cells(table._repr_html_()) == ["shape", "3 x 4", "size", "36 bytes"]
    table.vocabulary = ["a", "b", "c"]
    assert cells(table._repr_html_())[-2:] == ["names", "3 rows"]


def test_collections():
    layer = fe.EmbeddingCollection({"a": np.ones((3, 2)), "b": np.ones((1, 4))})
    found = cells(layer._repr_html_())
    assert found[4:] == ["a.weight", "3 x 2", "float64", "48 bytes", "b.weight", "1 x 4", "float64", "32 bytes"]


def test_statistics_and_gradients():
    layer = fe.Embedding(9, 7, dtype="float64", rng=0).count_lookups()
    layer([[3, 1], [3, 3]])
    layer.backward(np.ones((2, 2, 7)))
    found = cells(layer.statistics()["weight"]._repr_html_())
    assert found[found.index("look-ups") + 1] == "4"
    assert found[found.index("most frequent") + 1] == "3 (3 times), 1 (1 times)"
    text = layer.grads()["weight"]._repr_html_()
    assert cells(text) == ["row", "norm", "first columns", "1", "2.646", "1 1 1 1 1", "3", "7.937", "3 3 3 3 3"]
    wide = fe.RowGrad(np.arange(8), np.ones((8, 2)), (9, 2))
    assert cells(wide._repr_html_())[-3:] == ["3 more", "", ""]


def test_texts_are_escaped():
    assert cells(html.table("<b>", [("&", "\x1b<i>")])) == ["&amp;", r"\x1b&lt;i&gt;"]
    assert [html.size(n) for n in (0, 999, 1000, 15_360_000, 10**13)] == ["0 bytes", "999 bytes", "1 kB", "15.4 MB", "10 TB"]
