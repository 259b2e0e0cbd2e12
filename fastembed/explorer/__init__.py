"""A page about a table, for any browser, in one file that needs no network; and TSV files."""

from .._interactive import completion
from .page import save
from .tsv import save_metadata, save_vectors

__all__ = ["save", "save_metadata", "save_vectors"]
__dir__ = completion.names_of(__all__)
