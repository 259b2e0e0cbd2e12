"""Nearest rows: the public name of `fastembed.functional.search` and its index."""

from .functional.search import METRICS, Nearest, Rows, Searchable
from .functional.search_index import SearchIndex

__all__ = ["METRICS", "Nearest", "Rows", "SearchIndex", "Searchable"]
