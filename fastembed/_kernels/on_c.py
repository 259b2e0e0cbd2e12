"""The calls of the compiled modules in one namespace. Imported by `backend` alone."""

from ._bags import (
    Features,
    below,
    code_bounds,
    costs,
    dots,
    dropout,
    embedding_bag,
    embedding_bags,
    fast_bag,
    hash_parts,
    hash_rows,
    norm_rows,
    sum_powers,
)
from ._commit import Commit
from ._core import build_info, get_num_threads, in_default_floats, packed_size, select_isa, set_num_threads
from ._disk import DiskRows, HeldRows, disk_slot_size
from ._gather import (
    any_nonresident,
    fast_gather,
    fast_gather_add,
    fast_gather_packed,
    gather,
    gather_add,
    gather_add_backward,
    prefetch_pages,
    release_pages,
    resolve_ids,
    scatter_add,
    use_large_pages,
)
from ._lookups import PairLookup, SingleLookup
from ._losses import cross_entropy, logistic
from ._ngram import fast_ngram_gather, ngram_gather, ngram_mixes, ngram_rows
from ._shared import SharedMemory, SharedRows, hold
from ._text import hash_string, parse_lines
from ._updates import N_SCALARS, LazyTable, add_rows, sort_rows
from ._xla import xla_handlers

__all__ = [
    "N_SCALARS",
    "Commit",
    "DiskRows",
    "Features",
    "HeldRows",
    "LazyTable",
    "PairLookup",
    "SharedMemory",
    "SharedRows",
    "SingleLookup",
    "add_rows",
    "any_nonresident",
    "below",
    "build_info",
    "code_bounds",
    "costs",
    "cross_entropy",
    "disk_slot_size",
    "dots",
    "dropout",
    "embedding_bag",
    "embedding_bags",
    "fast_bag",
    "fast_gather",
    "fast_gather_add",
    "fast_gather_packed",
    "fast_ngram_gather",
    "gather",
    "gather_add",
    "gather_add_backward",
    "get_num_threads",
    "hash_parts",
    "hash_rows",
    "hash_string",
    "hold",
    "in_default_floats",
    "logistic",
    "ngram_gather",
    "ngram_mixes",
    "ngram_rows",
    "norm_rows",
    "packed_size",
    "parse_lines",
    "prefetch_pages",
    "release_pages",
    "resolve_ids",
    "scatter_add",
    "select_isa",
    "set_num_threads",
    "sort_rows",
    "sum_powers",
    "use_large_pages",
    "xla_handlers",
]
