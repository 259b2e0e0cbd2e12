"""gather, gather_add, scatter_add and gather_add_backward on nested lists.

V, P: rows of a table; D: its columns; S: the shape of the ids, any number of axes. Results have the
shape S + (D,).
"""

from __future__ import annotations

import operator
from collections import Counter
from typing import Any

from .._messages import shown
from ._nested import arithmetic, broadcast, flat, nest, rounding, shape, unravel
from .halves import is_half

Row = list[float]
Table = list[Row]


def resolve_ids(ids: Any, n_rows: int, bounds: str = "raise", name: str = "id") -> list[int | None]:
    """The row that each id selects, in C order; None for a row of zeros that takes no gradient.

    Raises
    ------
    IndexError
        For the first id in C order that selects no row: one outside 0 <= id < n_rows under
        "raise", any id under "wrap" and "clip" if the table is empty.
    """
    rows: list[int | None] = []
    for index, item in enumerate(flat(ids)):
        if isinstance(item, bool):
            raise TypeError(f"{name}s must be integers, got booleans among them")
        i = operator.index(item)
        if 0 <= i < n_rows:
            rows.append(i)
        elif bounds == "zero":
            rows.append(None)
        elif bounds == "raise" or n_rows == 0:
            position = unravel(index, shape(ids))
            raise IndexError(f"{name} {shown(i)} at position {position} is out of range for a table of {n_rows} rows")
        elif bounds == "wrap":
            rows.append(i % n_rows)
        elif bounds == "clip":
            rows.append(0 if i < 0 else n_rows - 1)
        else:
            raise ValueError(f"bounds must be raise, wrap, clip or zero, got {shown(bounds)}")
    return rows


def positions(token_ids: Any, position_ids: Any, start: int) -> Any:
    """Position ids in the shape of ``token_ids``; by default start, start + 1, ... in each row."""
    of_shape = shape(token_ids)
    if position_ids is not None:
        if start != 0:
            raise ValueError("start and position_ids exclude each other")
        return nest(broadcast(position_ids, of_shape), of_shape)
    return nest(broadcast([start + t for t in range(of_shape[-1])] if of_shape else start, of_shape), of_shape)


def width(*tables: Table) -> int:
    """The number of columns; 0 if no table has a row, as an empty list has no width."""
    return max((len(table[0]) for table in tables if table), default=0)


def _result(rows: list[Row], ids: Any, out: Any) -> Any:
    """The rows in the shape of the ids, written into `out` if it is given."""
    result = nest(rows, shape(ids))
    if out is None:
        return result
    out[:] = result
    return out


def gather(table: Table, ids: Any, *, out: Any = None, bounds: str = "raise", dtype: str = "float64") -> Any:
    """out[i] = table[ids[i]]; zeros where `bounds` gives no row."""
    round_ = rounding(dtype)
    zeros = [0.0] * width(table)
    rows = resolve_ids(ids, len(table), bounds)
    return _result([[round_(x) for x in (zeros if r is None else table[r])] for r in rows], ids, out)


def gather_add(
    wte: Table,
    token_ids: Any,
    wpe: Table,
    position_ids: Any = None,
    *,
    start: int = 0,
    out: Any = None,
    bounds: str = "raise",
    dtype: str = "float64",
) -> Any:
    """out[i] = wte[token_ids[i]] + wpe[position_ids[i]] (microgpt: tok_emb + pos_emb)."""
    round_ = rounding(dtype)
    zeros = [0.0] * width(wte, wpe)
    token_rows = resolve_ids(token_ids, len(wte), bounds, "token id")
    position_rows = resolve_ids(positions(token_ids, position_ids, start), len(wpe), bounds, "position id")
    rows = []
    for t, p in zip(token_rows, position_rows, strict=True):
        tok_emb = zeros if t is None else wte[t]
        pos_emb = zeros if p is None else wpe[p]
        rows.append([round_(a + b) for a, b in zip(tok_emb, pos_emb, strict=True)])
    return _result(rows, token_ids, out)


def accumulate(
    table: Table,
    rows: list[int | None],
    values: list[float],
    dtype: str,
    factors: list[float] | None = None,
    by_frequency: bool = False,
) -> None:
    """table[rows[i]] += values[i] * factors[i] in order; without factors they are 1.

    With ``by_frequency`` each term is divided by the number of times that its row occurs in `rows`.
    """
    round_ = rounding(arithmetic(dtype))
    n_cols, counts = width(table), Counter(rows)
    for i, r in enumerate(rows):
        if r is not None:
            of_row = values[i * n_cols : (i + 1) * n_cols]
            if factors is not None:
                of_row = [round_(x * round_(factors[i])) for x in of_row]
            if by_frequency:
                of_row = [round_(x / counts[r]) for x in of_row]
            table[r] = [round_(a + b) for a, b in zip(table[r], of_row, strict=True)]
    for r in {r for r in rows if r is not None} if is_half(dtype) else ():
        table[r] = [rounding(dtype)(x) for x in table[r]]


def scatter_add(table: Table, ids: Any, values: Any, *, bounds: str = "raise", dtype: str = "float64") -> None:
    """table[ids[i]] += values[i] in place, in C order; values are broadcast to S + (D,)."""
    rows = resolve_ids(ids, len(table), bounds)
    if rows:  # an empty nested list has no shape to broadcast to
        accumulate(table, rows, broadcast(values, (*shape(ids), width(table))), dtype)


def gather_add_backward(
    dout: Any,
    token_ids: Any,
    dwte: Table,
    dwpe: Table,
    position_ids: Any = None,
    *,
    start: int = 0,
    bounds: str = "raise",
    dtype: str = "float64",
) -> None:
    """Add dout[i] to dwte[token_ids[i]] and to dwpe[position_ids[i]], in place.

    In llm.c this is encoder_backward.
    """
    token_rows = resolve_ids(token_ids, len(dwte), bounds, "token id")
    position_rows = resolve_ids(positions(token_ids, position_ids, start), len(dwpe), bounds, "position id")
    values = list(flat(dout))
    accumulate(dwte, token_rows, values, dtype)
    accumulate(dwpe, position_rows, values, dtype)
