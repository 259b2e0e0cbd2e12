"""What `on_reference` answers of single rows: norms, dropout, products, sums, costs, bounds."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import reference
from .._float_env import errors_ignored
from .packing import Packing

Array = np.ndarray[Any, Any]


def packed_size(packing: Packing, n_cols: int) -> tuple[int, int] | None:
    return reference.formats.packed_size(*packing[:3], n_cols)


def norm_rows(rows: Array, grads: Array | None, is_layer: bool, eps: float) -> None:
    dtype = str(rows.dtype)
    for i, row in enumerate(rows.tolist()):
        normed, scale = reference.norms.normalise(row, is_layer, eps, dtype)
        rows[i] = normed
        if grads is not None:
            grads[i] = reference.norms.backward(grads[i].tolist(), normed, scale, is_layer, dtype)


def dropout(rows: Array, p: float, seed: int, call: int) -> None:
    rows[...] = np.array(reference.norms.drop(rows.tolist(), p, seed, call, str(rows.dtype)), rows.dtype).reshape(rows.shape)


def dots(table: Array, rows: Array, places: Array, grads: Array) -> Array:
    dtype = reference.arithmetic(str(table.dtype))
    round_ = reference.rounding(dtype)
    pairs = zip(rows, places, strict=True)
    products = [0.0 if r < 0 else reference.rules.dot(table[r].tolist(), grads[p].tolist(), round_) for r, p in pairs]
    return np.array(products, dtype)


@errors_ignored
def costs(rows: Array, queries: Array, metric: str, smallest: float, largest: float) -> tuple[Array, Array]:
    round_, lists = reference.rounding(str(rows.dtype)), rows.tolist()
    with_queries = [[reference.rules.dot(row, query, round_) for row in lists] for query in queries.tolist()]
    products = np.array(with_queries, rows.dtype).reshape(len(queries), len(rows))
    squares = np.array([reference.rules.dot(row, row, round_) for row in lists], rows.dtype)
    squares[~((squares >= smallest) & (squares <= largest)) & (rows != 0).any(-1)] = np.nan
    factors = np.where(np.isnan(squares), squares, 1)
    if metric == "cosine":
        factors = np.divide(1, np.sqrt(squares), where=squares != 0, out=np.zeros_like(squares))
    return products * factors + (squares if metric == "l2" else 0), squares


def sum_powers(rows: Array, p: float) -> Array:
    return np.array([reference.rules.sum_powers(row, p) for row in rows.tolist()], np.float64)


@errors_ignored
def below(rows: Array, lines: tuple[Array, Array] | None, limits: Array) -> Array:
    costs = rows if lines is None else rows * lines[0] + lines[1]
    return np.flatnonzero(~(costs >= limits[:, None]))


@errors_ignored
def code_bounds(codes: Array, terms: Array, numbers: Array, factors: tuple[float, float, float, float]) -> Array:
    scales, errors, lengths, offsets = terms
    scale, *of_others = map(np.float32, factors)
    products = (codes.astype(np.int64) @ numbers.astype(np.int64)).astype(np.float32)
    costs = offsets + scale * (scales * products)
    error = of_others[0] * errors + of_others[1] * lengths + of_others[2] * offsets
    return np.stack([costs - error, costs + error])
