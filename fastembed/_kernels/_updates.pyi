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
        storage: str | None = None,
        master: Array | None = None,
        seed: tuple[int, int] | None = None,
    ) -> None: ...
    def apply_pending(self, n_steps: int, rows: Array | None) -> None: ...
    def apply_step(
        self,
        n_steps: int,
        step: Array,
        is_recorded: bool,
        rows: Array,
        order: Array | None,
        factors: Array | None,
        by_frequency: bool,
        grads: Array,
    ) -> None: ...

def add_rows(sums: Array, rows: Array, order: Array | None, factors: Array | None, by_frequency: bool, grads: Array) -> None: ...
def sort_rows(rows: Array, n_rows: int) -> tuple[Array, Array]: ...
