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
    """What `PackedRows` and `DiskTable` inherit."""

    _dtype: np.dtype[Any]

    @property
    @abstractmethod
    def num_embeddings(self) -> int:
        """V, the number of rows."""

    @abstractmethod
    def _look_up_bags(self, bags: bag_ops.Bags, out: Array | None) -> Array:
        """One row for each of these bags, in ``out`` if it is given."""

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
        bounds: str = "raise",
    ) -> Array:
        """One row for each bag of ids, shape (B, D). See `fastembed.embedding_bag`, and a call."""
        bags = bag_ops.check_bags(
            ids,
            offsets,
            per_sample_weights,
            n_rows=self.num_embeddings,
            dtype=_checks.arithmetic_dtype(self._dtype),
            mode=mode,
            padding_idx=padding_idx,
            include_last_offset=include_last_offset,
            bounds=bounds,
        )
        return self._look_up_bags(bags, out)
