"""RowTable, tables that give rows; RowCalls: `bag` and `gather_add` of those that only do that.

D: columns; S: the shape of the ids; B: bags.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Protocol

from .. import _checks
from ..functional import bags as bag_ops
from ..functional import lookup
from .attribute import Declared

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
    """What `PackedRows`, `DiskTable` and `AttachedTable` inherit."""

    _dtype: np.dtype[Any]
    _bounds: str = "raise"

    @property
    @abstractmethod
    def num_embeddings(self) -> int:
        """V, the number of rows."""

    @property
    @abstractmethod
    def embedding_dim(self) -> int:
        """D, the number of elements of a row."""

    @property
    def vocabulary(self) -> None:
        """None, not settable: these tables have no names of rows, which a `Vocabulary` has."""
        return None

    @vocabulary.setter
    def vocabulary(self, names: Any) -> None:
        where = "look up fastembed.Vocabulary(names).ids(...), or set the vocabulary of a layer of floats"
        raise AttributeError(f"a {type(self).__name__} has no names of rows: {where}")

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
        out: Array | None = None,
        bounds: str | None = None,
    ) -> Array:
        """One row for each bag of ids, shape (B, D). See `fastembed.embedding_bag`, and a call.

        ``bounds`` is by default that of the table, which is "raise" unless it was made with one.
        """
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
            bounds=self._bounds if bounds is None else bounds,
            takes_lengths=False,
        )
        return self._look_up_bags(source, bags, out)

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
