"""Bags on nested lists: the rows of each bag of ids are reduced to one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

from . import ops
from ._nested import arithmetic, flat, is_list, nest, rounding, shape
from .layers import CallHandle, OneTable
from .ops import Row, Table
from .rules import dot, maximum, same


def _boundaries(ids: Any, offsets: Any, include_last_offset: bool) -> list[int]:
    """The first item of each bag, and the end of the last bag; bag b is [b] .. [b + 1]."""
    if offsets is None:
        return [0, *itertools.accumulate(map(len, ids))]
    of_shape = shape(ids)
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


# Many tables

Part = tuple[list[int], list[int], list[float] | None]  # of a feature: ids, first item of each bag, weights


def _split(ids: list[int], offsets: list[int], weights: list[float] | None, n_features: int) -> list[Part]:
    """The part of each feature."""
    n_bags = (len(offsets) - 1) // n_features
    parts: list[Part] = []
    for k in range(n_features):
        begin, end = offsets[k * n_bags], offsets[(k + 1) * n_bags]
        starts = [offset - begin for offset in offsets[k * n_bags : (k + 1) * n_bags]]
        parts.append((ids[begin:end], starts, None if weights is None else weights[begin:end]))
    return parts


def _side_by_side(bags_of_features: list[Callable[..., Table]], parts: list[Part]) -> Table:
    """Row b: what each feature's function makes of its bag b."""
    of_features = [bags_of(*part) if part[1] else [] for bags_of, part in zip(bags_of_features, parts, strict=True)]
    return [list(itertools.chain(*rows)) for rows in zip(*of_features, strict=True)]


def embedding_bags(
    tables: list[Table],
    ids: list[int],
    offsets: list[int],
    *,
    mode: str = "sum",
    per_sample_weights: list[float] | None = None,
    bounds: str = "raise",
    dtype: str = "float64",
) -> Table:
    """Row b of the result: bag b of each feature, side by side.

    ``tables`` has the table of each feature. ``ids`` are those of one feature after the other, and
    within one those of one bag after the other; ``offsets`` say where each bag begins, and where
    the last one ends.
    """

    def bags_of(table: Table) -> Callable[..., Table]:
        return lambda own, starts, weights: embedding_bag(
            table, own, starts, mode=mode, per_sample_weights=weights, bounds=bounds, dtype=dtype
        )

    return _side_by_side([bags_of(table) for table in tables], _split(ids, offsets, per_sample_weights, len(tables)))


class EmbeddingCollection:
    """Tables by name; each feature is, for each sample, a bag of ids of one of them.

    ``tables`` are nested lists, or bag layers; ``features`` gives the table of each feature. The
    result of a call has one row for each sample: the features side by side.
    """

    def __init__(
        self,
        tables: dict[str, Any],
        features: dict[str, str] | None = None,
        *,
        mode: str = "sum",
        bounds: str = "raise",
        dtype: str | dict[str, str] = "float64",
    ) -> None:
        dtypes = dtype if isinstance(dtype, dict) else dict.fromkeys(tables, dtype)
        self.layers = {
            name: EmbeddingBag.from_pretrained(table, mode=mode, bounds=bounds, dtype=dtypes[name]) if is_list(table) else table
            for name, table in tables.items()
        }
        self.features = {name: name for name in tables} if features is None else dict(features)
        self.per_sample_weights_grad: list[float] | None = None
        self._parts: list[Part] | None = None

    def __call__(self, ids: list[int], offsets: list[int], per_sample_weights: list[float] | None = None) -> Table:
        """The bags of all features, for each sample side by side."""
        self._parts = _split(ids, offsets, per_sample_weights, len(self.features))
        return _side_by_side([self.layers[table] for table in self.features.values()], self._parts)

    def backward(self, dout: Table, optimizers: dict[str, Any] | None = None) -> None:
        """The gradient of the last call, accumulated in each table, or a step of its optimiser.

        The contributions to a table are summed feature by feature, and within one in the order of
        its ids. ``optimizers`` has the optimiser of each table.
        """
        if self._parts is None:
            raise RuntimeError("backward needs ids: there was no call in train mode, and none were given")
        columns = self._columns()
        weights_grads: dict[str, list[float]] = {feature: [] for feature in self.features}
        for table, layer in self.layers.items():
            own = [(name, part) for (name, of), part in zip(self.features.items(), self._parts, strict=True) if of == table]
            ids: list[int] = []
            starts: list[int] = []
            weights: list[float] = []
            gradients: Table = []
            for name, part in own:
                starts += [len(ids) + start for start in part[1]]
                ids += part[0]
                weights += part[2] or []
                gradients += [row[columns[name]] for row in dout]
            if not starts:
                continue
            is_weighted = any(part[2] is not None for _, part in own)
            optimizer = None if optimizers is None else optimizers[table]
            layer.backward(gradients, ids, starts, weights if is_weighted else None, optimizer=optimizer)
            grads = flat(layer.per_sample_weights_grad or [])
            for name, part in own:
                weights_grads[name] = list(itertools.islice(grads, len(part[0])))
        is_weighted = any(part[2] is not None for part in self._parts)
        self.per_sample_weights_grad = list(itertools.chain(*weights_grads.values())) if is_weighted else None

    def _columns(self) -> dict[str, slice]:
        """Where each feature lies in a row of the result."""
        columns, end = {}, 0
        for name, table in self.features.items():
            begin, end = end, end + ops.width(self.layers[table].weight)
            columns[name] = slice(begin, end)
        return columns

    def zero_grad(self) -> None:
        for layer in self.layers.values():
            layer.zero_grad()
