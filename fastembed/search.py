"""Nearest rows: the public names of `fastembed.functional.search`."""

from ._interactive import completion
from .functional.search.index import SearchIndex
from .functional.search.nearest import METRICS, Nearest, Rows, Searchable

__all__ = ["METRICS", "Nearest", "Rows", "SearchIndex", "Searchable"]
__dir__ = completion.names_of(__all__)
