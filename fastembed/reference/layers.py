"""Layers on nested lists, with row-sparse gradients: what all have in common, and Embedding."""

from __future__ import annotations

import math
import random
from typing import Any, NamedTuple, Self

from .._messages import first_few, of_names, shown
from . import ops, search
from ._nested import arithmetic, flat, rounding, shape
from .ops import Table
from .rules import clip_factor, norm, scaled, total_norm


class Parameter:
    """A dense nested list that an optimiser updates beside the layers.

    ``grad`` has the shape of ``data``; None stands for zeros.
    """

    def __init__(self, data: Any) -> None:
        self.data = data
        self.grad: Any = None

    @property
    def has_grad(self) -> bool:
        return self.grad is not None

    def zero_grad(self) -> None:
        self.grad = None


class RowGrad:
    """A row-sparse gradient: sorted distinct row numbers and the summed gradient of each."""

    def __init__(self, width: int, dtype: str = "float64", ids: list[int] | None = None, rows: Table | None = None) -> None:
        self.ids: list[int] = ids or []
        self.rows: Table = rows or []
        self.dtype = dtype
        self._width = width

    def accumulate(
        self, rows: list[int | None], values: list[float], by_frequency: bool = False, factors: list[float] | None = None
    ) -> None:
        """Add values to the present sums, in the order of ``rows``; new rows start from 0.0."""
        sums = dict(zip(self.ids, self.rows, strict=True))
        for r in rows:
            if r is not None:
                sums.setdefault(r, [0.0] * self._width)
        self.ids = sorted(sums)
        self.rows = [sums[r] for r in self.ids]
        place = {r: k for k, r in enumerate(self.ids)}
        places = [None if r is None else place[r] for r in rows]
        ops.accumulate(self.rows, places, values, self.dtype, factors, by_frequency)

    def __add__(self, other: RowGrad) -> RowGrad:
        """These sums, to which the other's are added."""
        total = RowGrad(self._width, self.dtype, list(self.ids), [list(row) for row in self.rows])
        total.accumulate(list(other.ids), list(flat(other.rows)))
        return total

    def to_dense(self, n_rows: int) -> Table:
        dense = [[0.0] * self._width for _ in range(n_rows)]
        for r, row in zip(self.ids, self.rows, strict=True):
            dense[r] = list(row)
        return dense

    @classmethod
    def from_coo(cls, data: list[float], row_col: tuple[list[int], list[int]], width: int, dtype: str = "float64") -> RowGrad:
        """From single elements with their rows and columns.

        Elements of the same row and column are summed in the order given.
        """
        round_ = rounding(dtype)
        sums: dict[int, list[float]] = {}
        for x, row, col in zip(data, *row_col, strict=True):
            of_row = sums.setdefault(row, [0.0] * width)
            of_row[col] = round_(of_row[col] + x)
        return cls(width, dtype, sorted(sums), [sums[row] for row in sorted(sums)])

    def to_coo(self) -> tuple[list[float], tuple[list[int], list[int]]]:
        """All elements of the stored rows, with their rows and columns."""
        places = [(r, d) for r in self.ids for d in range(self._width)]
        return list(flat(self.rows)), ([r for r, _ in places], [d for _, d in places])

    def scale(self, factor: float) -> RowGrad:
        """Every element times a factor, which is rounded first; -0 becomes 0."""
        return RowGrad(self._width, self.dtype, list(self.ids), scaled(self.rows, factor, rounding(self.dtype)))

    def norm(self) -> float:
        return total_norm(self.rows)

    def clip_(self, max_norm: float, error_if_nonfinite: bool = True) -> float:
        """Scale the rows so that their norm is at most max_norm; returns the norm before."""
        norm = self.norm()
        factor = clip_factor(norm, max_norm, error_if_nonfinite)
        if factor != 1:
            self.rows = scaled(self.rows, factor, rounding(self.dtype))
        return norm

    def clip_value_(self, limit: float) -> None:
        """Clip every element to -limit .. limit."""
        bound = rounding(self.dtype)(limit)
        self.rows = [[min(max(x, -bound), bound) for x in row] for row in self.rows]


class CallHandle(NamedTuple):
    """One call of a layer: the layer's tables then, and the arguments."""

    tables: dict[str, Table]
    arguments: tuple[Any, ...]


