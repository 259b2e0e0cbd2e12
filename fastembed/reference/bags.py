"""Bags on nested lists: the rows of each bag of ids are reduced to one."""

from __future__ import annotations

import itertools
import math
from typing import Any

from . import ops
from ._nested import arithmetic, flat, nest, rounding, shape
from .layers import CallHandle, OneTable
from .ops import Row, Table
from .rules import dot, maximum, same


def _boundaries(ids: Any, offsets: Any, include_last_offset: bool) -> list[int]:
    """The first item of each bag, and the end of the last bag; bag b is [b] .. [b + 1]."""
    of_shape = shape(ids)
    if offsets is None:
        return [b * of_shape[1] for b in range(of_shape[0] + 1)]
    ends = list(offsets) + ([] if include_last_offset else [of_shape[0]])
    if ends[0] != 0 or ends[-1] > of_shape[0] or any(a > b for a, b in itertools.pairwise(ends)):
        raise ValueError(f"offsets must start at 0, not decrease, and lie within the {of_shape[0]} ids")
    return ends


def _without_padding(rows: list[int | None], padding_idx: int | None, n_rows: int) -> list[int | None]:
    """The rows, with None for the padding row."""
    return rows if padding_idx is None else [None if r == padding_idx % n_rows else r for r in rows]


def _divisor(mode: str, n_kept: int, dtype: str) -> float:
    """What the sum of a bag of that many rows is divided by."""
    divisors = {"sum": 1.0, "max": 1.0, "mean": float(max(n_kept, 1)), "sqrtn": math.sqrt(max(n_kept, 1))}
    return rounding(arithmetic(dtype))(divisors[mode])


def embedding_bag(
    table: Table,
    ids: Any,
    offsets: Any = None,
    *,
    mode: str = "mean",
    per_sample_weights: Any = None,
    padding_idx: int | None = None,
    include_last_offset: bool = False,
    bounds: str = "raise",
    dtype: str = "float64",
) -> Table:
    """out[b] = the sum of weight times row over the items of bag b, in order, from 0 on.

    "mean" divides it by the number of items, "sqrtn" by the root of that; "max" is the maximum
    instead: NaN if one of the elements is NaN. Items without a row (padding, bounds="zero") do not
    count; a bag without rows gives zeros.
    """
    r = rounding(arithmetic(dtype))
    rows = _without_padding(ops.resolve_ids(ids, len(table), bounds), padding_idx, len(table))
    weights = None if per_sample_weights is None else [r(x) for x in flat(per_sample_weights)]
    out = []
    for begin, end in itertools.pairwise(_boundaries(ids, offsets, include_last_offset)):
        bag: Row = [0.0] * ops.width(table)
        kept = [(i, row) for i, row in zip(range(begin, end), rows[begin:end], strict=True) if row is not None]
        for k, (i, row) in enumerate(kept):
            if mode == "max":
                bag = [r(x if k == 0 else maximum(y, x)) for x, y in zip(table[row], bag, strict=True)]
            elif weights is None:
                bag = [r(y + x) for x, y in zip(table[row], bag, strict=True)]
            else:
                bag = [r(y + r(weights[i] * x)) for x, y in zip(table[row], bag, strict=True)]
        out.append([rounding(dtype)(r(x / _divisor(mode, len(kept), dtype))) for x in bag])
    return out


def _shares_of_maximum(rows: list[Row], gradient: Row) -> list[Row | None]:
    """Each row's part of the gradient of the maximum of a bag; None for a row that gets nothing.

    Each column goes to the first row that has its maximum, the first NaN if there is one. The
    others get -0.0, which changes no sum when it is added.
    """
    largest = list(rows[0]) if rows else []
    for row in rows[1:]:
        largest = [maximum(y, x) for x, y in zip(row, largest, strict=True)]
    shares: list[Row | None] = []
    is_taken = [False] * len(largest)
    for row in rows:
        wins = [not taken and same(x, y) for taken, x, y in zip(is_taken, row, largest, strict=True)]
        is_taken = [taken or win for taken, win in zip(is_taken, wins, strict=True)]
        shares.append([g if win else -0.0 for g, win in zip(gradient, wins, strict=True)] if any(wins) else None)
    return shares


