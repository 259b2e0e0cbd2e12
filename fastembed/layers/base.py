"""Layer: the base of layers with a state, resizing, names of rows and look-up counts."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from .. import _checks
from .._kernels.backend import kernels
from .._kernels.floats import own_floats
from .._messages import warn
from ..functional.statistics import LOOKUPS, TableStatistics, table_statistics
from ..tables.lookup_counter import LookupCounter
from ..tables.state_names import DROPOUT_CALLS, IncompatibleKeys, match_names
from ..tables.storage import Storage, check_memory
from ..tables.vocabulary import Vocabulary, as_vocabulary, check_count, mean_row
from .searched import Searched

if TYPE_CHECKING:
    from .._typing import Array, ArrayLike


class Layer(Searched):
    """Named tables with a state, resizing, names of rows and look-up counts."""

    _aliases: ClassVar[dict[str, str]] = {}  # other names of the tables in checkpoints
    _padding_idx: int | None = None

    def __init__(
        self, tables: dict[str, Array], trainable: bool = True, trainable_rows: Any = None, storage: Storage | None = None
    ) -> None:
        super().__init__(tables, trainable, trainable_rows, storage)
        self._vocabulary: Vocabulary | None = None

    # ---- tables ----

    def parameters(self) -> list[Array]:
        """The tables themselves, in the order of `state_dict`, up to date."""
        self.apply_pending()
        return [self.storage.view(table) for table in self.tables.values()]

    def state_dict(self, *, lookups: bool = False) -> dict[str, Array]:
        """The tables by name, up to date; not copied, so that later training changes them.

        ``lookups`` adds the counts of `count_lookups`, as ``weight.lookups`` for ``weight``. A
        layer with dropout adds ``dropout_calls``, the number of calls in train mode so far: a run
        that is resumed with it draws the same dropout masks.
        """
        self.apply_pending()
        state = {name: self.storage.view(table) for name, table in self.tables.items()}
        if _checks.flag("lookups", lookups):
            state |= {name + LOOKUPS: counts for name, counts in self._counter.counts.items()}
        return state | {DROPOUT_CALLS: np.array(self._n_calls)} if self._dropout else state

    @own_floats
    def load_state_dict(self, state: Mapping[str, ArrayLike], strict: bool = True) -> IncompatibleKeys:
        """Copy tables into this layer's.

        Parameters
        ----------
        state : mapping of name to array_like
            Names as in `state_dict`, or as in GPT-2 checkpoints (``wte.weight``), also behind the
            prefixes of wrapped models: ``module.``, ``_orig_mod.``, ``transformer.``, ``model.``.
            Counts of look-ups and the number of calls are optional, ``strict`` or not; with them
            the layer goes on counting from them.
        strict : bool
            Whether a missing or an unexpected name is an error; otherwise such names are ignored.

        Returns
        -------
        IncompatibleKeys
            A pair ``(missing_keys, unexpected_keys)`` of lists of names, as in PyTorch.

        Raises
        ------
        KeyError
            A name is missing, unexpected, or occurs twice. No table is changed.
        ValueError, TypeError
            An array has another shape, or a dtype that does not convert. No table is changed.
        """
        known, counted, calls, left_out = match_names(state, self.tables, self._aliases, _checks.flag("strict", strict))
        n_calls = _checks.size(DROPOUT_CALLS, calls.get(DROPOUT_CALLS, self._n_calls))
        pairs, tables = self._to_load(known), self.tables
        counts = {name: _checks.counts(name + LOOKUPS, value, len(tables[name])) for name, value in counted.items()}
        with self.lock:
            self.apply_pending()
            commit = kernels.Commit()
            for target, source in _checks.sources_for(pairs):
                commit.add_copy(target, source)
            commit.set_attribute(self, "_n_calls", n_calls)
            self._add_loaded(commit, counts)
            commit.run()
            self._choose_path()
            self.storage.end_write()
        return left_out

    def _to_load(self, known: Mapping[str, Any], prefix: str = "") -> list[tuple[Array, Array]]:
        """Each table with the array, checked, that is to be copied into it."""
        convert, tables, dtype = _checks.convertible_array, self.tables, self.dtype
        arrays = {name: convert(prefix + name, value, tables[name].shape, dtype) for name, value in known.items()}
        return [(_checks.writable_table(prefix + name, tables[name]), array) for name, array in arrays.items()]

    def _add_loaded(self, commit: kernels.Commit, counts: dict[str, Array]) -> None:
        """Let a commit that copies into the tables (nothing is pending) set the counts."""
        if counts:
            self._add_counts(commit, self._counter.started(self.tables, counts))
        self.storage.begin_write(None)

    def _add_counts(self, commit: kernels.Commit, counts: dict[str, Array]) -> None:
        """Let a commit set the counts of look-ups; `_choose_path` comes after it."""
        commit.set_attribute(self._counter, "counts", counts)
        commit.set_attribute(self, "_fast_path", False)

    def flush(self) -> None:
        """Apply the pending updates of all rows.

        A mapped table is then written to its file, atomically (docs/mapped.md).
        """
        with self.lock:
            self.apply_pending()
            self.storage.end_write()  # of a call that was interrupted behind its commit
            self.storage.flush()

    # ---- size and names ----

    @own_floats
    def resize(self, n: int, *, table: str | None = None, new_rows: ArrayLike | None = None) -> None:
        """Give a table ``n`` rows. Rows that remain keep their values and their optimiser state.

        The table becomes a new array. Accumulated gradients and names of removed rows are dropped,
        and so are the ids of the last call. A table whose rows have names grows by `add_tokens`.
        A mapped table becomes a new file, which includes a flush. If that fails, the layer has its
        new size, and the next flush writes the file.

        Parameters
        ----------
        n : int
        table : str, optional
            Its name, as in `state_dict`; by default the first.
        new_rows : array_like, broadcast to (n - V, D)
            The values of added rows; by default zeros.

        Raises
        ------
        KeyError, ValueError, TypeError
            There is no such table, or the rows have an invalid shape or dtype. Nothing is changed.

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
        name = self._table_name(table)
        n = _checks.size("n", n)
        with self.lock:
            vocabulary = self._vocabulary
            if vocabulary is not None and name == next(iter(self.tables)):
                vocabulary = vocabulary.first(n)
            self._resize(name, n, new_rows, vocabulary)

    def _resize(self, name: str, n: int, new_rows: ArrayLike | None, vocabulary: Vocabulary | None) -> None:
        """Resize a table, set the vocabulary, flush; an error before the flush changes nothing."""
        self.apply_pending()
        old = self.tables[name]
        check_memory((n, old.shape[1]), self.dtype)
        shape = max(n - len(old), 0), old.shape[1]
        added = _checks.rows("new_rows", 0.0 if new_rows is None else new_rows, shape, self.dtype, broadcast=True)
        commit = kernels.Commit()
        commit.set_attribute(self, "_grads", self._grads | {name: self._grads[name].resized(n)})
        commit.set_attribute(self._counter, "counts", self._counter.resized(name, n))
        commit.set_attribute(self, "_lazy_tables", {})
        commit.set_attribute(self, "_vocabulary", vocabulary)
        commit.set_attribute(self, "_last_ids", None)
        new, states = self.storage.resized(commit, old, n, None if new_rows is None else added)
        self._add_tables(commit, self.tables | {name: new})
        for optimizer in self.optimizers:
            optimizer.add_resized(commit, self, name, n, states)
        commit.run()
        self.storage.end_write()
        self.storage.flush()

    def _add_tables(self, commit: kernels.Commit, tables: dict[str, Array]) -> None:
        """Let a commit put other arrays in the place of the tables."""
        commit.set_attribute(self, "tables", tables)
        commit.set_attribute(self, "_held", kernels.hold(*self._fast_tables(tables)))

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The names of the rows of the first table, distinct strings, or None; settable.

        Names that a mapped table gets are in memory alone, with a UserWarning if it is trained.
        """
        return self._vocabulary

    @vocabulary.setter
    def vocabulary(self, names: Iterable[str] | None) -> None:
        self._set_vocabulary(names, is_new=True)

    def _set_vocabulary(self, names: Iterable[str] | None, *, is_new: bool = False) -> None:
        """Set the names of the first table's rows; new ones come from the user, not its file."""
        made = as_vocabulary(names)
        with self.lock:
            check_count(made, len(self._first_table()))
            if is_new and made is not None and made != self._vocabulary:
                self._warn_of_names()
            self._vocabulary = made

    def _warn_of_names(self) -> None:
        """Warn that new names come into no file."""
        if self.storage.loses_names:
            text = "names of rows do not come into the file of a mapped table: save() or save_vectors() writes them to another"
            warn(text)

    @own_floats
    def add_tokens(self, names: Iterable[str] | str, init: ArrayLike = "mean") -> Array:
        """Add named rows at the end of the first table; other rows keep values and optimiser state.

        Parameters
        ----------
        names : str, or iterable of str
            New names. A layer with rows needs a ``vocabulary`` first.
        init : "mean", or array_like, broadcast to (number of names, D)
            The values of the new rows: by default the mean of all old rows except the padding row,
            summed in float64 in their order and rounded to the table's dtype (for half precision
            via float32); zeros if there are no old rows.

        Returns
        -------
        ndarray of int64
            The ids of the new rows.

        Raises
        ------
        ValueError, TypeError
            A name exists already, occurs twice or is not a string; the rows have no names; or
            ``init`` has an invalid shape or dtype. Nothing is changed.

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
                if init != "mean":
                    raise ValueError(f'init must be "mean", a number or rows, got {_checks.shown(init)}')
                init = mean_row(table, self._padding_idx)
            rows = _checks.rows("init", init, (len(new), table.shape[1]), self.dtype, broadcast=True)
            if new:
                self._warn_of_names()
                self._resize(name, len(grown), rows, grown)
            return np.arange(len(table), len(table) + len(new))

    # ---- counts ----

    def count_lookups(self, on: bool = True) -> Self:
        """Start to count from 0 how often each row is looked up; or stop, and drop the counts.

        Every row that a call reads for its result is counted at each occurrence of its id; padding
        (by lengths, a mask, or the padding row of a bag) is not; a hashed id counts for each of its
        four rows. A call that raises counts nothing, nor does `backward`. While a layer counts,
        its calls run one at a time, so that counts are exact with any number of threads.

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
            commit = kernels.Commit()
            self._add_counts(commit, self._counter.started(self.tables) if is_on else {})
            commit.run()
            self._choose_path()
        return self

    def lookup_counts(self) -> dict[str, Array]:
        """How often each row was looked up, int64 by table, copied; empty if counting is off."""
        with self.lock:
            return {name: counts.copy() for name, counts in self._counter.counts.items()}

    def statistics(self) -> dict[str, TableStatistics]:
        """`fastembed.table_statistics` of each table, up to date, with its counts of look-ups."""
        with self.lock:
            self.apply_pending()
            return {name: table_statistics(table, self._counter.counts.get(name)) for name, table in self.tables.items()}

    # ---- notebooks ----

    def _repr_html_(self) -> str:
        from .._interactive import html  # notebooks alone need it

        named = {} if self._vocabulary is None else {"names": f"{len(self._vocabulary):,} rows"}
        return html.tables_of(repr(self), self.tables, named)

    # ---- copies ----

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        with self.lock:  # until all is copied: another thread's step does not come between two arrays
            restored, (cls, state, training) = self.__reduce__()
            return restored(cls, copy.deepcopy(state, memo), training)

    def __reduce__(self) -> tuple[Any, ...]:
        self.storage.check_can_copy()
        self.apply_pending()
        of_last_call = ("_last_ids", "_hidden")
        state = {name: value for name, value in self.__getstate__().items() if name not in of_last_call}
        return _restore, (type(self), state, self.training)


def _restore(cls: type[Layer], state: dict[str, Any], training: bool) -> Layer:
    """A layer from its state in a copy or pickle, which lacks the arguments of the last call."""
    layer = cls.__new__(cls)
    layer.__dict__.update(state)
    Layer.__init__(layer, state["tables"], state["trainable"], state["trainable_rows"])
    layer._grads = dict(state["_grads"])
    layer._n_calls = state["_n_calls"]
    layer._vocabulary = state["_vocabulary"]
    layer._counter = LookupCounter(state["_counter"].counts)
    layer._choose_path()
    return layer.train(training)
