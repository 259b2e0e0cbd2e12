from typing import Any

from .._typing import Array
from .packing import Packing

def fast_bag(
    table: Any,
    packing: Packing | None,
    n_cols: int,
    dtype: Any,
    bounds: Any,
    ids: Any,
    offsets: Any,
    weights: Any,
    mode: Any,
    padding_idx: Any,
    include_last_offset: Any,
    out: Any,
) -> Array | None: ...
def embedding_bag(
    table: Array,
    ids: Array,
    offsets: Array,
    mode: str,
    factors: Array | None,
    padding_row: int,
    out: Array,
    bounds: str,
    winners: Array | None,
    packing: Packing | None = None,
    is_new: bool = False,
) -> None: ...

class Features:
    def __init__(self, tables: list[tuple[Array, int, Packing | None]]) -> None: ...
    def is_apart(self, out: Any) -> bool: ...

def embedding_bags(
    tables: Features, ids: Array, offsets: Array, mode: str, factors: Array | None, out: Array, bounds: str
) -> bool: ...
def hash_parts(ids: Array, seed: int) -> Array: ...
def hash_rows(ids: Array, seed: int, n_rows: int) -> Array: ...
def norm_rows(rows: Array, grads: Array | None, is_layer: bool, eps: float) -> None: ...
def dropout(rows: Array, p: float, seed: int, call: int) -> None: ...
def dots(table: Array, rows: Array, places: Array, grads: Array) -> Array: ...
def costs(rows: Array, queries: Array, metric: str, smallest: float, largest: float) -> tuple[Array, Array]: ...
def sum_powers(rows: Array, p: float) -> Array: ...
def code_bounds(codes: Array, terms: Array, numbers: Array, factors: tuple[float, float, float, float]) -> Array: ...
def below(rows: Array, lines: tuple[Array, Array] | None, limits: Array) -> Array: ...
