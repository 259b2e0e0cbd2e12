from .._typing import Array

N_SCALARS: int

class LazyTable:
    def __init__(
        self,
        rule: str,
        table: Array,
        states: tuple[Array, ...],
        n_applied: Array,
        multipliers: Array | None,
        steps: Array,
        master: Array | None = None,
        seed: tuple[int, int] | None = None,
    ) -> None: ...
    @property
    def n_steps(self) -> int: ...
    def apply_pending(self, rows: Array) -> None: ...
    def apply_all(self) -> None: ...

def add_rows(sums: Array, rows: Array, order: Array | None, factors: Array | None, by_frequency: bool, grads: Array) -> None: ...
def sort_rows(rows: Array, n_rows: int) -> tuple[Array, Array]: ...
