"""``explore``: the files that it writes, and what it refuses."""

import numpy as np
import pytest
from running import status_of


def test_a_page_and_tsv_files(folder, capsys):
    assert status_of(["explore", "model"]) == 0
    assert capsys.readouterr().out == "page: model.html\n"
    text = (folder / "model.html").read_text()
    assert '"names":["a","b","c","d","\\u003cBOS>"]' in text
    assert "<title>model: wte</title>" in text
    assert status_of(["explore", "model", "--table", "wpe", "--tsv", "v.tsv", "--metadata", "m.tsv"]) == 0
    assert capsys.readouterr().out == "vectors: v.tsv\n"
    assert len((folder / "v.tsv").read_text().splitlines()) == 8
    assert (folder / "m.tsv").read_text() == "".join(f"{n}\n" for n in range(8))
    np.save("table.npy", np.eye(9))
    assert status_of(["explore", "table.npy", "--rows", "4", "--out", "x.html", "--tsv", "x.tsv"]) == 0
    assert capsys.readouterr().out == "the page shows the first 4 of 9 rows\npage: x.html\nvectors: x.tsv\n"
    assert len((folder / "x.tsv").read_text().splitlines()) == 9


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["text"], "text is not a safetensors file, or is damaged"),
        (["missing"], "missing: No such file or directory"),
        (["model", "--metadata", "m"], "--metadata names the rows of --tsv, which is missing"),
        (["model", "--tsv", "t", "--metadata", "t"], "--tsv and --metadata are the same file"),
        (["model", "--out", "text"], "text is there already"),
        (["model", "--rows", "50001"], "argument --rows: must be at most 50000, got '50001'"),
        (["model", "--names", "text"], "--names: text has 3 lines, and model has 5 rows"),
    ],
)
def test_what_cannot_be_done_is_one_line(folder, capsys, arguments, text):
    before = sorted(path.name for path in folder.iterdir())
    assert status_of(["explore", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert text in line
    assert sorted(path.name for path in folder.iterdir()) == before
