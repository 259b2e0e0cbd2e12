"""The page without a browser: what is in it is the table, and nothing in it leads out of it."""

import base64
import json
import re
import subprocess
import sys

import numpy as np
import pytest

import fastembed as fe
from fastembed.explorer.page import SCRIPTS

LETTERS = [*"abcdefghijklmnopqrstuvwxyz", "<BOS>"]


def data_in(path):
    text = path.read_text(encoding="utf-8")
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    return json.loads(found)


def decoded(data):
    kind = {"float16": "<f2", "int8": "i1"}[data["kind"]]
    values = np.frombuffer(base64.b64decode(data["values"]), kind).astype(float).reshape(data["rows"], data["columns"])
    points = np.frombuffer(base64.b64decode(data["points"]), "<f4").reshape(-1, 2)
    return values, points, np.frombuffer(base64.b64decode(data["norms"]), "<f8")


def cosines(rows):
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return units @ units.T


def test_the_table_is_in_the_page(tmp_path):
    layer = fe.Embedding(27, 16, rng=0).count_lookups()
    layer.vocabulary = LETTERS
    layer([0, 0, 5])
    fe.explorer.save(tmp_path / "x.html", layer, title="a <title> & more")
    data = data_in(tmp_path / "x.html")
    values, points, norms = decoded(data)
    assert data["names"] == LETTERS
    assert data["counts"] == layer.lookup_counts()["weight"].tolist()
    assert (data["rows"], data["columns"], data["kind"]) == (27, 16, "float16")
    np.testing.assert_allclose(cosines(values), cosines(layer.weight.astype(float)), atol=1e-3)
    np.testing.assert_allclose(norms, np.linalg.norm(layer.weight, axis=1), rtol=1e-6)
    np.testing.assert_allclose(points.mean(axis=0), 0, atol=1e-5)
    assert "<title>a &lt;title&gt; &amp; more</title>" in (tmp_path / "x.html").read_text()


def test_large_tables_are_in_8_bits_and_within_the_documented_error(tmp_path):
    table = np.random.default_rng(0).normal(size=(20_001, 200)).astype(np.float32)
    fe.explorer.save(tmp_path / "x.html", table)
    data = data_in(tmp_path / "x.html")
    assert data["kind"] == "int8"
    assert data["names"] is None
    values, _, _ = decoded(data)
    assert np.abs(cosines(values[:500]) - cosines(table[:500].astype(float))).max() < 0.01
    assert (tmp_path / "x.html").stat().st_size < 1.4 * table.size + 400_000


def test_odd_rows_and_names(tmp_path):
    names = ["</script><script>alert(1)", "{{scripts}}", "\ud800", "\u2028\n\t\r\x07\u200b é"]
    table = np.array([[np.nan, 1], [0, 0], [1e300, -1e300], [1e-300, 0]])
    fe.explorer.save(tmp_path / "x.html", table, names)
    data = data_in(tmp_path / "x.html")
    assert data["names"] == ["</script><script>alert(1)", "{{scripts}}", "\\ud800", r"\u2028\n\t\r\x07\u200b é"]
    values, points, norms = decoded(data)
    assert norms[1] == 0
    assert values.tolist() == [[0, 0], [0, 0], [1, -1], [1, 0]]
    assert np.isfinite(points).all(axis=1).tolist() == [False, True, True, True]
    assert (tmp_path / "x.html").read_text().count("</script>") == 2
    for shape in ((0, 3), (3, 0), (1, 1)):
        fe.explorer.save(tmp_path / "x.html", np.ones(shape))
        assert data_in(tmp_path / "x.html")["rows"] == shape[0]


def test_the_page_loads_nothing(tmp_path):
    fe.explorer.save(tmp_path / "x.html", np.eye(3))
    text = (tmp_path / "x.html").read_text()
    assert "default-src 'none'" in text
    assert not re.findall(r"https?://|src=|href=|url\(|@import|fetch\(|XMLHttp|import\s*\(", text)
    assert "{{" not in text.replace("`{{", "")
    for name in SCRIPTS:
        assert f"// {name}" not in text


def test_the_first_rows(tmp_path):
    fe.explorer.save(tmp_path / "x.html", np.eye(9), max_rows=4)
    assert data_in(tmp_path / "x.html")["about"] == "the first 4 rows of 9 x 9 float64"
    with pytest.raises(ValueError, match="max_rows must be at most 50000, got 50001"):
        fe.explorer.save(tmp_path / "x.html", np.eye(9), max_rows=50_001)


def test_tsv_files(tmp_path):
    table = np.array([[0.1, -2.5], [1e-30, 3.0]], np.float32)
    fe.explorer.save_vectors(tmp_path / "v.tsv", table)
    read = np.array([[float(x) for x in line.split("\t")] for line in (tmp_path / "v.tsv").read_text().splitlines()])
    np.testing.assert_array_equal(read.astype(np.float32), table)
    fe.explorer.save_metadata(tmp_path / "m.tsv", table, ["a\tb\n", "caf\u00e9"])
    assert (tmp_path / "m.tsv").read_text(encoding="utf-8") == "a\\tb\\n\ncaf\u00e9\n"


def test_a_page_is_whole_or_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "page.html"
    path.write_text("old")

    def full(file, *_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(OSError, match="No space left"):
        fe.explorer.save(path, np.ones((3, 2)))
    assert path.read_text() == "old"
    assert [kept.name for kept in tmp_path.iterdir()] == ["page.html"]


def test_the_command_writes_pages_as_html_files(tmp_path):
    np.save(tmp_path / "t.npy", np.ones((3, 2)))
    command = [sys.executable, "-m", "fastembed", "explore", "t.npy", "--out", "t.png"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (2, "fastembed explore: error: --out must name an .html file, got t.png\n")
