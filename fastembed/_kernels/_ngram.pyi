from typing import Any

from .._typing import Array
from .packing import Packing

def ngram_mixes(tokens: Array, starts: Array, history: Array | None, hash: tuple[Any, ...]) -> Array: ...
def ngram_rows(mixes: Array, heads: Array) -> Array: ...
def ngram_gather(
    layers: list[tuple[tuple[Any, ...], Array, Array | None, Array, Packing | None, Array]], tokens: Array, starts: Array
) -> None: ...
def fast_ngram_gather(
    hash: tuple[Any, ...],
    heads: Array,
    table: Array,
    packing: Packing | None,
    n_cols: int,
    dtype: Any,
    ids: Any,
    history: Any,
    out: Any,
) -> Array | None: ...
