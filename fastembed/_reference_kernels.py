"""The calls of `_kernels` on arrays, answered by the pure-Python reference. Imported by `_backend` alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import reference

Array = np.ndarray[Any, Any]


def build_info() -> dict[str, Any]:
    return {"isa": None, "isa_available": [], "compiler": None}


_num_threads = 1


def get_num_threads() -> int:
    return _num_threads


def set_num_threads(n: int) -> None:
    """Kept and told, and of no effect: the reference works on one thread."""
    global _num_threads
    _num_threads = n


def try_gather(table: Any, ids: Any, out: Any) -> None:
    """The reference has no short way: every call takes the checks of ops."""


def try_gather_add(wte: Any, token_ids: Any, wpe: Any, position_ids: Any, start: Any, out: Any) -> None:
    """As `try_gather`."""


class SingleLookup:
    """What Embedding inherits."""

    training: bool
    _last_ids: Any
    _look_up: Any

    def _hold(self, array: Array) -> None:
        """The reference holds no memory."""

    def __call__(self, ids: Any, *, out: Array | None = None) -> Any:
        """The rows of ``ids``, shape S + (D,). See `fastembed.gather`."""
        result = self._look_up(ids, out)
        if self.training:
            self._last_ids = (ids,)
        return result


class PairLookup:
    """What TokenPositionEmbedding inherits."""

    training: bool
    _last_ids: Any
    _look_up: Any

    def _hold(self, wte: Array, wpe: Array) -> None:
        """The reference holds no memory."""

    def __call__(self, token_ids: Any, position_ids: Any = None, *, start: int = 0, out: Array | None = None) -> Any:
        """Token rows plus position rows, shape S + (D,). See `fastembed.gather_add`."""
        result = self._look_up(token_ids, position_ids, start, out)
        if self.training:
            self._last_ids = (token_ids, position_ids, start)
        return result


def _lists(array: Array | None) -> Any:
    return None if array is None else array.tolist()


def _store(out: Array, result: Any) -> None:
    """A nested list into an array. Rows of a list without width (of an empty table) are the zeros that they stand for."""
    values = np.array(result, dtype=out.dtype)
    out[...] = values.reshape(out.shape) if values.size == out.size else 0


def resolve_ids(ids: Array, n_rows: int, bounds: str, name: str) -> Array:
    rows = reference.resolve_ids(ids.tolist(), n_rows, bounds, name)
    return np.array([-1 if r is None else r for r in rows], dtype=np.int64).reshape(ids.shape)


def gather(table: Array, ids: Array, out: Array, bounds: str) -> None:
    _store(out, reference.gather(table.tolist(), ids.tolist(), bounds=bounds, dtype=str(out.dtype)))


def gather_add(wte: Array, token_ids: Array, wpe: Array, position_ids: Array | None, start: int, out: Array, bounds: str) -> None:
    arguments = (wte.tolist(), token_ids.tolist(), wpe.tolist(), _lists(position_ids))
    _store(out, reference.gather_add(*arguments, start=start, bounds=bounds, dtype=str(out.dtype)))


def scatter_add(table: Array, ids: Array, values: Array, bounds: str) -> None:
    rows = table.tolist()
    if rows:
        reference.scatter_add(rows, ids.tolist(), values.tolist(), bounds=bounds, dtype=str(table.dtype))
        _store(table, rows)
    else:
        reference.resolve_ids(ids.tolist(), 0, bounds)


def gather_add_backward(
    dout: Array, token_ids: Array, dwte: Array, dwpe: Array, position_ids: Array | None, start: int, bounds: str
) -> None:
    token_rows, position_rows = dwte.tolist(), dwpe.tolist()
    arguments = (dout.tolist(), token_ids.tolist(), token_rows, position_rows, _lists(position_ids))
    reference.gather_add_backward(*arguments, start=start, bounds=bounds, dtype=str(dwte.dtype))
    _store(dwte, token_rows)
    _store(dwpe, position_rows)
