from .._typing import Array

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
def ngram_gather(table: Array, mixes: Array, heads: Array, out: Array) -> None: ...
