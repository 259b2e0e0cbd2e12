"""The site's sources: every page is in the navigation, every public name in the reference."""

import importlib.util
import re
from pathlib import Path

import pytest

import fastembed

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The text of each page of the site, by name."""
    spec = importlib.util.spec_from_file_location("pages", ROOT / "docs" / "site" / "pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path_factory.mktemp("site") / "source"
    module.write(folder)
    return {path.stem: path.read_text() for path in folder.glob("*.md")}


def test_each_page_has_one_place_in_the_navigation(pages):
    listed = []
    for contents in re.findall(r"```\{toctree\}\n:hidden:\n\n(.*?)\n```", "\n".join(pages.values()), flags=re.DOTALL):
        listed += contents.split()
    assert sorted([*listed, "index"]) == sorted(pages)


def test_no_link_leaves_the_site(pages):
    for name, text in pages.items():
        for target in re.findall(r"(?<!!)\[[^]]*\]\(((?!https://|#)[^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
            page = target.partition("#")[0]
            assert page.removesuffix(".md") in pages, (name, target)


def test_the_reference_lists_the_public_names(pages):
    listed = set(re.findall(r"^   (\w+)$", pages["api"], flags=re.MULTILINE))
    assert listed >= {name for name in fastembed.__all__ if callable(getattr(fastembed, name))}


def test_pictures_are_drawn(pages):
    drawn = re.findall(r'^        "(\w+)": ', (ROOT / "docs" / "site" / "pictures.py").read_text(), flags=re.MULTILINE)
    assert sorted(re.findall(r"!\[[^]]+\]\(pictures/(\w+)\.png\)", "\n".join(pages.values()))) == sorted(drawn)
    assert "<!-- picture" not in "\n".join(pages.values())


def test_no_page_has_the_name_of_one_of_the_site(pages):
    assert not {"search", "genindex"} & set(pages)
