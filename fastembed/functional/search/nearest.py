"""Exact search for the nearest rows of a table: approximate products first, exact scores after.

V: rows of the table; D: columns; Q: queries; S: the shape of the queries.

The products, by BLAS or in C and in the table's arithmetic dtype, have an error of at most
``_slack`` times the lengths of both vectors. Rows that are worse than the k-th best by more than
that are skipped. The other rows are candidates: they are scored in float64, in 16 partial sums, as
in the reference. So no score depends on BLAS, the size of blocks or the threads, and equal rows
have equal scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from ... import _checks
from ..._kernels.backend import kernels
from ..._kernels.floats import own_floats
from .. import lookup
from .index import SearchIndex, arithmetic_rows, kth_smallest

if TYPE_CHECKING:
    from ..._typing import Array, ArrayLike

METRICS = ("cosine", "dot", "l2")
_BLOCK_BYTES = 4 << 20  # of rows in a block: fewer do not keep two threads busy, more leave the cache
_ONE_PASS_BYTES = 16 << 20  # the same for a few queries: smaller blocks cost a quarter of the time in overhead
_BLOCK_SCORES = 1 << 19  # products that are computed at one time
_FEWEST_ROWS = 2048  # of a block, for many queries
# Up to so many queries one pass in C, products and lengths together, is faster than BLAS and a pass
# for the lengths.
_FEW_QUERIES = 4
_PAIR_BYTES = 2 << 20  # of candidates, as float64, that are scored at one time
_NO_ROW = 2**63 - 1
# By the bytes of an element: the unit roundoff, and the range of squared lengths without under- or
# overflow.
_ARITHMETIC = {4: (2.0**-24, 1e-30, 1e30), 8: (2.0**-53, 1e-280, 1e280)}


class _Pair(NamedTuple):
    ids: Array
    scores: Array


class Nearest(_Pair):
    """The nearest rows of each query, in order: ids (int64) and scores (float64), S + (k,).

    Attributes
    ----------
    names : nested lists of str, or None
        The names of the rows, if they have names.
    """

    _names_of: Callable[[Array], Any] | None = None

    @property
    def names(self) -> Any:
        return None if self._names_of is None else self._names_of(self.ids)

    def with_names(self, names_of: Callable[[Array], Any]) -> Nearest:
        """The same with names, that a function of ids gives when they are asked for."""
        found = Nearest(*self)
        found._names_of = names_of
        return found

    def __repr__(self) -> str:
        names = "" if self._names_of is None else f", names={self.names!r}"
        return f"Nearest(ids={self.ids!r}, scores={self.scores!r}{names})"


class Rows(Protocol):
    """A table that can be searched."""

    @property
    def num_embeddings(self) -> int: ...
    @property
    def embedding_dim(self) -> int: ...
    def _float_rows(self, first: int, end: int) -> Array:
        """Rows first .. end - 1, up to date, contiguous, float32 or float64; they are only read."""


class _NamedRows(Rows, Protocol):
    """The same, with what `Searchable` has for rows with names."""

    def _ids_of(self, name: str, given: Any) -> Any: ...
    def _named(self, found: Nearest) -> Nearest: ...


class Searchable:
    """`nearest` and `analogy` for a class that has the members of `Rows`."""

    _index: SearchIndex | None = None  # up to date

    def _ids_of(self, name: str, given: Any) -> Any:
        """The ids of names of rows, if they have some; values of other kinds as they are."""
        return given

    def _named(self, found: Nearest) -> Nearest:
        """What was found, with names if the rows have some."""
        return found

    @own_floats
    def nearest(
        self: _NamedRows,
        queries: ArrayLike,
        k: int | None = None,
        metric: str = "cosine",
        *,
        exclude_queries: bool = False,
        exclude: ArrayLike | None = None,
        bias: ArrayLike | None = None,
    ) -> Nearest:
        """The k rows that are nearest to each query: see `Embedding.nearest`."""
        queries = self._ids_of("queries", queries)
        exclude = None if exclude is None else self._ids_of("exclude", exclude)
        dtype = self._float_rows(0, 0).dtype
        ids = _checks.ids_of_queries(queries)
        if ids is None:
            vectors = _checks.query_vectors(queries, self.embedding_dim, dtype)
            if exclude_queries:
                raise ValueError("exclude_queries requires ids, got vectors")
            return self._named(_nearest(self, vectors, k, metric, _excluded(self, vectors.shape[:-1], exclude), bias))
        rows = lookup.resolve_ids(ids, self.num_embeddings)
        excluded = _excluded(self, rows.shape, exclude)
        if _checks.flag("exclude_queries", exclude_queries):
            excluded = np.concatenate([excluded, rows[..., None]], axis=-1)
        vectors = _checks.finite_rows("query", _rows_of(self, rows, dtype))
        return self._named(_nearest(self, vectors, k, metric, excluded, bias))

    @own_floats
    def analogy(
        self: _NamedRows,
        a: ArrayLike,
        b: ArrayLike,
        c: ArrayLike,
        k: int = 1,
        metric: str = "cosine",
        *,
        exclude_queries: bool = True,
    ) -> Nearest:
        """What is to c as b is to a: see `Embedding.analogy`."""
        given = {name: self._ids_of(name, ids) for name, ids in (("a", a), ("b", b), ("c", c))}
        dtype = self._float_rows(0, 0).dtype
        resolved = [lookup.resolve_ids(ids, self.num_embeddings, name=f"{name} id") for name, ids in given.items()]
        rows = _checks.broadcast_together(("a", "b", "c"), resolved)
        of_a, of_b, of_c = (_rows_of(self, of_one, dtype) for of_one in rows)
        vectors = _checks.finite_rows("b - a + c", of_b - of_a + of_c)
        excluded = np.stack(rows, -1) if _checks.flag("exclude_queries", exclude_queries) else rows[0][..., None][..., :0]
        return self._named(_nearest(self, vectors, k, metric, excluded))


class _WithBias:
    """Rows with a number more, which the 1 at the end of each query multiplies."""

    def __init__(self, source: Rows, bias: ArrayLike) -> None:
        dtype = source._float_rows(0, 0).dtype
        numbers = _checks.rows("bias", bias, (source.num_embeddings,), dtype)
        self._source, self._bias = source, _checks.finite_rows("bias", _checks.contiguous(numbers, dtype)[:, None])
        self.num_embeddings, self.embedding_dim = source.num_embeddings, source.embedding_dim + 1

    def _float_rows(self, first: int, end: int) -> Array:
        return np.concatenate([self._source._float_rows(first, end), self._bias[first:end]], axis=1)


class TableRows(Searchable):
    """A table in memory or in a mapped file, as `Rows`."""

    def __init__(self, table: Array, index: SearchIndex | None = None) -> None:
        self._table = table
        self.num_embeddings, self.embedding_dim = table.shape
        if index is not None:
            index.update(table)
            self._index = index

    def _float_rows(self, first: int, end: int) -> Array:
        return arithmetic_rows(self._table, slice(first, end))


def _rows_of(source: Rows, rows: Array, dtype: np.dtype[Any]) -> Array:
    """The given rows, read one by one, so that no other row of a mapped table is read."""
    result = np.empty((rows.size, source.embedding_dim), dtype)
    for i, row in enumerate(rows.flat):
        result[i] = source._float_rows(int(row), int(row) + 1)[0]
    return result.reshape(*rows.shape, source.embedding_dim)


def _excluded(source: Rows, shape: tuple[int, ...], exclude: Any) -> Array:
    """The rows that are not in the result of each query, S + (n,); -1 stands for none."""
    if exclude is None:
        return np.empty((*shape, 0), np.int64)
    parts = _checks.ragged(exclude, None)
    given, lengths = (exclude, []) if parts is None else (parts[0], parts[2])
    rows = lookup.resolve_ids(given, source.num_embeddings, name="exclude id")
    if lengths:
        if shape != (len(lengths),):
            raise ValueError(f"exclude of {len(lengths)} lists must have one for each query, and queries are of shape {shape}")
        padded = np.full((len(lengths), max(lengths)), -1)
        padded[np.arange(max(lengths)) < np.array(lengths)[:, None]] = rows
        return padded
    try:
        return np.broadcast_to(rows, (*shape, rows.shape[-1] if rows.ndim else 1))
    except ValueError:
        of_each = f" or {(*shape, 'n')}".replace("'n'", "n") if shape else ""
        raise ValueError(f"exclude must have shape (n,){of_each}, got {rows.shape}") from None


def _nearest(source: Rows, vectors: Array, k: int | None, metric: str, excluded: Array, bias: ArrayLike | None = None) -> Nearest:
    """The k rows nearest to each vector, S + (D,), without the rows ``excluded``, S + (n,)."""
    metric = _checks.one_of("metric", metric, METRICS)
    if bias is not None:
        if metric != "dot":
            raise ValueError(f'bias requires the metric "dot", got {_checks.shown(metric)}')
        source, vectors = _WithBias(source, bias), np.concatenate([vectors, np.ones_like(vectors[..., :1])], axis=-1)
    n_rows, width, shape = source.num_embeddings, source.embedding_dim, vectors.shape[:-1]
    n_queries = math.prod(shape)
    excluded = np.sort(excluded.reshape(n_queries, excluded.shape[-1]), -1)
    n_excluded = int((np.diff(excluded, axis=-1, prepend=-1) > 0).sum(-1).max(initial=0)) if excluded.size else 0
    k = _checks.n_neighbors(k, n_rows, n_excluded)
    index = source._index if isinstance(source, TableRows) else None
    best = _TopK(vectors.reshape(n_queries, width), k, metric, index)
    n_block = max((_BLOCK_BYTES if n_queries > _FEW_QUERIES else _ONE_PASS_BYTES) // max(width * vectors.itemsize, 1), 1)
    if n_queries > _FEW_QUERIES:  # all queries at one time: BLAS packs a block for each product
        n_block = min(n_block, max(_BLOCK_SCORES // n_queries, _FEWEST_ROWS))
    if best.costs.size and not best.add_from_codes(excluded):
        for first in range(0, n_rows, n_block):
            best.add_block(first, source._float_rows(first, min(first + n_block, n_rows)), excluded)
    best.score_candidates()
    return Nearest(best.ids.reshape(*shape, k), best.scores().reshape(*shape, k))


def _slack(width: int, unit: float) -> float:
    """A bound of the error of a product of unit vectors, its scaling and its score: 2.5 D units."""
    return 4.0 * (width + 8) * unit


class _TopK:
    """The k rows of lowest cost for each query, of the rows seen so far.

    The cost is minus the score; for "l2" it is the score.
    """

    def __init__(self, vectors: Array, k: int, metric: str, index: SearchIndex | None) -> None:
        self.k, self.metric, self.index = k, metric, index
        unit, *self.squares_in_range = _ARITHMETIC[vectors.itemsize]
        self.vectors = vectors.astype(np.float64)
        self.squares = kernels.sum_powers(self.vectors, 2.0)
        self.lengths = np.sqrt(self.squares)
        smallest, largest = self.squares_in_range
        is_in_range = (self.squares >= smallest) & (self.squares <= largest) | ~vectors.any(-1)
        self.slack = np.where(is_in_range, _slack(vectors.shape[1], unit), np.nan)  # NaN: no row can be skipped
        self.costs = np.full((len(vectors), k), np.nan)
        self.ids = np.full((len(vectors), k), _NO_ROW)
        self.candidates: list[tuple[Array, Array, Array]] = []  # queries, ids and rows, not scored yet
        self.n_candidates = 0
        self.n_pairs = max(_PAIR_BYTES // (8 * max(vectors.shape[1], 1)), 1)
        factors = np.full(len(vectors), -2.0)
        if metric != "l2":
            factors = np.divide(-1.0, self.lengths, where=self.lengths > 0, out=np.zeros(len(vectors)))
        self.scaled_vectors = (self.vectors * factors[:, None]).astype(vectors.dtype)

    def scores(self) -> Array:
        return self.costs if self.metric == "l2" else -self.costs

    def add_from_codes(self, excluded: Array) -> bool:
        """Add the rows that can be among the best by an index; False if it cannot tell enough."""
        if self.index is None or len(self.costs) > _FEW_QUERIES:
            return False
        found = []
        for vector, out in zip(self.vectors, excluded, strict=True):
            rows = self.index.candidates(vector, min(self.k + len(out), len(self.index.squares)), self.metric)
            if rows is None:
                return False
            found.append(rows[~np.isin(rows, out)] if out.size else rows)
        for q, ids in enumerate(found):
            for k in range(0, len(ids), self.n_pairs):
                some = ids[k : k + self.n_pairs]
                self._add_candidates(np.full(len(some), q), some, self.index.rows_at(some))
        return True

    def add_block(self, first: int, block: Array, excluded: Array) -> None:
        """Add the rows of a block that can be among the best; it begins with row ``first``."""
        lines = None
        if len(self.costs) <= _FEW_QUERIES:
            in_one_pass, squares = kernels.costs(block, self.scaled_vectors, self.metric, *self.squares_in_range)
        else:
            in_one_pass, squares = None, self._squares_of(first, block)
            lines = self._lines(squares)
        longest = float(np.sqrt(np.fmax.reduce(squares, initial=0.0)))
        n_queries = max(_BLOCK_SCORES // len(block), 1)
        for start in range(0, len(self.costs), n_queries):
            chunk = slice(start, start + n_queries)
            costs = self.scaled_vectors[chunk] @ block.T if in_one_pass is None else in_one_pass[chunk]
            out = np.nonzero((excluded[chunk] >= first) & (excluded[chunk] < first + len(block))) if excluded.size else ()
            if out:
                out = out[0], excluded[chunk][out] - first
                costs[out] = np.nan
            pairs = kernels.below(costs, lines, self._limits(chunk, costs, lines, longest))
            if out:
                pairs = pairs[~np.isin(pairs, np.ravel_multi_index(out, costs.shape))]
            self._add_pairs(first, block, start, pairs)

    def _squares_of(self, first: int, block: Array) -> Array:
        """The squares of the lengths of a block's rows, that an index knows; NaN for those that
        products cannot rank."""
        if self.index is None:
            return kernels.costs(block, self.scaled_vectors[:0], self.metric, *self.squares_in_range)[1]
        squares = self.index.squares[first : first + len(block)].astype(block.dtype)
        smallest, largest = self.squares_in_range
        extreme = np.flatnonzero(~((squares >= smallest) & (squares <= largest)))
        squares[extreme[block[extreme].any(-1)]] = np.nan  # products with rows of zeros are exact
        return squares

    def _lines(self, squares: Array) -> tuple[Array, Array]:
        """The factors and offsets that make costs of the products with rows of these squares."""
        zeros = np.zeros_like(squares)
        if self.metric == "cosine":
            return np.divide(1.0, np.sqrt(squares), where=squares != 0, out=zeros.copy()), zeros
        return np.where(np.isnan(squares), squares, 1), squares if self.metric == "l2" else zeros

    def _limits(self, chunk: slice, products: Array, lines: tuple[Array, Array] | None, longest: float) -> Array:
        """The cost of each query from which a row cannot be among the best; NaN for no limit.

        The cost of a row is its product times a factor plus an offset, if there are ``lines``.
        """
        known, lengths, slack = self.costs[chunk, -1], self.lengths[chunk], self.slack[chunk]
        if self.metric == "cosine":
            limits, slack = known.copy(), slack * (lengths > 0)
        elif self.metric == "dot":
            limits, slack = np.divide(known, lengths, where=lengths > 0, out=known.copy()), slack * longest
        else:
            limits, slack = known * known - self.squares[chunk], slack * (longest + lengths) ** 2
        limits = (limits + slack).astype(products.dtype)
        unknown = np.flatnonzero(np.isnan(known))
        if unknown.size and products.shape[1] >= self.k:  # the k-th best of this block is a limit too
            costs = products if len(unknown) == len(products) else products[unknown]
            kth = kth_smallest(costs if lines is None else costs * lines[0] + lines[1], self.k)
            limits[unknown] = np.nextafter((kth + 3 * slack[unknown]).astype(products.dtype), np.inf)
        return limits

    def _add_pairs(self, first: int, block: Array, start: int, pairs: Array) -> None:
        """Add candidates, flat indices into a matrix of queries (from ``start`` on) by rows."""
        for k in range(0, len(pairs), self.n_pairs):
            queries, rows = np.divmod(pairs[k : k + self.n_pairs], len(block))
            self._add_candidates(queries + start, rows + first, block[rows])

    def _add_candidates(self, queries: Array, ids: Array, rows: Array) -> None:
        self.candidates.append((queries, ids, rows))
        self.n_candidates += len(rows)
        if self.n_candidates >= min(self.costs.size, self.n_pairs):
            self.score_candidates()

    def score_candidates(self) -> None:
        """Score the candidates, and merge them into the best rows of their queries."""
        if not self.candidates:
            return
        queries, ids, rows = (np.concatenate(parts) for parts in zip(*self.candidates, strict=True))
        self.candidates, self.n_candidates = [], 0
        rows = rows.astype(np.float64)
        squares = kernels.sum_powers(rows, 2.0)
        if self.index is not None:
            self.index.check_unwritten(ids, squares)
        costs = self._costs(queries, rows, squares)
        changed = np.flatnonzero(np.bincount(queries))
        queries = np.concatenate([np.repeat(changed, self.k), queries])
        ids = np.concatenate([self.ids[changed].ravel(), ids])
        costs = np.concatenate([self.costs[changed].ravel(), costs])
        order = np.lexsort((ids, costs, queries))
        starts = np.searchsorted(queries[order], changed)
        chosen = order[starts[:, None] + np.arange(self.k)]
        self.ids[changed], self.costs[changed] = ids[chosen], costs[chosen]

    def _costs(self, queries: Array, rows: Array, squares: Array) -> Array:
        """The cost of each row for its query, as the reference computes it."""
        if self.metric == "l2":
            return np.sqrt(kernels.sum_powers(rows - self.vectors[queries], 2.0))
        dots = kernels.dots(rows, np.arange(len(rows)), queries.astype(np.int32), self.vectors)
        if self.metric == "dot":
            return -dots
        products = squares * self.squares[queries]
        cosines = np.divide(dots, np.sqrt(products), where=products != 0, out=np.zeros_like(dots))
        return -np.clip(cosines, -1.0, 1.0)
