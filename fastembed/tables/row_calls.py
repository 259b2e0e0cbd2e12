"""RowTable, tables that give rows; RowCalls and NamedRows, what those that only do that share.

D: columns; S: the shape of the ids; B: bags.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from .. import _checks
from .._interactive.completion import without_internals
from ..functional import bags as bag_ops
from ..functional import lookup
from ..functional.search.nearest import Nearest, Searchable
from .attribute import Declared
from .vocabulary import Vocabulary, as_vocabulary, check_count, has_name, ids_of_names

if TYPE_CHECKING:
    import numpy as np

    from .._typing import Array, ArrayLike


class RowTable(Protocol):
    """A table that gives rows as floats, such as `fastembed.QuantizedEmbedding`."""

    @property
    def num_embeddings(self) -> int: ...

    @property
    def embedding_dim(self) -> int: ...

    def __call__(self, ids: ArrayLike, *, out: Array | None = None) -> Array: ...


class RowCalls(Declared):
    """What `NamedRows` and `AttachedTable` inherit."""

    _dtype: np.dtype[Any]
    _bounds: str = "raise"
    _all_rows: ClassVar[str] = "a call with all ids"  # what returns them, for errors

    @property
    @abstractmethod
    def num_embeddings(self) -> int:
        """V, the number of rows."""

    @property
    @abstractmethod
    def embedding_dim(self) -> int:
        """D, the number of elements of a row."""

    def __dir__(self) -> list[str]:
        return without_internals(super().__dir__(), ("call", "output", "rows_in_place", "training"))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """TypeError: no array holds these rows as they are."""
        raise TypeError(f"no array holds the rows of this {type(self).__name__}: {self._all_rows} returns one with all of them")

    def _repr_html_(self) -> str:
        from .._interactive import html  # notebooks alone need it

        return html.table(repr(self), self._shown())

    def _shown(self) -> list[tuple[str, str]]:
        """What notebooks show below the repr: lines of a name and a text."""
        return [("shape", f"{self.num_embeddings:,} x {self.embedding_dim:,}")]

    def _source(self) -> tuple[Any, int]:
        """What one call looks its rows up in, and how many rows that has: the table itself."""
        return self, self.num_embeddings

    @abstractmethod
    def _look_up_bags(self, source: Any, bags: bag_ops.Bags, out: Array | None) -> Array:
        """One row of a `_source` for each of these bags, in ``out`` if it is given."""

    @abstractmethod
    def _add_pairs(self, source: Any, pairs: lookup.Pairs) -> None:
        """Write rows of a `_source` plus rows of another table into the result."""

    def _arrays_read(self) -> dict[str, Any]:
        """The arrays of the table that a result must not overlap, by what they are called."""
        return {}

    def bag(
        self,
        ids: ArrayLike,
        offsets: ArrayLike | None = None,
        *,
        mode: str = "mean",
        per_sample_weights: ArrayLike | None = None,
        padding_idx: int | None = None,
        include_last_offset: bool = False,
        lengths: ArrayLike | None = None,
        out: Array | None = None,
        bounds: str | None = None,
    ) -> Array:
        """One row for each bag of ids, shape (B, D). See `fastembed.embedding_bag`, and a call.

        ``bounds`` is by default that of the table, which is "raise" unless it was made with one.
        """
        of_bounds = self._bounds if bounds is None else bounds
        if lengths is None:
            result = self._bags_at_once(of_bounds, ids, offsets, per_sample_weights, mode, padding_idx, include_last_offset, out)
            if result is not None:
                return result
        source, n_rows = self._source()
        bags = bag_ops.check_bags(
            ids,
            offsets,
            per_sample_weights,
            n_rows=n_rows,
            dtype=_checks.arithmetic_dtype(self._dtype),
            mode=mode,
            padding_idx=padding_idx,
            include_last_offset=include_last_offset,
            bounds=of_bounds,
            lengths=lengths,
        )
        return self._look_up_bags(source, bags, out)

    def _bags_at_once(self, *arguments: Any) -> Array | None:
        """The result for bags that need no checks in Python, where C reads the table; else None."""
        return None

    def gather_add(
        self,
        token_ids: ArrayLike,
        wpe: ArrayLike,
        position_ids: ArrayLike | None = None,
        *,
        start: int = 0,
        out: Array | None = None,
        bounds: str | None = None,
    ) -> Array:
        """Rows of ``token_ids`` plus rows of a float table ``wpe``, shape S + (D,).

        See `fastembed.gather_add`; ``bounds`` is as in `bag`.
        """
        source, n_rows = self._source()
        of_bounds, shape = self._bounds if bounds is None else bounds, (n_rows, self.embedding_dim)
        read = self._arrays_read()
        pairs = lookup.check_pairs(shape, self._dtype, token_ids, wpe, position_ids, start, out, of_bounds, **read)
        self._add_pairs(source, pairs)
        return pairs.result if out is None else out


class NamedRows(RowCalls, Searchable):
    """What `PackedRows` and `DiskTable` inherit: names of rows, in the place of ids."""

    _vocabulary: Vocabulary | None = None

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The names of the rows, distinct strings, or None; settable."""
        return self._vocabulary

    @vocabulary.setter
    def vocabulary(self, names: Iterable[str] | None) -> None:
        made = as_vocabulary(names)
        check_count(made, self.num_embeddings)
        self._vocabulary = made

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """The bytes of all rows."""

    @abstractmethod
    def __call__(self, ids: ArrayLike, *, out: Array | None = None, bounds: str = "raise") -> Array:
        """The rows of ids, shape S + (D,)."""

    @abstractmethod
    def _float_rows(self, first: int, end: int) -> Array:
        """Rows for a search, as in `fastembed.search.Rows`."""

    def _shown(self) -> list[tuple[str, str]]:
        from .._interactive import html  # notebooks alone need it

        named = [] if self._vocabulary is None else [("names", f"{len(self._vocabulary):,} rows")]
        return [*super()._shown(), ("size", html.size(self.nbytes)), *named]

    def __getitem__(self, rows: Any) -> Array:
        """Rows by ids or names, of any shape; as a call."""
        return self(ids_of_names("rows", rows, self._vocabulary))

    def __contains__(self, name: object) -> bool:
        """Whether a row has that name."""
        return has_name(self._vocabulary, name)

    def _ids_of(self, name: str, given: Any) -> Any:
        return ids_of_names(name, given, self._vocabulary)

    def _named(self, found: Nearest) -> Nearest:
        return found if self._vocabulary is None else found.with_names(self._vocabulary.names)
