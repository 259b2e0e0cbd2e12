"""Nearest rows of a table: every row is scored, the best are kept.

Scores are float64 whatever the table's dtype; products are summed in 16 parts (`rules.dot`). Of
equal scores the lower row comes first, and NaN comes last.
"""

from __future__ import annotations

import math
from itertools import zip_longest
from typing import Any

from .._messages import shown
from ._nested import arithmetic, broadcast, flat, nest, rounding, shape, unravel
from .ops import Table, resolve_ids
from .rules import dot, sum_powers

METRICS = ("cosine", "dot", "l2")


def score(row: list[float], query: list[float], metric: str) -> float:
    """The cosine (0 if a vector is zero), dot product or Euclidean distance of two vectors."""
    if metric == "l2":
        return math.sqrt(sum_powers([x - y for x, y in zip(row, query, strict=True)], 2))
    product = dot(row, query, float)
    if metric == "dot":
        return product
    squares = sum_powers(row, 2) * sum_powers(query, 2)
    if squares == 0:
        return 0.0
    cosine = product / math.sqrt(squares)
    return math.copysign(1.0, cosine) if abs(cosine) > 1 else cosine


def ranked(table: Table, query: list[float], metric: str) -> list[tuple[float, int]]:
    """All rows with their scores, the nearest first."""
    scores = [(score(row, query, metric), r) for r, row in enumerate(table)]
    sign = 1 if metric == "l2" else -1
    return sorted(scores, key=lambda pair: (math.isnan(pair[0]), 0.0 if math.isnan(pair[0]) else sign * pair[0], pair[1]))


def _top_k(table: Table, queries: Table, of_shape: tuple[int, ...], k: int | None, metric: str, excluded: list[set[int]]) -> Any:
    """The k nearest rows of each query, without the rows that are excluded for it."""
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}; got {shown(metric)}")
    n_rows, n_out = len(table), max(map(len, excluded), default=0)
    k = min(10, max(n_rows - n_out, 0)) if k is None else k
    if k > n_rows - n_out:
        left = f", {n_out} of them left out" if n_out else ""
        raise ValueError(f"k must be from 0 to {max(n_rows - n_out, 0)} for a table of {n_rows} rows{left}; got {shown(k)}")
    best = []
    for query, rows in zip(queries, excluded, strict=True):
        best.append([pair for pair in ranked(table, query, metric) if pair[1] not in rows][:k])
    ids, scores = ([[pair[j] for pair in pairs] for pairs in best] for j in (1, 0))
    return nest(flat(ids), (*of_shape, k)), nest(flat(scores), (*of_shape, k))


def _check_finite(name: str, vectors: Table, of_shape: tuple[int, ...], dtype: str) -> None:
    for i, vector in enumerate(vectors):
        for x in vector:
            if not math.isfinite(x):
                place = unravel(i, of_shape)
                raise ValueError(f"{name} at position {place} must be finite in {arithmetic(dtype)}, got {x}")


def nearest(
    table: Table,
    queries: Any,
    k: int | None = None,
    metric: str = "cosine",
    *,
    exclude_queries: bool = False,
    exclude: list[int] | None = None,
    bias: list[float] | None = None,
    dtype: str = "float64",
) -> tuple[Any, Any]:
    """Ids and scores of the k rows nearest to each query.

    Queries are ids of rows of the table, or vectors of floats. The rows ``exclude`` are in no
    result. With ``bias`` a row's score is the dot product of itself and its bias with the query
    and 1. By default k is 10, or as many rows as are left.
    """
    out, one = {*exclude} if exclude else set(), [] if bias is None else [1.0]
    rows_with_bias = (
        table if bias is None else [[*row, rounding(arithmetic(dtype))(b)] for row, b in zip(table, bias, strict=True)]
    )
    if bias is not None and metric != "dot":
        raise ValueError(f'bias requires the metric "dot", got {shown(metric)}')
    first = next(flat(queries), 0)
    if isinstance(first, float):
        width, of_shape = shape(queries)[-1], shape(queries)[:-1]
        numbers = list(map(rounding(arithmetic(dtype)), flat(queries)))
        vectors = [numbers[i * width : (i + 1) * width] for i in range(math.prod(of_shape))]
        _check_finite("query", vectors, of_shape, dtype)
        return _top_k(rows_with_bias, [[*v, *one] for v in vectors], of_shape, k, metric, [out for _ in vectors])
    rows: list[Any] = resolve_ids(queries, len(table))
    vectors = [table[r] for r in rows]
    _check_finite("query", vectors, shape(queries), dtype)
    excluded = [out | {r} if exclude_queries else out for r in rows]
    return _top_k(rows_with_bias, [[*v, *one] for v in vectors], shape(queries), k, metric, excluded)


def analogy(
    table: Table,
    a: Any,
    b: Any,
    c: Any,
    k: int = 1,
    metric: str = "cosine",
    *,
    exclude_queries: bool = True,
    dtype: str = "float64",
) -> tuple[Any, Any]:
    """The rows nearest to b - a + c, by default without the three rows themselves."""
    r = rounding(arithmetic(dtype))
    ids = [nest(resolve_ids(ids, len(table), name=f"{name} id"), shape(ids)) for name, ids in (("a", a), ("b", b), ("c", c))]
    lengths = zip_longest(*(reversed(shape(of_one)) for of_one in ids), fillvalue=1)
    of_shape = tuple(min(n) and max(n) for n in lengths)[::-1]
    rows = [broadcast(of_one, of_shape) for of_one in ids]
    vectors = [[r(r(y - x) + z) for x, y, z in zip(*(table[i] for i in three), strict=True)] for three in zip(*rows, strict=True)]
    _check_finite("b - a + c", vectors, of_shape, dtype)
    excluded = [set(three) if exclude_queries else set() for three in zip(*rows, strict=True)]
    return _top_k(table, vectors, of_shape, k, metric, excluded)