class Layer:
    """Tables by name and a RowGrad for each."""

    padding_idx: int | None = None
    dropout: float = 0.0
    training = True
    _n_calls = 0
    _last_ids: tuple[Any, ...] | None = None

    def __init__(self, tables: dict[str, Table], dtype: str, trainable_rows: Any = None) -> None:
        self.tables = tables
        self.dtype = dtype
        self.trainable_rows = trainable_rows
        self.names: list[str] | None = None  # of the rows of the first table
        self.zero_grad()

    def train(self, mode: bool = True) -> Self:
        self.training = mode
        if not mode:
            self._last_ids = None
        return self

    def eval(self) -> Self:
        return self.train(False)

    def call(self, *ids: Any, **options: Any) -> tuple[Any, CallHandle]:
        """The result of a call, and a handle with which `backward` finds its arguments."""
        raise NotImplementedError

    def __call__(self, *ids: Any, **options: Any) -> Any:
        return self.call(*ids, **options)[0]

    def _number_of_call(self) -> int:
        """Count a call in train mode: the number that selects its dropout mask, 0 for none."""
        self._n_calls += self.training
        return self._n_calls if self.training and self.dropout != 0 else 0

    def _handle(self, *arguments: Any) -> CallHandle:
        if self.training:
            self._last_ids = arguments
        return CallHandle(self.tables, arguments)

    def _call_arguments(self, call: CallHandle | None, ids: Any, *others: Any) -> tuple[Any, ...]:
        """The arguments of a call: of a handle, those given, or those of the last call."""
        if call is not None:
            if ids is not None:
                raise ValueError("ids and call exclude each other, got both")
            if call.tables is not self.tables:
                raise ValueError("call must be a call of this layer, and the layer not resized since")
            return call.arguments
        if ids is not None:
            if self.dropout != 0 and self.training:
                raise ValueError(
                    "ids do not say which dropout mask their call had: give call=, of layer.call, or neither for the last call; "
                    "ids alone are for calls without dropout, after eval()"
                )
            return ids, *others
        if self._last_ids is None:
            raise RuntimeError("backward needs ids: there was no call in train mode, and none were given")
        return self._last_ids

    @property
    def has_grad(self) -> bool:
        """Whether there is an accumulated gradient, of any row."""
        return any(grad.ids for grad in self._grads.values())

    def _accumulate_or_step(
        self,
        rows_by_name: dict[str, list[int | None]],
        values: list[float],
        optimizer: Any,
        by_frequency: bool = False,
        factors: dict[str, Any] | None = None,
    ) -> None:
        """Accumulate the gradient, or let an optimiser take a step with it and drop it."""
        if optimizer is not None and self.has_grad:
            raise RuntimeError("an accumulated gradient is pending: step() or zero_grad() comes before backward(optimizer=)")
        for name, rows in rows_by_name.items():
            self._grads[name].accumulate(rows, values, by_frequency, (factors or {}).get(name))
        if optimizer is not None:
            optimizer.train(self)
            self.zero_grad()

    def nearest(
        self, queries: Any, k: int | None = None, metric: str = "cosine", *, table: str | None = None, **options: Any
    ) -> Any:
        return search.nearest(self.tables[table or next(iter(self.tables))], queries, k, metric, dtype=self.dtype, **options)

    def analogy(
        self,
        a: Any,
        b: Any,
        c: Any,
        k: int = 1,
        metric: str = "cosine",
        *,
        table: str | None = None,
        exclude_queries: bool = True,
    ) -> Any:
        rows = self.tables[table or next(iter(self.tables))]
        return search.analogy(rows, a, b, c, k, metric, exclude_queries=exclude_queries, dtype=self.dtype)

    def resize(self, n: int, table: str | None = None, new_rows: Any = None) -> None:
        """Change the number of rows of a table, the first one by default.

        Added rows hold new_rows, or zeros; the gradients of removed rows are dropped.
        """
        name = next(iter(self.tables)) if table is None else table
        rows, grad = self.tables[name], self._grads[name]
        width = len(rows[0]) if rows else 0
        n_added = max(n - len(rows), 0)
        self.tables, self._last_ids = dict(self.tables), None  # handles of earlier calls have the old ones
        del rows[n:]
        rows += [list(row) for row in new_rows] if new_rows is not None else [[0.0] * width for _ in range(n_added)]
        kept = [(r, row) for r, row in zip(grad.ids, grad.rows, strict=True) if r < n]
        self._grads[name] = RowGrad(width, arithmetic(self.dtype), [r for r, _ in kept], [row for _, row in kept])

    def add_tokens(self, names: list[str], init: Any = "mean") -> list[int]:
        """Append named rows to the first table, and return their ids.

        They hold the mean of the old rows, or the rows given as `init`.
        """
        rows = next(iter(self.tables.values()))
        if self.names is None and rows:
            raise ValueError(f"the {len(rows)} rows have no names: set vocabulary to theirs before tokens are added")
        there = [shown(name) for name in names if name in (self.names or [])]
        if there:
            raise ValueError(f"names must be new, and the vocabulary has {first_few(there)}")
        n_old, self.names = len(rows), [*(self.names or []), *names]
        new_rows = [mean_row(rows, self.padding_idx, self.dtype)] * len(names) if init == "mean" else init
        self.resize(n_old + len(names), new_rows=new_rows)
        return list(range(n_old, n_old + len(names)))

    def zero_grad(self) -> None:
        self._grads = {
            name: RowGrad(len(table[0]) if table else 0, arithmetic(self.dtype)) for name, table in self.tables.items()
        }

    def grads(self) -> dict[str, RowGrad]:
        return self._grads

    def state_dict(self) -> dict[str, Any]:
        return self.tables | ({"dropout_calls": self._n_calls} if self.dropout else {})

    def parameters(self) -> list[Table]:
        return list(self.tables.values())

    def load_state_dict(self, state: dict[str, Any], strict: bool = True) -> tuple[list[str], list[str]]:
        """Load tables by name; returns the names that are missing in the state, and unexpected."""
        n_calls = state.get("dropout_calls", self._n_calls)
        state = {name: table for name, table in state.items() if name != "dropout_calls"}
        missing, unexpected = ([name for name in a if name not in b] for a, b in ((self.tables, state), (state, self.tables)))
        if strict and (missing or unexpected):
            raise KeyError(of_names(missing, unexpected, self.tables))
        known = {name: state[name] for name in self.tables if name in state}
        for name, table in known.items():
            if shape(table) != shape(self.tables[name]):
                raise ValueError(f"{name} must have shape {shape(self.tables[name])}, got {shape(table)}")
        round_ = rounding(self.dtype)
        for name, table in known.items():
            self.tables[name][:] = [[round_(x) for x in row] for row in table]
        self._n_calls = n_calls
        return missing, unexpected


