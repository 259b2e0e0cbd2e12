"""TokenPositionEmbedding on nested lists.

The sum of rows, its norm and dropout, padding by lengths or a mask, and the tied output layer.
"""

from __future__ import annotations

import random
from typing import Any

from . import norms, ops
from ._nested import arithmetic, broadcast, flat, nest, rounding, shape
from .layers import CallHandle, Layer, RowGrad, normal
from .ops import Row, Table

Rows = dict[str, list[int | None]]


class TokenPositionEmbedding(Layer):
    """x[i] = token_scale wte[token_ids[i]] + wpe[position_ids[i]] + wtype[type_ids[i]].

    Then the norm is applied, and then dropout, each if it is asked for.
    """

    def __init__(
        self,
        vocab_size: int,
        block_size: int,
        n_embd: int,
        *,
        n_types: int = 0,
        dtype: str = "float32",
        std: float = 0.02,
        rng: random.Random | None = None,
        **options: Any,
    ) -> None:
        rng = rng or random.Random()
        wte, wpe, wtype = (normal(n_rows, n_embd, std, rng, dtype) for n_rows in (vocab_size, block_size, n_types))
        self._set_up(wte, wpe, wtype or None, dtype, **options)

    @classmethod
    def from_arrays(
        cls, wte: Table, wpe: Table, wtype: Table | None = None, dtype: str = "float64", **options: Any
    ) -> TokenPositionEmbedding:
        layer = cls.__new__(cls)
        layer._set_up(wte, wpe, wtype, dtype, **options)
        return layer

    def _set_up(
        self,
        wte: Table,
        wpe: Table,
        wtype: Table | None,
        dtype: str,
        *,
        trainable_rows: Any = None,
        token_scale: float = 1.0,
        norm: str | None = None,
        norm_eps: float = 1e-5,
        dropout: float = 0.0,
        dropout_seed: int = 0,
        bounds: str = "raise",
    ) -> None:
        Layer.__init__(self, {"wte": wte, "wpe": wpe} | ({} if wtype is None else {"wtype": wtype}), dtype, trainable_rows)
        self.token_scale, self.norm, self.norm_eps = token_scale, norm, norm_eps
        self.dropout, self.dropout_seed, self.bounds = dropout, dropout_seed, bounds

    @property
    def wte(self) -> Table:
        return self.tables["wte"]

    @property
    def wpe(self) -> Table:
        return self.tables["wpe"]

    def _rows(self, token_ids: Any, position_ids: Any, start: int, lengths: Any, mask: Any, type_ids: Any) -> Rows:
        """The row of each table at each position of the batch, None for none and in the padding."""
        of_shape = shape(token_ids)
        kept = [True] * len(list(flat(token_ids)))
        if mask is not None:
            kept = broadcast(mask, of_shape)
        if lengths is not None:
            kept = [t < n for n in flat(lengths) for t in range(of_shape[-1])]
        names = {"wte": "token id", "wpe": "position id", "wtype": "type id"}
        ids = {"wte": list(flat(token_ids)), "wpe": list(flat(ops.positions(token_ids, position_ids, start)))}
        if "wtype" in self.tables:
            ids["wtype"] = broadcast(0 if type_ids is None else type_ids, of_shape)
        rows = {}
        for name, ids_of_table in ids.items():
            given = nest([i if is_kept else 0 for i, is_kept in zip(ids_of_table, kept, strict=True)], of_shape)
            resolved = ops.resolve_ids(given, len(self.tables[name]), self.bounds, names[name])
            rows[name] = [r if is_kept else None for r, is_kept in zip(resolved, kept, strict=True)]
        return rows

    def _sum(self, rows: Rows) -> list[Row]:
        """The sum of the tables' rows at each position, before norm and dropout."""
        r, zeros = rounding(arithmetic(self.dtype)), [0.0] * ops.width(self.wte, self.wpe)
        sums = []
        for i, token_row in enumerate(rows["wte"]):
            x = zeros if token_row is None else self.wte[token_row]
            if self.token_scale != 1:
                x = [r(x_d * r(self.token_scale)) for x_d in x]
            for name in self.tables:
                row = rows[name][i]
                if name != "wte":
                    x = [r(a + b) for a, b in zip(x, zeros if row is None else self.tables[name][row], strict=True)]
            sums.append(x)
        return sums

    def call(
        self,
        token_ids: Any,
        position_ids: Any = None,
        *,
        start: int = 0,
        lengths: Any = None,
        mask: Any = None,
        type_ids: Any = None,
    ) -> tuple[Any, CallHandle]:
        store, compute = rounding(self.dtype), arithmetic(self.dtype)
        arguments = (token_ids, position_ids, start, lengths, mask, type_ids)
        x, number = self._sum(self._rows(*arguments)), self._number_of_call()
        if self.norm is not None:
            x = [norms.normalise(row, self.norm == "layer", self.norm_eps, compute)[0] for row in x]
        if number:
            x = norms.drop(x, self.dropout, self.dropout_seed, number, compute)
        return nest([[store(x_d) for x_d in row] for row in x], shape(token_ids)), self._handle(*arguments, number)

    def backward(
        self,
        dout: Any,
        ids: Any = None,
        position_ids: Any = None,
        *,
        start: int = 0,
        lengths: Any = None,
        mask: Any = None,
        type_ids: Any = None,
        call: CallHandle | None = None,
        optimizer: Any = None,
    ) -> None:
        *arguments, number = self._call_arguments(call, ids, position_ids, start, lengths, mask, type_ids, 0)
        rows = self._rows(*arguments)
        width, compute = ops.width(self.wte, self.wpe), arithmetic(self.dtype)
        values = list(flat(dout))
        gradients = [values[i * width : (i + 1) * width] for i in range(len(rows["wte"]))]
        if number:
            gradients = norms.drop(gradients, self.dropout, self.dropout_seed, number, compute)
        if self.norm is not None:
            normed = [norms.normalise(row, self.norm == "layer", self.norm_eps, compute) for row in self._sum(rows)]
            gradients = [
                norms.backward(g, *of_row, self.norm == "layer", compute) for g, of_row in zip(gradients, normed, strict=True)
            ]
        scaled = [self.token_scale] * len(gradients) if self.token_scale != 1 else None
        self._accumulate_or_step(rows, list(flat(gradients)), optimizer, factors={"wte": scaled})

    def logits(self, h: list[Row]) -> list[Row]:
        """h wte^T; the order of its sums is not defined."""
        self._hidden = h
        return [[sum(a * b for a, b in zip(row, w, strict=True)) for w in self.wte] for row in h]

    def logits_backward(self, dlogits: list[Row]) -> list[Row]:
        """The gradient of h; the gradient of wte is accumulated, and has all rows."""
        columns = list(zip(*self._hidden, strict=True))
        dwte = [[sum(g[v] * x for g, x in zip(dlogits, column, strict=True)) for column in columns] for v in range(len(self.wte))]
        self._grads["wte"] = self._grads["wte"] + RowGrad(len(dwte[0]), arithmetic(self.dtype), list(range(len(dwte))), dwte)
        return [
            [sum(g * w for g, w in zip(row, column, strict=True)) for column in zip(*self.wte, strict=True)] for row in dlogits
        ]
