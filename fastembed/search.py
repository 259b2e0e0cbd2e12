"""Nearest rows: the public names of `fastembed.functional.search`."""

from .functional.search.index import SearchIndex
from .functional.search.nearest import METRICS, Nearest, Rows, Searchable

__all__ = ["METRICS", "Nearest", "Rows", "SearchIndex", "Searchable"]
