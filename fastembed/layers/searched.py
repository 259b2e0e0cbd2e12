"""Searched: layers whose tables are searched, with and without an index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import _checks
from .._kernels.floats import own_floats
from ..functional import lookup
from ..functional.search.index import SearchIndex
from ..functional.search.nearest import Nearest, TableRows
from ..tables.vocabulary import Vocabulary, has_name, ids_of_names
from .differentiable import Differentiable

if TYPE_CHECKING:
    from .._typing import Array, ArrayLike


class Searched(Differentiable):
    """The rows of its tables that are nearest to others, and single ones by their names."""

    _vocabulary: Vocabulary | None = None

    def _table_name(self, table: str | None) -> str:
        """The given table name, checked; by default that of the first table."""
        name = next(iter(self.tables)) if table is None else table
        if not isinstance(name, str) or name not in self.tables:
            raise KeyError(f"table must be one of {list(self.tables)}, got {_checks.shown(table)}")
        return name

    def nearest(
        self,
        queries: ArrayLike,
        k: int | None = None,
        metric: str = "cosine",
        *,
        table: str | None = None,
        exclude_queries: bool = False,
        exclude: ArrayLike | None = None,
        bias: ArrayLike | None = None,
        index: SearchIndex | None = None,
    ) -> Nearest:
        """The k rows nearest to each query, the nearest first; the search is exact.

        Parameters
        ----------
        queries : array_like of integers or names, shape S, or of floats, shape S + (D,)
            Ids or names of rows of the table, or vectors.
        k : int, optional
            At most the number of rows that are not excluded; by default 10, or all of them.
        metric : {"cosine", "dot", "l2"}
            The cosine of two vectors (0 if one has length 0) or their dot product, the largest
            first; or their Euclidean distance, the smallest first.
        table : str, optional
            Its name, as in `state_dict`; by default the first.
        exclude_queries : bool
            Whether the row of each query, given by its id, is excluded from its own result.
        exclude : array_like of integers or names, shape (n,) or S + (n,), optional
            Rows that are in no result, or not in that of their query: what a user has seen. For S
            of one axis also a list for each query, of any lengths.
        bias : array_like of shape (V,), optional
            With the metric "dot": what is added to the score of each row, as the product of one
            column more with 1.
        index : SearchIndex, optional
            That of the table, from `build_index`: the same result, sooner. Not with ``bias``.

        Returns
        -------
        Nearest
            A pair ``(ids, scores)``, int64 and float64 of shape S + (k,), whose attribute ``names``
            has the names of the rows, if they have some. Of equal scores the lower row comes first;
            rows with a score of NaN come last.

        Raises
        ------
        IndexError, KeyError, TypeError, ValueError
            An id is out of range, there is no such table, a query is not finite, or another
            argument is invalid.
        RuntimeError
            A row was written since the index was built, and not by the layer.

        Examples
        --------
        >>> import fastembed as fe
        >>> layer = fe.Embedding.from_pretrained([[1.0, 0.0], [2.0, 0.1], [0.0, 1.0]])
        >>> layer.nearest(0, 2, exclude_queries=True).ids
        array([1, 2])
        >>> ids, scores = layer.nearest([[3.0, 4.0]], 2)
        >>> ids, scores.round(2)
        (array([[2, 1]]), array([[0.8 , 0.64]]))
        >>> layer.vocabulary = ["king", "queen", "tree"]
        >>> layer.nearest("king", 1, exclude_queries=True).names
        ['queen']
        """
        if bias is not None and index is not None:
            raise ValueError("bias and index exclude each other, got both")
        with self.lock:
            ids = ids_of_names("queries", queries, self._names_of(table))
            out = exclude if exclude is None else ids_of_names("exclude", exclude, self._names_of(table))
            found = self._searchable(table, index).nearest(
                ids, k, metric, exclude_queries=exclude_queries, exclude=out, bias=bias
            )
            return self._named(found, table)

    def _names_of(self, table: str | None) -> Vocabulary | None:
        """The names of the rows of a table, which only the first may have."""
        return self._vocabulary if self._table_name(table) == self._table_name(None) else None

    def _named(self, found: Nearest, table: str | None) -> Nearest:
        """What was found, with names if the rows of the table have some."""
        names = self._names_of(table)
        return found if names is None else found.with_names(names.names)

    @own_floats
    def __getitem__(self, rows: Any) -> Array:
        """Rows of the first table, by ids or names: a copy, of any shape of ids.

        Examples
        --------
        >>> import fastembed as fe
        >>> layer = fe.Embedding.from_pretrained([[1.0, 2.0], [3.0, 4.0]])
        >>> layer.vocabulary = ["a", "b"]
        >>> layer["b"], layer[[0, 1]].shape
        (array([3., 4.]), (2, 2))
        """
        with self.lock:
            ids = ids_of_names("rows", rows, self._vocabulary)
            self.apply_pending()
            self.storage.check_open()
            return lookup.gather(self.tables[self._table_name(None)], ids)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """TypeError: only a layer with one table is an array."""
        first = next(iter(self.tables))
        raise TypeError(f"a {type(self).__name__} is several arrays, {', '.join(self.tables)}: layer.{first} is one of them")

    def __contains__(self, name: object) -> bool:
        """Whether a row of the first table has that name."""
        return has_name(self._vocabulary, name)

    def analogy(
        self,
        a: ArrayLike,
        b: ArrayLike,
        c: ArrayLike,
        k: int = 1,
        metric: str = "cosine",
        *,
        table: str | None = None,
        exclude_queries: bool = True,
        index: SearchIndex | None = None,
    ) -> Nearest:
        """The rows that are to c as b is to a: the k nearest to ``b - a + c``, except these three.

        Parameters
        ----------
        a, b, c : array_like of integers or names, broadcast to one shape S
            Ids or names of rows of the table.
        k, metric, table, index
            As in `nearest`.
        exclude_queries : bool
            Whether the three rows themselves are excluded.

        Returns
        -------
        Nearest
            As from `nearest`.

        Examples
        --------
        >>> import fastembed as fe
        >>> layer = fe.Embedding.from_pretrained([[1.0, 0.0], [1.0, 1.0], [3.0, 0.0], [3.0, 1.1]])
        >>> layer.analogy(0, 1, 2).ids
        array([3])
        """
        with self.lock:
            a, b, c = (ids_of_names(name, ids, self._names_of(table)) for name, ids in (("a", a), ("b", b), ("c", c)))
            found = self._searchable(table, index).analogy(a, b, c, k, metric, exclude_queries=exclude_queries)
            return self._named(found, table)

    def build_index(self, table: str | None = None) -> SearchIndex:
        """An index of a table for `nearest` and `analogy`: its rows in 8 bits, and their lengths.

        A search with it finds the same ids and scores, to the bit, and reads a quarter of the
        bytes. Rows that the layer writes later (steps, `load_state_dict`, `resize` ...) are
        converted again by the next search. A write through an array that you hold
        (``layer.weight[3] = 0``) is not seen: call ``index.rebuild()`` after it. A search that
        comes upon such a row, because it is near enough to be scored, is a RuntimeError.

        Parameters
        ----------
        table : str, optional
            Its name, as in `state_dict`; by default the first.

        Raises
        ------
        KeyError
            There is no such table.

        Examples
        --------
        >>> import fastembed as fe
        >>> layer = fe.Embedding(1000, 16, rng=0)
        >>> index = layer.build_index()
        >>> layer.nearest(7, 3, index=index).ids[0]
        np.int64(7)
        """
        name = self._table_name(table)
        with self.lock:
            index = SearchIndex(self, name)
            self.storage.watch(index)
            self._searchable(name, index)
        return index

    def _searchable(self, table: str | None, index: SearchIndex | None) -> TableRows:
        """A table for a search, and its index, up to date as long as the lock is held."""
        name = self._table_name(table)
        if index is not None and not (isinstance(index, SearchIndex) and index.is_of(self, name)):
            raise ValueError(f"index must be one that build_index of this layer made of {name}, got {_checks.shown(index)}")
        self.apply_pending()
        return TableRows(self.tables[name], index)
