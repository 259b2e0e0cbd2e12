from typing import Any

from .._typing import Array, DTypeLike

class SingleLookup:
    training: bool
    _fast_path: bool
    _held: Any
    _last_ids: tuple[Any, ...] | None
    def __call__(self, ids: Any, *, out: Array | None = None, out_dtype: DTypeLike | None = None) -> Array: ...

class PairLookup:
    training: bool
    _fast_path: bool
    _held: Any
    _last_ids: tuple[Any, ...] | None
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
        out_dtype: DTypeLike | None = None,
    ) -> Array: ...
