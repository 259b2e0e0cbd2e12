"""Docs: links resolve, names and commands exist, lines are short, public names have doctests."""

import importlib.util
import json
import re
import tomllib
from pathlib import Path

import pytest

import fastembed

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [*(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")), *DOCS]
FOR_DEVELOPERS = {"test", "test-kernels", "lint", "docs", "wheel", "dev"}
LIBRARIES = {"torch": "PyTorch"}  # distributions that are called otherwise in prose
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def prose(page):
    """A page without its blocks of code."""
    return re.sub(r"^(```.*?^```|    [^\n]*)$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(page):
    """What its headings can be linked by, as GitHub names them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_links_resolve(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        path, _, anchor = target.partition("#")
        if not path.startswith("https://"):
            linked = (page.parent / path).resolve() if path else page
            assert linked.exists(), target
            assert not anchor or anchor in anchors(linked), target


def test_the_index_lists_every_page():
    linked = set(re.findall(r"\]\((\w+\.md)", (ROOT / "docs" / "index.md").read_text()))
    assert linked == {page.name for page in DOCS} - {"index.md"}


@each_page
def test_names_and_commands_exist(page):
    text = page.read_text()
    makefile = "".join((ROOT / name).read_text() for name in ("Makefile", "tests/campaigns/campaigns.mk"))
    for name in re.findall(r"`(?:fe|fastembed)\.([\w.]*\w)", text):
        first, *others = name.split(".")
        if first == "adapters":  # their frameworks may be absent
            assert importlib.util.find_spec(f"fastembed.adapters.{others[0]}"), name
            continue
        if first == "plots" and others:  # matplotlib may be absent
            assert others[0] in fastembed.plots.__all__, name
            continue
        public = getattr(fastembed, first, None) or importlib.import_module(f"fastembed.{first}")
        for other in others:
            public = getattr(public, other)
    for path in re.findall(r"`((?:fastembed|src_c|tests|docs)/[\w./]*)`", text):
        assert (ROOT / path).exists(), path
    for target in re.findall(r"(?:^    |`)make ([a-z0-9-]+)", text, flags=re.MULTILINE):
        assert re.search(rf"^(?:[\w-]+ )*{target}(?: [\w-]+)*:", makefile, flags=re.MULTILINE), target


def test_public_names_have_documented_examples():
    for name in fastembed.__all__:
        public = getattr(fastembed, name)
        if callable(public):
            assert ">>>" in public.__doc__ or name == "show_runtime", name


@each_page
def test_lines_are_short(page):
    code = ("|", "    ", ">>>", "...")
    assert [line for line in page.read_text().splitlines() if len(line) > (130 if line.startswith(code) else 100)] == []


def test_the_figures_are_those_of_the_run():
    spec = importlib.util.spec_from_file_location("figures", ROOT / "docs" / "site" / "figures.py")
    figures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(figures)
    assert figures.PAGE.read_text() == figures.page(json.loads(figures.KEPT.read_text()))


def test_extras_are_listed_with_what_they_install():
    """Those for users; the others are for work on the project."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    page = (ROOT / "docs" / "command_line.md").read_text()
    table = dict(re.findall(r"^\| `pip install '\.\[(\w+)\]'` \| (.*) \|$", page, re.MULTILINE))
    assert {*table} == {*extras} - FOR_DEVELOPERS
    for extra, adds in table.items():
        for requirement in extras[extra]:
            library = re.match(r"[\w-]+", requirement)[0]
            assert LIBRARIES.get(library, library).lower() in adds.lower(), (extra, library)
