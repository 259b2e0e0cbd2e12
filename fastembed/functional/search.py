"""Nearest rows of a table, exact: products say which rows can be among the nearest, and those are scored once more.

V: rows of the table; D: columns; Q: queries; S: the shape of the queries.

The products, by BLAS or in C and in the table's arithmetic, err by at most ``_slack`` times the lengths of two vectors. Rows that
are worse than the k-th best by more than that are passed over. What is left is scored in float64, by sums of 16 parts, as in the
reference: no score depends on BLAS, on the size of blocks or on threads, and equal rows have equal scores.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from .. import _checks
from .._kernels.backend import kernels
from . import lookup

if TYPE_CHECKING:
    from .._typing import Array, ArrayLike

METRICS = ("cosine", "dot", "l2")
_BLOCK_BYTES = 4 << 20  # of rows that are read at one time: fewer are no work for two threads, more leave the cache
_ONE_PASS_BYTES = 16 << 20  # the same where one pass is all: smaller blocks spend a quarter of the time between them
_BLOCK_SCORES = 1 << 19  # of products at one time
_FEW_QUERIES = 4  # up to which one pass over the rows, by products in C, takes less time than BLAS and a pass for their lengths
_PAIR_BYTES = 2 << 20  # of rows, as float64, that are scored at one time
_NO_ROW = 2**63 - 1
# By the bytes of an element: half the distance from 1 to the next number, and the squared lengths that lose nothing on the way.
_ARITHMETIC = {4: (2.0**-24, 1e-30, 1e30), 8: (2.0**-53, 1e-280, 1e280)}


class Nearest(NamedTuple):
    """Rows that are nearest to each query, the nearest first: their numbers (int64) and scores (float64), of shape S + (k,)."""

    ids: Array
    scores: Array


class Rows(Protocol):
    """What can be searched."""

    @property
    def num_embeddings(self) -> int: ...
    @property
    def embedding_dim(self) -> int: ...
    def _float_rows(self, first: int, end: int) -> Array:
        """Rows first .. end - 1, up to date, as float32 or float64 with the elements side by side; only read."""


class Searchable:
    """Gives `nearest` and `analogy` to what has ``num_embeddings``, ``embedding_dim`` and ``_float_rows`` (see `Rows`)."""

    def nearest(self: Rows, queries: ArrayLike, k: int = 10, metric: str = "cosine", *, exclude_queries: bool = False) -> Nearest:
        """The k rows that are nearest to each query: see `Embedding.nearest`."""
        dtype = self._float_rows(0, 0).dtype
        ids = _checks.query_ids(queries)
        if ids is None:
            vectors = _checks.query_vectors(queries, self.embedding_dim, dtype)
            if exclude_queries:
                raise ValueError("exclude_queries goes with ids, got vectors")
            return _nearest(self, vectors, k, metric, np.empty((*vectors.shape[:-1], 0), np.int64))
        rows = lookup.resolve_ids(ids, self.num_embeddings)
        left_out = rows[..., None] if _checks.flag("exclude_queries", exclude_queries) else np.empty((*rows.shape, 0), np.int64)
        return _nearest(self, _checks.finite_rows("query", _rows_of(self, rows, dtype)), k, metric, left_out)

    def analogy(
        self: Rows, a: ArrayLike, b: ArrayLike, c: ArrayLike, k: int = 1, metric: str = "cosine", *, exclude_queries: bool = True
    ) -> Nearest:
        """What is to c as b is to a: see `Embedding.analogy`."""
        dtype = self._float_rows(0, 0).dtype
        given = [lookup.resolve_ids(ids, self.num_embeddings, name=f"{name} id") for name, ids in (("a", a), ("b", b), ("c", c))]
        rows = _checks.broadcast_ids(("a", "b", "c"), given)
        of_a, of_b, of_c = (_rows_of(self, of_one, dtype) for of_one in rows)
        with np.errstate(all="ignore"):
            vectors = _checks.finite_rows("b - a + c", of_b - of_a + of_c)
        left_out = np.stack(rows, -1) if _checks.flag("exclude_queries", exclude_queries) else rows[0][..., None][..., :0]
        return _nearest(self, vectors, k, metric, left_out)


class TableRows(Searchable):
    """A table in memory or in a mapped file, as it is searched."""

    def __init__(self, table: Array) -> None:
        self._table = table
        self.num_embeddings, self.embedding_dim = table.shape

    def _float_rows(self, first: int, end: int) -> Array:
        return np.ascontiguousarray(self._table[first:end], _checks.arithmetic(self._table.dtype))


def _rows_of(source: Rows, rows: Array, dtype: np.dtype[Any]) -> Array:
    """These rows, one by one: of a table in a file no others are touched."""
    result = np.empty((rows.size, source.embedding_dim), dtype)
    for i, row in enumerate(rows.flat):
        result[i] = source._float_rows(int(row), int(row) + 1)[0]
    return result.reshape(*rows.shape, source.embedding_dim)


def _nearest(source: Rows, vectors: Array, k: int, metric: str, left_out: Array) -> Nearest:
    """Search for vectors of shape S + (D,), without the rows ``left_out`` (S + (n,))."""
    metric = _checks.one_of("metric", metric, METRICS)
    n_rows, width, shape = source.num_embeddings, source.embedding_dim, vectors.shape[:-1]
    n_queries = math.prod(shape)
    left_out = np.sort(left_out.reshape(n_queries, left_out.shape[-1]), -1)
    n_out = int((np.diff(left_out, axis=-1, prepend=-1) > 0).sum(-1).max(initial=0)) if left_out.size else 0
    k = _checks.n_nearest(k, n_rows, n_out)
    best = _TopK(vectors.reshape(n_queries, width), k, metric)
    n_block = max((_BLOCK_BYTES if n_queries > _FEW_QUERIES else _ONE_PASS_BYTES) // max(width * vectors.itemsize, 1), 1)
    if best.costs.size:
        with np.errstate(all="ignore"):  # of rows with infinities and NaN
            for first in range(0, n_rows, n_block):
                best.add_block(first, source._float_rows(first, min(first + n_block, n_rows)), left_out)
            best.score_waiting()
    return Nearest(best.ids.reshape(*shape, k), best.scores().reshape(*shape, k))


def _slack(width: int, unit: float) -> float:
    """More than a product of two vectors of length 1, its scaling, and the score in float64 err by together: 2.5 D units."""
    return 4.0 * (width + 8) * unit


class _TopK:
    """The k rows of least cost of each query among those looked at so far. A score is minus the cost; for "l2" the cost."""

    def __init__(self, vectors: Array, k: int, metric: str) -> None:
        self.k, self.metric = k, metric
        self.unit, self.least, self.most = _ARITHMETIC[vectors.itemsize]
        self.wide = vectors.astype(np.float64)
        self.squares = kernels.sum_powers(self.wide, 2.0)
        self.lengths = np.sqrt(self.squares)
        is_plain = (self.squares >= self.least) & (self.squares <= self.most) | ~vectors.any(-1)
        self.slack = np.where(is_plain, _slack(vectors.shape[1], self.unit), np.nan)  # NaN: no row can be passed over
        self.costs = np.full((len(vectors), k), np.nan)
        self.ids = np.full((len(vectors), k), _NO_ROW)
        self.waiting: list[tuple[Array, Array, Array]] = []
        self.n_waiting = 0
        self.n_pairs = max(_PAIR_BYTES // (8 * max(vectors.shape[1], 1)), 1)
        factors = np.full(len(vectors), -2.0)
        if metric != "l2":
            factors = np.divide(-1.0, self.lengths, where=self.lengths > 0, out=np.zeros(len(vectors)))
        with np.errstate(all="ignore"):
            self.factored = (self.wide * factors[:, None]).astype(vectors.dtype)

    def scores(self) -> Array:
        return self.costs if self.metric == "l2" else -self.costs

    def add_block(self, first: int, block: Array, left_out: Array) -> None:
        """Keep what can be among the best of a block of rows, which begins with row ``first``."""
        is_one_pass = len(self.costs) <= _FEW_QUERIES
        one_pass, squares = kernels.products(block, self.factored) if is_one_pass else (None, np.vecdot(block, block))
        odd = np.flatnonzero(~((squares >= self.least) & (squares <= self.most)))
        odd = odd[block[odd].any(-1)] if odd.size else odd  # what is 0 is plain
        longest = float(np.sqrt(np.delete(squares, odd).max(initial=0.0) if odd.size else squares.max()))
        if self.metric == "cosine":
            squares = np.divide(1.0, np.sqrt(squares), where=squares > 0, out=np.zeros_like(squares))
        n_queries = max(_BLOCK_SCORES // len(block), 1)
        for start in range(0, len(self.costs), n_queries):
            some = slice(start, start + n_queries)
            costs = self.factored[some] @ block.T if one_pass is None else one_pass[some]
            if self.metric == "cosine":
                costs *= squares
            elif self.metric == "l2":
                costs += squares
            if odd.size:
                costs[:, odd] = np.nan
            out = np.nonzero((left_out[some] >= first) & (left_out[some] < first + len(block))) if left_out.size else ()
            if out:
                out = out[0], left_out[some][out] - first
                costs[out] = np.inf
            is_kept = ~(costs >= self._limits(some, costs, longest)[:, None])
            if out:
                is_kept[out] = False
            self._keep(first, block, start, np.flatnonzero(is_kept))

    def _limits(self, some: slice, costs: Array, longest: float) -> Array:
        """From which of the products on a row is not among the best; NaN for none."""
        known, lengths, slack = self.costs[some, -1], self.lengths[some], self.slack[some]
        if self.metric == "cosine":
            limits, slack = known.copy(), slack * (lengths > 0)
        elif self.metric == "dot":
            limits, slack = np.divide(known, lengths, where=lengths > 0, out=known.copy()), slack * longest
        else:
            limits, slack = known * known - self.squares[some], slack * (longest + lengths) ** 2
        limits = (limits + slack).astype(costs.dtype)
        unknown = np.flatnonzero(np.isnan(known))
        if unknown.size and costs.shape[1] >= self.k:  # k rows of this block alone say which others are worse than they are
            kth = np.partition(costs[unknown], self.k - 1, axis=-1)[:, self.k - 1]
            limits[unknown] = np.nextafter((kth + 3 * slack[unknown]).astype(costs.dtype), np.inf)
        return limits

    def _keep(self, first: int, block: Array, start: int, places: Array) -> None:
        """Let rows of a block wait for their scores: places in a matrix of queries (from ``start`` on) by rows."""
        for k in range(0, len(places), self.n_pairs):
            queries, rows = np.divmod(places[k : k + self.n_pairs], len(block))
            self.waiting.append((queries + start, rows + first, block[rows]))
            self.n_waiting += len(rows)
            if self.n_waiting >= min(self.costs.size, self.n_pairs):
                self.score_waiting()

    def score_waiting(self) -> None:
        """Score the rows that wait, and put the best of them among the best of their queries."""
        if not self.waiting:
            return
        queries, ids, rows = (np.concatenate(parts) for parts in zip(*self.waiting, strict=True))
        self.waiting, self.n_waiting = [], 0
        costs = self._costs(queries, rows.astype(np.float64))
        touched = np.unique(queries)
        queries = np.concatenate([np.repeat(touched, self.k), queries])
        ids = np.concatenate([self.ids[touched].ravel(), ids])
        costs = np.concatenate([self.costs[touched].ravel(), costs])
        order = np.lexsort((ids, costs, queries))
        begins = np.searchsorted(queries[order], touched)
        chosen = order[begins[:, None] + np.arange(self.k)]
        self.ids[touched], self.costs[touched] = ids[chosen], costs[chosen]

    def _costs(self, queries: Array, rows: Array) -> Array:
        """The cost of each row for its query, as the reference computes it."""
        if self.metric == "l2":
            return np.sqrt(kernels.sum_powers(rows - self.wide[queries], 2.0))
        dots = kernels.dots(rows, np.arange(len(rows)), queries.astype(np.int32), self.wide)
        if self.metric == "dot":
            return -dots
        products = kernels.sum_powers(rows, 2.0) * self.squares[queries]
        cosines = np.divide(dots, np.sqrt(products), where=products != 0, out=np.zeros_like(dots))
        return -np.clip(cosines, -1.0, 1.0)
