"""Pictures of tables and of training, by matplotlib, which is imported when one is drawn.

Each function returns a matplotlib Figure, which notebooks show and `save` writes to a file.
"""

import importlib
from typing import TYPE_CHECKING

from .._interactive import completion
from .paths import check_path
from .source import Source

if TYPE_CHECKING:
    from .figure import Picture, save
    from .film import Film
    from .panels import overview
    from .scatter import rows
    from .tables import lookups, losses, norms, positions

__all__ = [
    "Film", "Picture", "Source", "check_path", "lookups", "losses", "norms", "overview", "positions", "rows", "save",
]  # fmt: skip
__dir__ = completion.names_of(__all__)

_MODULES = {
    "figure": ("Picture", "save"),
    "film": ("Film",),
    "panels": ("overview",),
    "scatter": ("rows",),
    "tables": ("losses", "lookups", "norms", "positions"),
}


def __getattr__(name: str) -> object:
    """A function or class, whose module imports matplotlib."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
