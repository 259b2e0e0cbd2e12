from typing import Any

from .._typing import Array
from .packing import Packing

def ngram_mixes(
    tokens: Array,
    starts: Array,
    history: Array | None,
    multipliers: Array,
    token_map: Array | None,
    n_tokens: int,
    fill: int,
    cuts: Array,
    cuts_itself: bool,
) -> Array: ...
def ngram_rows(mixes: Array, heads: Array) -> Array: ...
def ngram_gather(
    layers: list[tuple[tuple[Any, ...], Array, Array | None, Array, Packing | None, Array]], tokens: Array, starts: Array
) -> None: ...
