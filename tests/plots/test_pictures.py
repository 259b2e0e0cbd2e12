"""Pictures: labels do not overlap, files have their format, names are shown as they are."""

import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest

import fastembed as fe

pytest.importorskip("matplotlib")
LETTERS = [*"abcdefghijklmnopqrstuvwxyz", "<BOS>"]
HEADS = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF", "gif": b"GIF89a"}


def boxes(picture, axis):
    renderer = picture.canvas.get_renderer()
    return [text.get_window_extent(renderer) for text in axis.texts if text.get_gid() == "label"]


@pytest.mark.parametrize("n", [27, 3000])
def test_labels_do_not_overlap_as_they_are_drawn(n):
    table = np.random.default_rng(0).normal(size=(n, 8))
    picture = fe.plots.rows(table, [f"word {k}" for k in range(n)], n_labels=60)
    picture.canvas.draw()
    (axis,) = picture.axes
    found = boxes(picture, axis)
    assert len(found) >= 25
    assert not [pair for pair in combinations(found, 2) if pair[0].padded(-0.6).overlaps(pair[1].padded(-0.6))]
    edge = axis.get_window_extent()
    assert all(box.x0 >= edge.x0 - 1 and box.x1 <= edge.x1 + 1 for box in found)


@pytest.mark.parametrize("dark", [False, True])
def test_every_picture_can_be_saved(tmp_path, dark):
    layer = fe.TokenPositionEmbedding(27, 8, 16, rng=0).count_lookups()
    layer.vocabulary = LETTERS
    layer(np.arange(24).reshape(3, 8))
    pictures = [
        fe.plots.rows(layer, dark=dark),
        fe.plots.positions(layer, table="wpe", dark=dark),
        fe.plots.norms(layer, dark=dark),
        fe.plots.lookups(layer, dark=dark),
        fe.plots.losses([3.0, 2.0, 2.5], dark=dark),
        fe.plots.overview(layer, position_rows=layer.wpe, counts=layer.lookup_counts()["wte"], loss=[2.0, 1.0], dark=dark),
    ]
    for k, picture in enumerate(pictures):
        fe.plots.save(picture, tmp_path / f"{k}.png")
        assert (tmp_path / f"{k}.png").read_bytes().startswith(HEADS["png"])
        pixels = np.array(picture.canvas.buffer_rgba())
        assert tuple(pixels[0, 0, :3]) == ((0x14, 0x17, 0x1C) if dark else (255, 255, 255))
        assert len(np.unique(pixels.reshape(-1, 4), axis=0)) > 50
    assert pictures[0]._repr_png_().startswith(HEADS["png"])
    for suffix in ("svg", "pdf"):
        fe.plots.save(pictures[4], tmp_path / f"x.{suffix}")
        assert (tmp_path / f"x.{suffix}").read_bytes().startswith(HEADS[suffix])


def test_large_tables_have_curves_in_place_of_bars():
    layer = fe.Embedding(500, 4, rng=0).count_lookups()
    layer(np.arange(500).repeat(np.arange(500) % 7))
    assert len(fe.plots.norms(layer).axes[0].patches) == 60
    (line,) = fe.plots.lookups(layer).axes[0].lines
    assert line.get_ydata()[0] == 6


def test_odd_names_and_rows(tmp_path):
    table = np.random.default_rng(0).normal(size=(7, 4))
    table[0] = np.nan
    names = ["nan", "a$b$", "\x1b[31m\n", "  ", "x" * 100, "", "caf\u00e9"]
    picture = fe.plots.rows(table, names)
    fe.plots.save(picture, tmp_path / "x.png")
    shown = {text.get_text() for text in picture.axes[0].texts}
    assert shown == {"a$b$", r"\x1b[31m\n", "\u2423\u2423", "x" * 23 + "\u2026", "", "caf\u00e9"}
    for empty in (np.zeros((0, 4)), np.zeros((3, 0)), np.full((3, 4), np.inf)):
        fe.plots.save(fe.plots.overview(empty), tmp_path / "x.png")
    with pytest.warns(UserWarning, match=r"^the fonts lack characters, which are shown as boxes: "):
        fe.plots.save(fe.plots.rows(table, ["\U0001f980"] * 7), tmp_path / "x.png")


def test_invalid_arguments(tmp_path):
    with pytest.raises(ValueError, match=r"path must name a \.png or \.svg or \.pdf file, got 'x\.jpeg'"):
        fe.plots.save(fe.plots.losses([1.0]), "x.jpeg")
    with pytest.raises(ValueError, match="there are no counts of look-ups"):
        fe.plots.lookups(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="values must be the losses of one step or more"):
        fe.plots.losses([])
    with pytest.raises(ValueError, match="there is no copy of a table"):
        fe.plots.Film("abc").save(tmp_path / "x.gif", losses=[1.0])
    with pytest.raises(TypeError, match="dark must"):
        fe.plots.rows(np.zeros((3, 2)), dark="yes")
    assert not list(tmp_path.iterdir())


def test_a_film_moves(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    film, table, frames = fe.plots.Film(LETTERS), rng.normal(size=(27, 8)), []
    for k in range(4):
        film.add(10 * k, table)
        table = table + 0.3 * rng.normal(size=table.shape)
    losses = np.linspace(3, 2, 30)
    film.save(tmp_path / "x.gif", losses, progress=lambda *done: frames.append(done))
    assert frames == [(1, 4), (2, 4), (3, 4), (4, 4)]
    with Image.open(tmp_path / "x.gif") as image:
        assert (image.format, image.n_frames) == ("GIF", 4)
        shown = []
        for k in range(4):
            image.seek(k)
            shown.append(np.array(image.convert("RGB")))
        assert all((one != other).any() for one, other in combinations(shown, 2))
        assert image.info["duration"] == 2000
    film.save(tmp_path / "film", losses, format="png")
    assert (tmp_path / "film").read_bytes().startswith(HEADS["png"])


def test_without_matplotlib_one_line_says_what_to_install():
    script = "import sys; sys.modules['matplotlib'] = None; import fastembed as fe; fe.plots.Source; fe.plots.losses([1.0])"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    message = "ImportError: fastembed.plots needs matplotlib: pip install 'microgpt-fastembed[plot]'"
    assert result.stderr.splitlines()[-1] == message
