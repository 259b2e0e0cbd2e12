from typing import Any

from .._typing import Array

def fast_gather(table: Any, ids: Any, out: Any) -> Array | None: ...
def fast_gather_add(wte: Any, token_ids: Any, wpe: Any, position_ids: Any, start: Any, out: Any) -> Array | None: ...

class SingleLookup:
    training: bool
    _fast_path: bool
    _last_ids: tuple[Any, ...] | None
    def _hold(self, array: Array) -> None: ...
    def __call__(self, ids: Any, *, out: Array | None = None) -> Array: ...

class PairLookup:
    training: bool
    _fast_path: bool
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
