"""Sphinx settings of the documentation site; `make docs` builds it, warnings being errors."""

from pathlib import Path

from sphinx.ext.autodoc.mock import _MockObject

import fastembed

_MockObject.__setitem__ = lambda registry, key, entry: None  # JAX's registries of primitives take entries

project = "fastembed"
author = "the fastembed developers"
project_copyright = "MIT licence"
release = version = fastembed.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
toc_object_entries_show_parents = "hide"
templates_path = [str(Path(__file__).parent / "templates")]

myst_heading_anchors = 4
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

autodoc_mock_imports = ["torch", "jax", "thinc", "sklearn", "matplotlib", "PIL", "mpi4py"]
autodoc_typehints = "none"
autosummary_generate = True
numpydoc_show_class_members = False

html_theme = "pydata_sphinx_theme"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_sidebars = {"index": []}
html_title = f"fastembed {release}"
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
}
