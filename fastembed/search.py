"""Nearest rows: the public name of `fastembed.functional.search`."""

from .functional.search import METRICS, Nearest, Rows, Searchable, SearchIndex

__all__ = ["METRICS", "Nearest", "Rows", "SearchIndex", "Searchable"]
