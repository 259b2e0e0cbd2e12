from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

def build_info() -> dict[str, Any]: ...
def select_isa(isa: str) -> None: ...
def get_num_threads() -> int: ...
def set_num_threads(n: int) -> None: ...
def resolve_ids(ids: Array, n_rows: int, bounds: str, name: str) -> Array: ...
def gather(table: Array, ids: Array, out: Array, bounds: str, bits: int = 0) -> None: ...
def gather_add(
    wte: Array, token_ids: Array, wpe: Array, position_ids: Array | None, start: int, out: Array, bounds: str, bits: int = 0
) -> None: ...
def scatter_add(table: Array, ids: Array, values: Array, bounds: str) -> None: ...
def gather_add_backward(
    dout: Array, token_ids: Array, dwte: Array, dwpe: Array, position_ids: Array | None, start: int, bounds: str
) -> None: ...
def try_gather(table: Any, ids: Any, out: Any) -> Array | None: ...
def try_gather_add(wte: Any, token_ids: Any, wpe: Any, position_ids: Any, start: Any, out: Any) -> Array | None: ...

N_SCALARS: int

class Trained:
    def __init__(
        self,
        rule: str,
        table: Array,
        states: tuple[Array, ...],
        n_taken: Array,
        multipliers: Array | None,
        steps: Array,
        storage: str | None = None,
        master: Array | None = None,
        seed: tuple[int, int] | None = None,
    ) -> None: ...
    def catch_up(self, n_steps: int, rows: Array | None) -> None: ...
    def train(
        self,
        n_steps: int,
        now: Array,
        is_recorded: bool,
        rows: Array,
        order: Array | None,
        factors: Array | None,
        by_frequency: bool,
        grads: Array,
    ) -> None: ...

def add_rows(sums: Array, rows: Array, order: Array | None, factors: Array | None, by_frequency: bool, grads: Array) -> None: ...
def sort_rows(rows: Array, n_rows: int) -> tuple[Array, Array]: ...
def products(rows: Array, queries: Array) -> tuple[Array, Array]: ...
def sum_powers(rows: Array, p: float) -> Array: ...
def is_absent(table: Array, rows: Array) -> bool: ...
def advise(table: Array, rows: Array, is_over: bool) -> None: ...
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
    bits: int = 0,
) -> None: ...
def hash_rows(ids: Array, seed: int, n_rows: int) -> Array: ...
def norm_rows(rows: Array, grads: Array | None, is_layer: bool, eps: float) -> None: ...
def drop(rows: Array, p: float, seed: int, call: int) -> None: ...
def dots(table: Array, rows: Array, places: Array, grads: Array) -> Array: ...

class SingleLookup:
    training: bool
    _is_behind: bool
    _is_plain: bool
    _last_ids: tuple[Any, ...] | None
    def _hold(self, array: Array) -> None: ...
    def __call__(self, ids: Any, *, out: Array | None = None) -> Array: ...

class PairLookup:
    training: bool
    _is_behind: bool
    _is_plain: bool
    _last_ids: tuple[Any, ...] | None
    def _hold(self, wte: Array, wpe: Array) -> None: ...
    def __call__(
        self,
        token_ids: Any,
        position_ids: Any = None,
        *,
        start: int = 0,
        lengths: Any = None,
        mask: Any = None,
        type_ids: Any = None,
        out: Array | None = None,
    ) -> Array: ...
