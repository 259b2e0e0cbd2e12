"""Embedding and TokenPositionEmbedding on nested lists, with row-sparse gradients."""

from __future__ import annotations

import random
from typing import Any

from . import ops
from ._nested import flat, rounding, shape
from .ops import Table


class Parameter:
    """A dense nested list that an optimiser updates beside the layers; ``grad`` has its shape, or is None for zeros."""

    def __init__(self, data: Any) -> None:
        self.data = data
        self.grad: Any = None

    def zero_grad(self) -> None:
        self.grad = None


class RowGrad:
    """A row-sparse gradient: sorted distinct row numbers and the summed gradient of each."""

    def __init__(self, width: int) -> None:
        self.ids: list[int] = []
        self.rows: Table = []
        self._width = width

    def accumulate(self, rows: list[int | None], values: list[float], dtype: str) -> None:
        """Goes on from the sums that are there, in the order of ``rows``; new rows start from 0.0."""
        sums = dict(zip(self.ids, self.rows, strict=True))
        for r in rows:
            if r is not None:
                sums.setdefault(r, [0.0] * self._width)
        self.ids = sorted(sums)
        self.rows = [sums[r] for r in self.ids]
        place = {r: k for k, r in enumerate(self.ids)}
        ops._accumulate(self.rows, [None if r is None else place[r] for r in rows], values, dtype)

    def to_dense(self, n_rows: int) -> Table:
        dense = [[0.0] * self._width for _ in range(n_rows)]
        for r, row in zip(self.ids, self.rows, strict=True):
            dense[r] = list(row)
        return dense


class _Layer:
    """Tables by name and a RowGrad for each."""

    def __init__(self, tables: dict[str, Table], dtype: str) -> None:
        self.tables = tables
        self.dtype = dtype
        self.zero_grad()

    def zero_grad(self) -> None:
        self._grads = {name: RowGrad(len(table[0]) if table else 0) for name, table in self.tables.items()}

    def grads(self) -> dict[str, RowGrad]:
        return self._grads

    def state_dict(self) -> dict[str, Table]:
        return dict(self.tables)

    def parameters(self) -> list[Table]:
        return list(self.tables.values())

    def load_state_dict(self, state: dict[str, Table], strict: bool = True) -> None:
        missing, unexpected = sorted(self.tables.keys() - state.keys()), sorted(state.keys() - self.tables.keys())
        if strict and (missing or unexpected):
            raise KeyError(f"missing names {missing}, unexpected names {unexpected}")
        known = {name: state[name] for name in self.tables if name in state}
        for name, table in known.items():
            if shape(table) != shape(self.tables[name]):
                raise ValueError(f"{name} must have shape {shape(self.tables[name])}, got {shape(table)}")
        round_ = rounding(self.dtype)
        for name, table in known.items():
            self.tables[name][:] = [[round_(x) for x in row] for row in table]


def _normal(n_rows: int, n_cols: int, std: float, rng: random.Random, dtype: str) -> Table:
    round_ = rounding(dtype)
    return [[round_(rng.gauss(0.0, std)) for _ in range(n_cols)] for _ in range(n_rows)]


class Embedding(_Layer):
    """x[i] = weight[ids[i]]."""

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        dtype: str = "float32",
        std: float = 1.0,
        rng: random.Random | None = None,
    ) -> None:
        weight = _normal(num_embeddings, embedding_dim, std, rng or random.Random(), dtype)
        super().__init__({"weight": weight}, dtype)

    @classmethod
    def from_pretrained(cls, array: Table, dtype: str = "float64") -> Embedding:
        layer = cls.__new__(cls)
        _Layer.__init__(layer, {"weight": array}, dtype)
        return layer

    @property
    def weight(self) -> Table:
        return self.tables["weight"]

    def __call__(self, ids: Any) -> Any:
        out = ops.gather(self.weight, ids, dtype=self.dtype)
        self._ids = ids
        return out

    def backward(self, dout: Any, ids: Any = None) -> None:
        rows = ops.resolve_ids(self._ids if ids is None else ids, len(self.weight))
        self._grads["weight"].accumulate(rows, list(flat(dout)), self.dtype)


class TokenPositionEmbedding(_Layer):
    """x[i] = wte[token_ids[i]] + wpe[position_ids[i]]."""

    def __init__(
        self,
        vocab_size: int,
        block_size: int,
        n_embd: int,
        *,
        dtype: str = "float32",
        std: float = 0.02,
        rng: random.Random | None = None,
    ) -> None:
        rng = rng or random.Random()
        wte = _normal(vocab_size, n_embd, std, rng, dtype)
        super().__init__({"wte": wte, "wpe": _normal(block_size, n_embd, std, rng, dtype)}, dtype)

    @classmethod
    def from_arrays(cls, wte: Table, wpe: Table, dtype: str = "float64") -> TokenPositionEmbedding:
        layer = cls.__new__(cls)
        _Layer.__init__(layer, {"wte": wte, "wpe": wpe}, dtype)
        return layer

    @property
    def wte(self) -> Table:
        return self.tables["wte"]

    @property
    def wpe(self) -> Table:
        return self.tables["wpe"]

    def __call__(self, token_ids: Any, position_ids: Any = None, *, start: int = 0) -> Any:
        out = ops.gather_add(self.wte, token_ids, self.wpe, position_ids, start=start, dtype=self.dtype)
        self._ids = (token_ids, position_ids, start)
        return out

    def backward(self, dout: Any, ids: Any = None, position_ids: Any = None, *, start: int = 0) -> None:
        token_ids, position_ids, start = self._ids if ids is None else (ids, position_ids, start)
        token_rows = ops.resolve_ids(token_ids, len(self.wte), name="token id")
        all_positions = ops.positions(token_ids, position_ids, start)
        position_rows = ops.resolve_ids(all_positions, len(self.wpe), name="position id")
        values = list(flat(dout))
        self._grads["wte"].accumulate(token_rows, values, self.dtype)
        self._grads["wpe"].accumulate(position_rows, values, self.dtype)
