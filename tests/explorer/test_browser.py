"""The page in a headless Chromium: what it shows is right, and labels do not overlap."""

import re
import shutil
import urllib.parse

import numpy as np
import pytest
from browser import Browser

import fastembed as fe

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium"),
    pytest.mark.uninstrumented,
    pytest.mark.fork,
]
KEYS = "const press = (key, target = document.body) => target.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}));"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(CHROMIUM, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    letters = fe.Embedding(27, 16, rng=0).count_lookups()
    letters.vocabulary = [*"abcdefghijklmnopqrstuvwxyz", "<BOS>"]
    letters(np.arange(27).repeat(np.arange(27)))
    fe.explorer.save(folder / "letters.html", letters)
    crowd = fe.Embedding(3000, 40, rng=1)
    crowd.vocabulary = [f"word {k}" for k in range(3000)]
    fe.explorer.save(folder / "crowd.html", crowd)
    return {"letters": (folder / "letters.html", letters), "crowd": (folder / "crowd.html", crowd)}


@pytest.mark.parametrize(("name", "fragment", "least"), [("letters", "", 25), ("crowd", "#7", 60)])
def test_nearest_rows_labels_and_list(browser, pages, name, fragment, least):
    path, layer = pages[name]
    script = """
      explorer.map.draw();
      const boxes = explorer.map.labels.map(label => label.box), overlaps = [];
      for (const [k, a] of boxes.entries())
        for (const b of boxes.slice(k + 1))
          if (a[2] > b[0] && a[0] < b[2] && a[3] > b[1] && a[1] < b[3]) overlaps.push([a, b]);
      const outside = boxes.filter(b => b[0] < 0 || b[1] < 0 || b[2] > explorer.map.width || b[3] > explorer.map.height);
      explorer.choose(7);
      const texts = [...document.querySelectorAll('#chosen ol .text')].map(e => e.textContent);
      const scores = [...document.querySelectorAll('#chosen ol .number')].map(e => Number(e.textContent));
      explorer.list.sort(explorer.list.columns[2]);
      const first = document.querySelector('.line .text').textContent;
      const colours = ['page', 'ink'].map(name => explorer.map.colours[name].trim());
      return {n: boxes.length, overlaps, outside, texts, scores, first, hash: location.hash, colours,
        lines: document.querySelectorAll('.line').length};
    """
    found = browser.run(path.as_uri() + fragment, script)
    assert found["n"] >= least
    assert found["overlaps"] == found["outside"] == []
    near = layer.nearest(7, 12, exclude_queries=True)
    np.testing.assert_allclose(found["scores"], near.scores, atol=1.5e-3)
    assert found["texts"][:3] == layer.vocabulary.names(near.ids[:3])
    assert found["first"] == layer.vocabulary.names(int(np.linalg.norm(layer.weight, axis=1).argmax()))
    assert found["hash"] == "#7"
    assert found["colours"] == ["#ffffff", "#1b1f24"]
    assert found["lines"] < 60


def test_keys_search_zoom_and_theme(browser, pages):
    path, _ = pages["letters"]
    script = f"""{KEYS}
      const map = explorer.map, search = document.getElementById('search'), seen = {{}};
      const scale = map.scale;
      press('+'); seen.zoomed = Math.round(1000 * map.scale / scale) / 1000;
      const middle = map.middle[0];
      press('ArrowRight'); seen.moved = map.middle[0] > middle;
      press('0'); seen.all = map.scale === scale;
      press('/'); seen.focus = document.activeElement === search;
      search.value = 'B'; explorer.showMatches();
      seen.matches = [...document.querySelectorAll('#matches .text')].map(e => e.textContent);
      press('ArrowDown', search); press('Enter', search); seen.taken = explorer.table.names[map.chosen];
      press('n'); seen.next = map.chosen !== 26 && map.chosen >= 0;
      press('Escape'); seen.none = map.chosen;
      search.value = 'zzz'; explorer.showMatches(); seen.nothing = document.querySelector('#matches').textContent;
      press('t'); seen.dark = getComputedStyle(document.body).backgroundColor;
      for (const kind of ['norm', 'count', 'none']) {{ explorer.colour.value = kind; explorer.shade(); map.draw(); }}
      explorer.choose(3);
      explorer.colour.value = 'cosine'; explorer.shade(); seen.shade = [map.shade[3], Math.max(...map.shade)];
      explorer.hover(map.x(5), map.y(5)); seen.tip = document.getElementById('tip').textContent;
      return seen;
    """
    found = browser.run(path.as_uri(), script)
    tip = found.pop("tip")
    assert re.fullmatch(r"f\nrow 5, norm 0\.\d+|f\nrow 5, norm \d\.\d+, 5 look-ups, cosine -?0\.\d{3}", tip), tip
    assert found == {
        "zoomed": 1.5, "moved": True, "all": True, "focus": True, "matches": ["b", "<BOS>"], "taken": "<BOS>", "next": True,
        "none": -1, "nothing": "No row has this in its name.", "dark": "rgb(20, 23, 28)", "shade": [1, 1],
    }  # fmt: skip


def test_the_list_by_keys(browser, pages):
    """Arrows reach any row, Enter chooses it, and then Tab goes on to its neighbours."""
    path, _ = pages["letters"]
    script = f"""{KEYS}
      const scroll = document.querySelector('.scroll'), seen = {{}};
      press('ArrowDown', scroll); press('ArrowDown', scroll); press('Enter', scroll); seen.chosen = explorer.map.chosen;
      seen.marked = document.querySelector('.line.active .text').textContent;
      seen.told = document.getElementById(scroll.getAttribute('aria-activedescendant')).getAttribute('aria-selected');
      press('End', scroll); press(' ', scroll); seen.last = explorer.map.chosen;
      press('Home', scroll); press('Enter', scroll); seen.first = explorer.map.chosen;
      document.querySelector('#chosen ol button').click(); seen.focus = document.activeElement.tagName;
      const search = document.getElementById('search');
      search.focus(); search.value = 'b'; explorer.showMatches(); press('ArrowDown', search);
      search.value = ''; search.dispatchEvent(new Event('input')); seen.active = explorer.active;
      location.hash = '#9';
      return new Promise(done => setTimeout(() => {{ seen.hash = explorer.map.chosen; done(seen); }}, 50));
    """
    found = browser.run(path.as_uri(), script)
    assert found == {"chosen": 2, "marked": "c", "told": "true", "last": 26, "first": 0, "focus": "H2", "active": 0, "hash": 9}


def test_odd_rows_and_frames(browser, tmp_path):
    """What is no number is sorted last; a page without an address of its own works."""
    table = np.ones((5, 3), "f4") * np.array([[1], [np.nan], [3], [0], [1e-10]], "f4")
    fe.explorer.save(tmp_path / "odd.html", table)
    script = """
      explorer.list.sort(explorer.list.columns[2]);
      const order = [...explorer.list.rows], texts = [...document.querySelectorAll('.line')].map(e => e.lastChild.textContent);
      explorer.choose(3);
      return {order, texts, none: document.querySelector('#chosen h3').textContent};
    """
    found = browser.run((tmp_path / "odd.html").as_uri(), script)
    assert found["order"] == [2, 0, 4, 3, 1]
    assert found["texts"] == ["5.196", "1.732", "1.7e-10", "0.000", "NaN"]
    assert found["none"].startswith("No row is near")
    framed = "data:text/html," + urllib.parse.quote((tmp_path / "odd.html").read_text())
    assert browser.run(framed, "explorer.choose(2); return explorer.map.chosen") == 2


def test_colours_of_scales_are_seen(browser, pages):
    """On both themes each has a contrast to the page of 3 or more."""
    path, _ = pages["letters"]
    script = """
      const light = ([r, g, b]) => [[r, 0.2126], [g, 0.7152], [b, 0.0722]].reduce((sum, [c, part]) =>
        sum + part * (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4), 0);
      const contrast = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
      const pages = {light: [255, 255, 255], dark: [20, 23, 28]};
      return Object.entries(SCALES).flatMap(([theme, scale]) => scale.map(colour => contrast(colour, pages[theme])));
    """
    found = browser.run(path.as_uri(), script)
    assert len(found) == 10
    assert min(found) >= 3


def test_a_small_window_and_an_empty_table(browser, pages, tmp_path):
    path, _ = pages["letters"]
    script = "return [explorer.map.width, explorer.map.labels.length, document.body.scrollWidth]"
    found = browser.run(path.as_uri(), script, width=520, height=700)
    assert found[0] == found[2] <= 520
    assert found[1] >= 20
    for shape in ((0, 3), (3, 0)):
        fe.explorer.save(tmp_path / "x.html", np.ones(shape))
        assert browser.run((tmp_path / "x.html").as_uri(), "return explorer.table.n") == shape[0]