def normal(n_rows: int, n_cols: int, std: float, rng: random.Random, dtype: str) -> Table:
    """A table drawn from the normal distribution of mean 0."""
    round_ = rounding(dtype)
    return [[round_(rng.gauss(0.0, std)) for _ in range(n_cols)] for _ in range(n_rows)]


def mean_row(rows: Table, padding_idx: int | None, dtype: str) -> list[float]:
    """The mean of all rows but the padding row, summed in float64 in order.

    It is zeros if there is no such row.
    """
    kept = [row for r, row in enumerate(rows) if r != padding_idx]
    sums = [0.0] * ops.width(rows)
    for row in kept:
        sums = [x + y for x, y in zip(sums, row, strict=True)]
    return [rounding(dtype)(x / max(len(kept), 1)) for x in sums]


class OneTable(Layer):
    """A layer of one table, ``weight``, with the options of its rows."""

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        std: float = 1.0,
        rng: random.Random | None = None,
        dtype: str = "float32",
        **options: Any,
    ) -> None:
        weight = normal(num_embeddings, embedding_dim, std, rng or random.Random(), dtype)
        self._set_up(weight, dtype=dtype, **options)
        if self.padding_idx is not None:
            weight[self.padding_idx] = [0.0] * embedding_dim

    @classmethod
    def from_pretrained(cls, array: Table, **options: Any) -> Self:
        layer = cls.__new__(cls)
        layer._set_up(array, **options)
        return layer

    def _set_up(
        self,
        weight: Table,
        *,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        max_norm_in_place: bool = True,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        bounds: str = "raise",
        dtype: str = "float64",
        trainable_rows: Any = None,
    ) -> None:
        Layer.__init__(self, {"weight": weight}, dtype, trainable_rows)
        self.padding_idx = None if padding_idx is None else padding_idx % len(weight)
        self.max_norm, self.max_norm_in_place, self.norm_type = max_norm, max_norm_in_place, norm_type
        self.scale_grad_by_freq, self.bounds = scale_grad_by_freq, bounds

    @property
    def weight(self) -> Table:
        return self.tables["weight"]

    def _without_padding(self, rows: list[int | None]) -> list[int | None]:
        return [None if r == self.padding_idx else r for r in rows]

    def _rescaled(self, rows: list[int | None]) -> Table:
        """The table, with those of the given rows scaled down whose norm is above max_norm.

        With ``max_norm_in_place`` the layer's table changes too.
        """
        round_, store, table = rounding(arithmetic(self.dtype)), rounding(self.dtype), list(self.weight)
        limit = math.inf if self.max_norm is None else self.max_norm
        for r in {r for r in rows if r is not None}:
            length = norm(table[r], self.norm_type)
            if length > limit:
                factor = round_(limit / (length + 1e-7))
                table[r] = [round_(x * factor) for x in table[r]]
        if self.max_norm_in_place:
            self.weight[:] = table = [[store(x) for x in row] for row in table]
        return table


class Embedding(OneTable):
    """x[i] = weight[ids[i]]."""

    def call(self, ids: Any) -> tuple[Any, CallHandle]:
        table = self._rescaled(ops.resolve_ids(ids, len(self.weight), self.bounds))
        return ops.gather(table, ids, bounds=self.bounds, dtype=self.dtype), self._handle(ids)

    def backward(self, dout: Any, ids: Any = None, *, call: CallHandle | None = None, optimizer: Any = None) -> None:
        (of_call,) = self._call_arguments(call, ids)
        rows = ops.resolve_ids(of_call, len(self.weight), self.bounds)
        self._accumulate_or_step({"weight": self._without_padding(rows)}, list(flat(dout)), optimizer, self.scale_grad_by_freq)
