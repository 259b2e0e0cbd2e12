"""AttachedTable: look-ups in a shared table, which another process may be training.

V: rows of the table; D: columns; S: the shape of the ids; B: bags.
"""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .. import _checks
from .._kernels.backend import kernels
from .._kernels.floats import assign
from .._memory import memory_errors
from ..functional import bags as bag_ops
from ..functional import lookup
from ..functional.search.index import arithmetic_rows
from ..functional.search.nearest import Nearest, Searchable
from .row_calls import RowCalls

if TYPE_CHECKING:
    from .._typing import Array, ArrayLike, DTypeLike
    from ..io.shared.segment import Segment


class _SegmentRows(Searchable):
    """The rows of one segment, each whole, for a search."""

    def __init__(self, segment: Segment) -> None:
        self._segment, self._rows = segment, segment.rows
        self.num_embeddings, self.embedding_dim = segment.layout.n_rows, segment.layout.n_cols

    def _float_rows(self, first: int, end: int) -> Array:
        rows, ids = np.empty((end - first, self.embedding_dim), self._segment.layout.dtype), np.arange(first, end)
        while not self._rows.gather(ids, rows, "raise"):  # a new generation: this call goes on with the old one
            self._rows = self._segment.looked_at()
        return arithmetic_rows(rows, slice(None))


