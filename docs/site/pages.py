"""Makes the sources of the documentation site from the project's Markdown pages.

The pages stay as they are shown in the repository. Here the README becomes the home page, the
tables of `docs/index.md` become the navigation, and pages of the public names are added.
"""

import importlib
import re
import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Pages from outside of `docs/`. The README is the home page.
OTHERS = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "fastembed/data/NOTICE.md": "notice.md",
}

# Sphinx has a page of that name itself.
RENAMED = {"search.md": "nearest.md"}

# The public modules, in the order of the reference; and those that need a library which need not be
# installed, with their names.
MODULES = (
    "fastembed",
    "fastembed.optim",
    "fastembed.losses",
    "fastembed.schedule",
    "fastembed.checkpoint",
    "fastembed.search",
    "fastembed.explorer",
    "fastembed.distributed",
    "fastembed.microgpt",
    "fastembed.training",
)
OPTIONAL = {
    "fastembed.plots": ["Film", "losses", "lookups", "norms", "overview", "positions", "rows", "save"],
    "fastembed.adapters.torch": ["Embedding", "EmbeddingBag", "convert", "revert"],
    "fastembed.adapters.jax": ["take", "embedding", "embedding_bag"],
    "fastembed.adapters.thinc": ["FastEmbedOps", "Embed", "HashEmbed"],
    "fastembed.adapters.sklearn": ["EmbeddingTransformer"],
}


def write(folder):
    """The sources, in a folder that is made anew, but for the pictures that pages ask for."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in sorted((ROOT / "docs").glob("*.md")):
        (folder / RENAMED.get(path.name, path.name)).write_text(_linked(path.read_text()))
    sections = _sections((folder / "index.md").read_text())
    for name, page in OTHERS.items():
        (folder / page).write_text(_linked((ROOT / name).read_text().replace("](docs/", "](")))
    for name, text in sections.items():
        (folder / f"{name}.md").write_text(text)
    (folder / "api.md").write_text(_reference())
    with (folder / "index.md").open("a") as home:
        home.write(_contents([*sections, "api"]))


def _linked(text):
    """Links to files outside of `docs/`, as links to their pages; pictures where one is named."""
    for name, page in {**OTHERS, **RENAMED}.items():
        text = re.sub(rf"\]\((\.\./)?{re.escape(name)}(#[\w-]+)?\)", rf"]({page}\2)", text)
    text = re.sub(r"\n+```$", "\n```", text, flags=re.MULTILINE)  # doctests end with an empty line
    return re.sub(r"<!-- picture (\w+): (.*?) -->", r"![\2](pictures/\1.png)", text, flags=re.DOTALL)


def _sections(index):
    """Of each section of the index a page, with the section's pages below it in the navigation."""
    sections, listed = {}, {"index"}
    for section in re.split(r"^## ", index, flags=re.MULTILINE)[1:]:
        pages = [page for page in re.findall(r"^\| \[[^\]]+\]\((\w+)\.md\)", section, flags=re.MULTILINE) if page not in listed]
        listed |= {*pages}
        name = "-".join(section.splitlines()[0].lower().split())
        sections[name] = f"# {section}\n{_contents(pages)}"
    others = {Path(page).stem for page in OTHERS.values()} - listed
    sections[name] += _contents(sorted(others))
    return sections


def _contents(pages):
    return "\n".join(["", "```{toctree}", ":hidden:", "", *pages, "```", ""])


def _reference():
    """A page of all public names, each with a page of its own."""
    names = {
        module: [name for name in importlib.import_module(module).__all__ if _is_documented(module, name)] for module in MODULES
    }
    parts = ["# API reference\n"]
    for module, listed in {**names, **OPTIONAL}.items():
        parts.append(f"## {module}\n\n```{{eval-rst}}\n.. currentmodule:: {module}\n")
        parts.append(".. autosummary::\n   :toctree: api\n   :nosignatures:\n")
        parts += [f"   {name}" for name in listed]
        parts.append("```\n")
    return "\n".join(parts)


def _is_documented(module, name):
    """Whether a name is a class or function, and not listed with a module before."""
    public = getattr(importlib.import_module(module), name)
    first = next(earlier for earlier in MODULES if getattr(importlib.import_module(earlier), name, None) is public)
    return callable(public) and first == module
