"""Layer: what embedding layers share. The state and the size of their tables, names of rows, search, counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from .. import _checks
from ..functional.search import Nearest, TableRows
from ..functional.statistics import LOOKUPS, TableStatistics, table_statistics
from ..tables.lookup_counter import LookupCounter
from ..tables.storage import MEMORY, Storage
from .differentiable import Differentiable
from .vocabulary import Vocabulary, mean_row

if TYPE_CHECKING:
    from .._typing import Array, ArrayLike

_CALLS = "dropout_calls"  # in states


class Layer(Differentiable):
    """Tables by name, with their state, their size, names of their rows, search and counts."""

    _aliases: ClassVar[dict[str, str]] = {}  # other names of the tables in checkpoints
    _padding_idx: int | None = None

    def __init__(
        self, tables: dict[str, Array], trainable: bool = True, trainable_rows: Any = None, storage: Storage = MEMORY
    ) -> None:
        super().__init__(tables, trainable, trainable_rows, storage)
        self._vocabulary: Vocabulary | None = None

    # ---- tables ----

    def _name_of(self, table: str | None) -> str:
        """The name of a table, by default of the first."""
        name = next(iter(self.tables)) if table is None else table
        if not isinstance(name, str) or name not in self.tables:
            raise KeyError(f"table must be one of {list(self.tables)}, got {table!r}")
        return name

    def parameters(self) -> list[Array]:
        """The tables themselves, in the order of `state_dict`, up to date."""
        self.apply_pending()
        return [self.storage.view(table) for table in self.tables.values()]

    def state_dict(self, *, lookups: bool = False) -> dict[str, Array]:
        """The tables themselves by name, up to date: later training shows in them. Copy them to keep a state.

        With ``lookups`` what `count_lookups` has counted is among them, as ``weight.lookups`` for
        ``weight``. With dropout so is the number of calls in train mode so far,
        ``dropout_calls``: a run that is resumed with it drops what this one would.
        """
        self.apply_pending()
        state = {name: self.storage.view(table) for name, table in self.tables.items()}
        if _checks.flag("lookups", lookups):
            state |= {name + LOOKUPS: counts for name, counts in self._counter.counts.items()}
        return state | {_CALLS: np.array(self._n_calls)} if self._dropout else state

    def load_state_dict(self, state: Mapping[str, ArrayLike], strict: bool = True) -> None:
        """Copy tables into this layer's.

        Parameters
        ----------
        state : mapping of name to array_like
            Names as in `state_dict`, or as in GPT-2 checkpoints (``wte.weight``,
            ``transformer.wte.weight``). Counts of look-ups and the number of calls need not be
            there, ``strict`` or not; if they are, the layer goes on counting from them.
        strict : bool
            Whether a missing or an unexpected name is an error; otherwise such names are ignored.

        Raises
        ------
        KeyError
            A name is missing, unexpected, or there twice. No table is changed.
        ValueError, TypeError
            An array has another shape, or a dtype that does not convert. No table is changed.
        """
        known, counted = self._named(state, strict)
        n_calls = _checks.size(_CALLS, state.get(_CALLS, self._n_calls))
        arrays = {name: _checks.like(name, value, self.tables[name].shape, self.dtype) for name, value in known.items()}
        counts = {name: _checks.counts(name + LOOKUPS, value, len(self.tables[name])) for name, value in counted.items()}
        pairs = [(_checks.writable_table(name, self.tables[name]), array) for name, array in arrays.items()]
        with self.lock:
            self.apply_pending()
            self.storage.begin_write(None)
            _checks.copy_into(pairs)
            self._n_calls = n_calls
            if counts:
                self._counter.start(self.tables, counts)
                self._choose_path()

    def _named(self, state: Mapping[str, ArrayLike], strict: bool) -> tuple[dict[str, Any], dict[str, Any]]:
        """What a state has for the tables, and for the counts of their look-ups, by the name of the table."""
        if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
            raise TypeError(f"state must be a mapping of names to arrays, got {type(state).__name__}")
        known: dict[str, Any] = {}
        counted: dict[str, Any] = {}
        unexpected = []
        for key, value in state.items():
            plain = key.removeprefix("transformer.").removesuffix(LOOKUPS)
            name, found = self._aliases.get(plain, plain), counted if key.endswith(LOOKUPS) else known
            if key == _CALLS:
                continue
            if name not in self.tables:
                unexpected.append(key)
            elif name in found:
                raise KeyError(f"{name} is there twice in {sorted(state)}")
            else:
                found[name] = value
        missing = [name for name in self.tables if name not in known]
        if _checks.flag("strict", strict) and (missing or unexpected):
            raise KeyError(f"missing names {missing}, unexpected names {unexpected}; expected {list(self.tables)}")
        return known, counted

    def flush(self) -> None:
        """Bring all rows up to date: each takes its pending updates.

        What a mapped table has learned is then written into its file, wholly or not at all
        (docs/mapped.md).
        """
        with self.lock:
            self.apply_pending()
            self.storage.flush()

    # ---- size and names ----

    def resize(self, n: int, *, table: str | None = None, new_rows: ArrayLike | None = None) -> None:
        """Give a table ``n`` rows. Rows that remain keep their values, and what every optimiser knows of them.

        The table becomes another array; accumulated gradients of rows that are gone are dropped,
        and so are their names; the ids of the last call are forgotten. A table whose rows have
        names grows by `add_tokens`. A mapped table becomes another file, and is flushed with that.

        Parameters
        ----------
        n : int
        table : str, optional
            Its name, as in `state_dict`; by default the first.
        new_rows : array_like, broadcast to (n - V, D)
            What rows that are added hold; by default zeros.

        Raises
        ------
        KeyError, ValueError, TypeError
            There is no such table, or the rows do not fit. Nothing is changed.

        Examples
        --------
        >>> import fastembed as fe
        >>> layer = fe.Embedding.from_pretrained([[1.0, 2.0]])
        >>> layer.resize(3, new_rows=[5.0, 6.0])
        >>> layer.weight
        array([[1., 2.],
               [5., 6.],
               [5., 6.]])
        """
        name = self._name_of(table)
        n = _checks.size("n", n)
        with self.lock:
            vocabulary = self._vocabulary
            if vocabulary is not None and name == next(iter(self.tables)):
                vocabulary = vocabulary.first(n)
            self._resize(name, n, new_rows, vocabulary)

    def _resize(self, name: str, n: int, new_rows: ArrayLike | None, vocabulary: Vocabulary | None) -> None:
        """Give a table ``n`` rows, and the layer a vocabulary; all or nothing."""
        self.apply_pending()
        old = self.tables[name]
        shape = max(n - len(old), 0), old.shape[1]
        added = _checks.rows("new_rows", 0.0 if new_rows is None else new_rows, shape, self.dtype, broadcast=True)
        new = self.storage.resized(old, n, None if new_rows is None else added)
        puts = [optimizer.resized(self, name, n) for optimizer in self.optimizers]
        self._grads[name] = self._grads[name].resized(n)
        self._counter.resize(name, n)
        self.tables[name] = new
        self._hold(*self.tables.values())
        self._last_ids = None
        self._lazy_tables = {}
        self._vocabulary = vocabulary
        for put in puts:
            put()

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The names of the rows of the first table, or None; set it to as many distinct strings as there are rows."""
        return self._vocabulary

    @vocabulary.setter
    def vocabulary(self, names: Iterable[str] | None) -> None:
        made = names if names is None or isinstance(names, Vocabulary) else Vocabulary(names)
        with self.lock:
            n_rows = len(self._first_table())
            if made is not None and len(made) != n_rows:
                raise ValueError(f"vocabulary must have a name for each of the {n_rows} rows, got {len(made)}")
            self._vocabulary = made

    def add_tokens(self, names: Iterable[str] | str, init: ArrayLike = "mean") -> Array:
        """Add named rows at the end of the first table. The other rows keep their values, and what every optimiser knows of them.

        Parameters
        ----------
        names : str, or iterable of str
            New ones. A layer whose rows have no names yet needs a ``vocabulary`` first, unless it
            has no rows.
        init : "mean", or array_like, broadcast to (number of names, D)
            What the new rows hold: by default the mean of all old rows but the padding row, summed
            in float64 in their order and rounded to the table's dtype (of half precision: to
            float32 first); zeros where there are none.

        Returns
        -------
        ndarray of int64
            The ids of the new rows.

        Raises
        ------
        ValueError, TypeError
            A name is there already, is given twice or is no string; the rows have no names; or
            ``init`` does not fit. Nothing is changed.

        Examples
        --------
        >>> import fastembed as fe
        >>> layer = fe.Embedding.from_pretrained([[1.0, 2.0], [3.0, 6.0]])
        >>> layer.vocabulary = ["a", "b"]
        >>> layer.add_tokens(["c", "d"])
        array([2, 3])
        >>> layer(layer.vocabulary.ids(["b", "d"]))
        array([[3., 6.],
               [2., 4.]])
        """
        new = _checks.distinct_names("names", [names] if isinstance(names, str) else names)
        with self.lock:
            self.apply_pending()
            name, table = next(iter(self.tables.items()))
            if self._vocabulary is None and len(table):
                raise ValueError(f"the {len(table)} rows have no names: set vocabulary to theirs before tokens are added")
            grown = (self._vocabulary or Vocabulary()).extended(new)
            if isinstance(init, str):
                _checks.one_of("init", init, ("mean",))
                init = mean_row(table, self._padding_idx)
            rows = _checks.rows("init", init, (len(new), table.shape[1]), self.dtype, broadcast=True)
            if new:
                self._resize(name, len(grown), rows, grown)
            return np.arange(len(table), len(table) + len(new))

    # ---- search ----

    def nearest(
        self, queries: ArrayLike, k: int = 10, metric: str = "cosine", *, table: str | None = None, exclude_queries: bool = False
    ) -> Nearest:
        """The k rows that are nearest to each query, the nearest first; exact.

        Parameters
        ----------
        queries : array_like of integers, shape S, or of floats, shape S + (D,)
            Ids of rows of the table, or vectors.
        k : int
            At most the number of rows that are not left out.
        metric : {"cosine", "dot", "l2"}
            The cosine of two vectors (0 where one has length 0) or their product, the largest
            first; or their distance.
        table : str, optional
            Its name, as in `state_dict`; by default the first.
        exclude_queries : bool
            Whether the row of each query, given by its id, is left out of what is found for it.

        Returns
        -------
        Nearest
            A pair ``(ids, scores)``, int64 and float64 of shape S + (k,). Of equal scores the
            lower row comes first; rows with a score of NaN come last.

        Raises
        ------
        IndexError, KeyError, TypeError, ValueError
            An id is out of range, there is no such table, a query is not finite, or another
            argument does not fit.

        Examples
        --------
        >>> import fastembed as fe
        >>> layer = fe.Embedding.from_pretrained([[1.0, 0.0], [2.0, 0.1], [0.0, 1.0]])
        >>> layer.nearest(0, 2, exclude_queries=True).ids
        array([1, 2])
        >>> ids, scores = layer.nearest([[3.0, 4.0]], 2)
        >>> ids, scores.round(2)
        (array([[2, 1]]), array([[0.8 , 0.64]]))
        """
        with self.lock:
            return self._searchable(table).nearest(queries, k, metric, exclude_queries=exclude_queries)

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
    ) -> Nearest:
        """What is to c as b is to a: the k rows that are nearest to ``b - a + c``, without these three.

        Parameters
        ----------
        a, b, c : array_like of integers, broadcast to one shape S
            Ids of rows of the table.
        k, metric, table
            As in `nearest`.
        exclude_queries : bool
            Whether the three rows themselves are left out.

        Returns
        -------
        Nearest
            As of `nearest`.

        Examples
        --------
        >>> import fastembed as fe
        >>> layer = fe.Embedding.from_pretrained([[1.0, 0.0], [1.0, 1.0], [3.0, 0.0], [3.0, 1.1]])
        >>> layer.analogy(0, 1, 2).ids
        array([3])
        """
        with self.lock:
            return self._searchable(table).analogy(a, b, c, k, metric, exclude_queries=exclude_queries)

    def _searchable(self, table: str | None) -> TableRows:
        """A table, up to date for as long as the lock is held."""
        name = self._name_of(table)
        self.apply_pending()
        return TableRows(self.tables[name])

    # ---- counts ----

    def count_lookups(self, on: bool = True) -> Self:
        """Count from now on how often each row is looked up, from 0; or no more, which forgets the counts.

        What counts is what a call reads for its result: every occurrence of an id; nothing at
        places that lengths, a mask or the padding of a bag leave out; of a hashed id each of its
        four rows. A call that raises counts nothing, nor does `backward`. While a layer counts,
        its calls take turns, so that counts are exact with any number of threads.

        Examples
        --------
        >>> import fastembed as fe
        >>> layer = fe.Embedding(4, 2, rng=0).count_lookups()
        >>> x = layer([[3, 1], [3, 3]])
        >>> layer.lookup_counts()["weight"]
        array([0, 1, 0, 3])
        """
        is_on = _checks.flag("on", on)
        with self.lock:
            if is_on:
                self._counter.start(self.tables)
            else:
                self._counter.stop()
            self._choose_path()
        return self

    def lookup_counts(self) -> dict[str, Array]:
        """How often each row of each table was looked up so far, int64 of shape (V,), copied; empty if nobody counts."""
        with self.lock:
            return {name: counts.copy() for name, counts in self._counter.counts.items()}

    def statistics(self) -> dict[str, TableStatistics]:
        """What `fastembed.table_statistics` says of each table, up to date, and of what `count_lookups` has counted."""
        with self.lock:
            self.apply_pending()
            return {name: table_statistics(table, self._counter.counts.get(name)) for name, table in self.tables.items()}

    # ---- copies ----

    def __reduce__(self) -> tuple[Any, ...]:
        self.storage.check_can_copy()
        self.apply_pending()
        own = ("lock", "_lazy_tables", "optimizers", "_last_ids", "_hidden")  # what a copy has of its own, or not at all
        return _restored, (type(self), {name: value for name, value in self.__dict__.items() if name not in own}, self.training)


def _restored(cls: type[Layer], state: dict[str, Any], training: bool) -> Layer:
    """A layer from what `copy` or `pickle` kept of it: everything but the arguments of the last calls."""
    layer = cls.__new__(cls)
    layer.__dict__.update(state)
    Layer.__init__(layer, state["tables"], state["trainable"], state["trainable_rows"])
    layer._grads = dict(state["_grads"])
    layer._vocabulary = state["_vocabulary"]
    layer._counter = LookupCounter(state["_counter"].counts)
    layer._choose_path()
    return layer.train(training)