class AttachedTable(kernels.SingleLookup, RowCalls):
    """A table that another process shares by ``layer.share(name)``, for look-ups without a copy.

    Each row that a call returns is one that was published as a whole, and each call sees what had
    been published before it. When a whole new table is published, the next call changes over to it.
    Nothing is locked, and the process that shares the table may end. An attached table is pickled
    by its name: in another process it is attached again. docs/shared.md has the promises.

    Parameters
    ----------
    name : str or path-like
        The name of the table, or the path of its file.
    num_embeddings, embedding_dim : int, optional
    dtype : {"float32", "float64", "float16", "bfloat16"}, optional
        What V, D and the dtype have to be; by default anything. D and the dtype never change.
    bounds : {"raise", "wrap", "clip", "zero"}
        The meaning of an id outside ``0 <= id < V``, as in `fastembed.gather`.

    Raises
    ------
    FileNotFoundError
        There is no shared table of that name.
    PermissionError
        This user may not read it; or everybody may write it, so that it is not trusted.
    CheckpointError
        The file is not a shared table, or is damaged.
    ValueError, TypeError
        An argument is invalid, or the table has another shape or dtype.

    Examples
    --------
    >>> import os, fastembed as fe
    >>> layer = fe.Embedding.from_pretrained([[1.0, 2.0], [3.0, 4.0]])
    >>> shared = layer.share(f"example-{os.getpid()}")
    >>> table = fe.Embedding.attach(f"example-{os.getpid()}")  # in any process
    >>> table([1])
    array([[3., 4.]])
    >>> layer.set_rows([1], [5.0, 6.0])
    >>> table([1])
    array([[5., 6.]])
    >>> shared.remove()
    """

    _all_rows = "snapshot()"
    _fast_path: bool
    _held: Any

    @memory_errors()
    def __init__(
        self,
        name: str | os.PathLike[str],
        *,
        num_embeddings: int | None = None,
        embedding_dim: int | None = None,
        dtype: DTypeLike | None = None,
        bounds: str = "raise",
    ) -> None:
        from ..io.shared import segment

        self.training = False
        self._open = functools.partial(segment.open_segment, segment.path_of(name))
        self._name, self._bounds = name, _checks.bounds(bounds)
        found = self._open()
        self._n_cols, self._dtype = found.layout.n_cols, found.layout.dtype
        for what, of_table, given in (
            ("num_embeddings", found.layout.n_rows, num_embeddings),
            ("embedding_dim", self._n_cols, embedding_dim),
            ("dtype", self._dtype, dtype),
        ):
            checked = of_table if given is None else _checks.dtype(given) if what == "dtype" else _checks.size(what, given)
            if checked != of_table:
                raise ValueError(f"{what} of the table shared as {_checks.shown(name)} is {of_table}, not {checked}")
        self._take(found)

    def _take(self, segment: Segment | None) -> None:
        """Look rows up in this segment from now on."""
        self._segment = segment
        rows = None if segment is None else segment.rows
        self._fast_path = rows is not None and self._bounds == "raise" and not rows.is_replaced
        self._held = None if rows is None else (rows,)

    @memory_errors()
    def _current(self) -> Segment:
        """The segment that the name stands for; the last one, if the name has been removed."""
        segment = self._segment
        if segment is None:
            raise ValueError(f"the table shared as {_checks.shown(self._name)} is closed")
        if not segment.rows.is_replaced:
            return segment
        try:
            found = self._open()
        except FileNotFoundError:
            return segment
        if (found.layout.n_cols, found.layout.dtype) != (self._n_cols, self._dtype):
            raise ValueError(
                f"the table now shared as {_checks.shown(self._name)} has rows of {found.layout.n_cols} {found.layout.dtype},"
                f" not of {self._n_cols} {self._dtype}: attach it again"
            )
        if found.inode == segment.inode:
            segment.rows, found = segment.looked_at(), segment
        self._take(found)
        return found

    def call(self, ids: ArrayLike, *, out: Array | None = None, out_dtype: DTypeLike | None = None) -> tuple[Array, None]:
        """What a call returns, and None; `SingleLookup` calls this where C cannot answer."""
        to = _checks.result_dtype(out_dtype, self._dtype)
        while True:
            segment = self._current()
            rows = segment.looked_at() if segment.rows.is_replaced else segment.rows
            id_array = _checks.id_array("id", ids, segment.layout.n_rows, self._bounds)
            result = _checks.output(out, (*id_array.shape, self._n_cols), to, table=rows.rows, ids=id_array)
            stored = result if to == self._dtype else np.empty(result.shape, self._dtype)
            if not rows.gather(id_array, stored, self._bounds):
                continue
            if stored is not result:
                assign(result, stored)
            return (result if out is None else out), None

    def snapshot(self, ids: ArrayLike | None = None) -> Array:
        """Rows, or the whole table, copied as of one moment between two publications.

        A call may return rows of which some are from before a step and some from after it; a
        snapshot does not. With a trainer that publishes all the time it asks it to wait, for as
        long as the copy takes.

        Parameters
        ----------
        ids : array_like of integers, shape S, optional
            By default all rows.

        Returns
        -------
        ndarray of shape S + (D,), or (V, D)

        Raises
        ------
        TimeoutError
            The trainer did not wait long enough for a copy of that size.

        Examples
        --------
        >>> import os, fastembed as fe
        >>> layer = fe.Embedding.from_pretrained([[1.0, 2.0], [3.0, 4.0]])
        >>> shared = layer.share(f"snapshot-{os.getpid()}")
        >>> fe.Embedding.attach(f"snapshot-{os.getpid()}").snapshot()
        array([[1., 2.],
               [3., 4.]])
        >>> shared.remove()
        """
        segment = self._current()
        if ids is None:
            everything = np.empty((segment.layout.n_rows, self._n_cols), self._dtype)
            segment.read_at_once(None, everything)
            return everything
        rows = lookup.resolve_ids(ids, segment.layout.n_rows, bounds=self._bounds)
        found = self._rows_at_once(segment, rows.reshape(-1))
        return lookup.gather(*found, bounds="zero").reshape((*rows.shape, self._n_cols))

    @memory_errors()
    def _rows_at_once(self, segment: Segment, rows: Array) -> tuple[Array, Array]:
        """A table of the distinct rows among these (-1: none), of one moment, and ids into it."""
        distinct, inverse = np.unique(rows, return_inverse=True)
        n_missing = int(distinct.size > 0 and distinct[0] < 0)
        table = np.empty((len(distinct) - n_missing, self._n_cols), self._dtype)
        segment.read_at_once(distinct[n_missing:], table)
        places = inverse.reshape(rows.shape)
        places -= n_missing
        return table, places

    def _source(self) -> tuple[Segment, int]:
        segment = self._current()
        return segment, segment.layout.n_rows

    def _look_up_bags(self, source: Segment, bags: bag_ops.Bags, out: Array | None) -> Array:
        """The rows are as of one moment."""
        result = bag_ops.output_for(source.rows.rows, bags, out)
        table, compact_ids = self._rows_at_once(source, bag_ops.rows_of(bags, source.layout.n_rows))
        bag_ops.look_up(table, bags._replace(ids=compact_ids, padding_idx=None, bounds="zero"), result)
        return result if out is None else out

    def _add_pairs(self, source: Segment, pairs: lookup.Pairs) -> None:
        token_rows, position_rows = pairs.rows(source.layout.n_rows)
        table, places = self._rows_at_once(source, token_rows)
        lookup.add_pairs(table, pairs.with_rows(places, position_rows))

    def nearest(self, queries: ArrayLike, k: int | None = None, metric: str = "cosine", **options: Any) -> Nearest:
        """The k rows that are nearest to each query: see `Embedding.nearest`.

        Each row counts as it was at one moment during the call, and the whole call is about one
        generation of the table. Of one moment in all is a search in `snapshot`.

        Parameters
        ----------
        queries, k, metric, **options
            As in `Embedding.nearest`: ``exclude_queries``, ``exclude``, ``bias``.

        Examples
        --------
        >>> import os, fastembed as fe
        >>> layer = fe.Embedding.from_pretrained([[1.0, 0.0], [2.0, 0.1], [0.0, 1.0]])
        >>> shared = layer.share(f"nearest-{os.getpid()}")
        >>> fe.Embedding.attach(f"nearest-{os.getpid()}").nearest(0, 2, exclude_queries=True).ids
        array([1, 2])
        >>> shared.remove()
        """
        return _SegmentRows(self._current()).nearest(queries, k, metric, **options)

    def analogy(self, a: ArrayLike, b: ArrayLike, c: ArrayLike, k: int = 1, metric: str = "cosine", **options: Any) -> Nearest:
        """What is to c as b is to a: see `Embedding.analogy`, and `nearest`."""
        return _SegmentRows(self._current()).analogy(a, b, c, k, metric, **options)

    @property
    def num_embeddings(self) -> int:
        """V, the number of rows."""
        return self._current().layout.n_rows

    @property
    def embedding_dim(self) -> int:
        """D, the length of a row."""
        return self._n_cols

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._dtype

    @property
    def vocabulary(self) -> None:
        """None, not settable: names of rows stay with the process that trains the table."""
        return None

    @vocabulary.setter
    def vocabulary(self, names: Any) -> None:
        raise AttributeError("an AttachedTable has no names of rows: look up fastembed.Vocabulary(names).ids(...)")

    @property
    def generation(self) -> int:
        """How often a whole table had been published under the name."""
        return self._current().layout.generation

    def close(self) -> None:
        """Release the memory; the table is then unusable here."""
        segment = self._segment
        self._take(None)
        if segment is not None:
            segment.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _shown(self) -> list[tuple[str, str]]:
        return [] if self._segment is None else [*super()._shown(), ("generation", str(self.generation))]

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(type(self), bounds=self._bounds), (self._name,)

    def __repr__(self) -> str:
        closed = ", closed" if self._segment is None else ""
        return f"AttachedTable({_checks.shown(self._name)}, {self._n_cols} columns, dtype={self._dtype}{closed})"
