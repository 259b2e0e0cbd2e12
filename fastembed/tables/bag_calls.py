"""BagCalls: `bag`, for tables that only look rows up.

D: columns; B: bags.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from .. import _checks
from ..functional import bags as bag_ops

if TYPE_CHECKING:
    import numpy as np

    from .._typing import Array, ArrayLike


class BagCalls:
    """What `PackedRows`, `DiskTable` and `AttachedTable` inherit."""

    _dtype: np.dtype[Any]
    _bounds: str = "raise"

    @property
    @abstractmethod
    def num_embeddings(self) -> int:
        """V, the number of rows."""

    def _bag_source(self) -> tuple[Any, int]:
        """What one call looks its rows up in, and how many rows that has: the table itself."""
        return self, self.num_embeddings

    @abstractmethod
    def _look_up_bags(self, source: Any, bags: bag_ops.Bags, out: Array | None) -> Array:
        """One row of a `_bag_source` for each of these bags, in ``out`` if it is given."""

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
        source, n_rows = self._bag_source()
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
        )
        return self._look_up_bags(source, bags, out)