def backward_items(
    dout: Table,
    table: Table,
    ids: Any,
    offsets: Any,
    *,
    mode: str,
    per_sample_weights: Any,
    padding_idx: int | None,
    include_last_offset: bool,
    bounds: str = "raise",
    dtype: str,
) -> tuple[list[int | None], list[float], list[float] | None, list[float] | None]:
    """The contributions of the items to the gradient of the table, before they are summed.

    Returns the row of each item (None: no contribution), their gradients, the weights by which
    those are to be multiplied, and the gradient of the weights.
    """
    r = rounding(arithmetic(dtype))
    rows = _without_padding(ops.resolve_ids(ids, len(table), bounds), padding_idx, len(table))
    weights = None if per_sample_weights is None else [r(x) for x in flat(per_sample_weights)]
    boundaries, width = _boundaries(ids, offsets, include_last_offset), ops.width(table)
    rows[boundaries[-1] :] = [None] * (len(rows) - boundaries[-1])
    gradients = [[0.0] * width for _ in rows]
    weights_grad = None if weights is None else [0.0] * len(rows)
    for b, (begin, end) in enumerate(itertools.pairwise(boundaries)):
        kept = [(i, row) for i, row in zip(range(begin, end), rows[begin:end], strict=True) if row is not None]
        divided = [r(r(x) / _divisor(mode, len(kept), dtype)) for x in dout[b]]
        shares = _shares_of_maximum([table[row] for _, row in kept], divided) if mode == "max" else [divided] * len(kept)
        for (i, row), share in zip(kept, shares, strict=True):
            if share is None:
                rows[i] = None
            else:
                gradients[i] = share
            if weights_grad is not None:
                weights_grad[i] = dot(table[row], divided, r)
    return rows, list(flat(gradients)), weights, weights_grad


def embedding_bag_backward(
    dout: Table,
    ids: Any,
    dtable: Table,
    offsets: Any = None,
    *,
    mode: str = "mean",
    per_sample_weights: Any = None,
    padding_idx: int | None = None,
    include_last_offset: bool = False,
    scale_grad_by_freq: bool = False,
    table: Table | None = None,
    bounds: str = "raise",
    dtype: str = "float64",
) -> Any:
    """Add the gradient of each item to its row of dtable, in place and in order.

    Returns the gradient of the weights if `table` is given, else None.
    """
    rows, gradients, weights, weights_grad = backward_items(
        dout,
        dtable if table is None else table,
        ids,
        offsets,
        mode=mode,
        per_sample_weights=per_sample_weights,
        padding_idx=padding_idx,
        include_last_offset=include_last_offset,
        bounds=bounds,
        dtype=dtype,
    )
    ops.accumulate(dtable, rows, gradients, dtype, weights, scale_grad_by_freq)
    return None if weights_grad is None or table is None else nest(weights_grad, shape(ids))


class EmbeddingBag(OneTable):
    """x[b] = the sum, mean or maximum of the rows of bag b."""

    def _set_up(self, weight: Table, *, mode: str = "mean", include_last_offset: bool = False, **options: Any) -> None:
        super()._set_up(weight, **options)
        self.mode, self.include_last_offset = mode, include_last_offset

    def _arguments(self, per_sample_weights: Any) -> dict[str, Any]:
        return {
            "mode": self.mode,
            "per_sample_weights": per_sample_weights,
            "padding_idx": self.padding_idx,
            "include_last_offset": self.include_last_offset,
            "bounds": self.bounds,
            "dtype": self.dtype,
        }

    def call(self, ids: Any, offsets: Any = None, per_sample_weights: Any = None) -> tuple[Table, CallHandle]:
        table = self._rescaled(ops.resolve_ids(ids, len(self.weight), self.bounds))
        result = embedding_bag(table, ids, offsets, **self._arguments(per_sample_weights))
        return result, self._handle(ids, offsets, per_sample_weights)

    def backward(
        self,
        dout: Table,
        ids: Any = None,
        offsets: Any = None,
        per_sample_weights: Any = None,
        *,
        call: CallHandle | None = None,
        optimizer: Any = None,
    ) -> None:
        ids, offsets, per_sample_weights = self._call_arguments(call, ids, offsets, per_sample_weights)
        table = self.weight if self.max_norm_in_place else self._rescaled(ops.resolve_ids(ids, len(self.weight), self.bounds))
        rows, gradients, weights, weights_grad = backward_items(dout, table, ids, offsets, **self._arguments(per_sample_weights))
        self._accumulate_or_step({"weight": rows}, gradients, optimizer, self.scale_grad_by_freq, {"weight": weights})
        self.per_sample_weights_grad = None if weights_grad is None else nest(weights_grad, shape(ids))
