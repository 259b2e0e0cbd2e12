"""What `on_reference` answers of calls of layers: all of them take the way through Python."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def fast_gather(*arguments: Any) -> None:
    """The reference has no fast path: every call takes the checks in Python."""


fast_bag = fast_gather_add = fast_gather_packed = fast_ngram_gather = fast_gather


def hold(*arrays: Array) -> None:
    """The reference holds no memory."""


class SingleLookup:
    """What Embedding inherits."""

    training: bool
    _fast_path = False
    _last_ids: Any
    call: Any

    def __call__(self, ids: Any, **options: Any) -> Any:
        """The rows of ``ids``, shape S + (D,). See `fastembed.gather`."""
        return self.call(ids, **options)[0]


class PairLookup:
    """What TokenPositionEmbedding inherits."""

    training: bool
    _fast_path = False
    _last_ids: Any
    call: Any

    def __call__(self, token_ids: Any, position_ids: Any = None, **options: Any) -> Any:
        """Token rows plus position rows, and what the layer's options make of them."""
        return self.call(token_ids, position_ids, **options)[0]
