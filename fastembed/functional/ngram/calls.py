"""Look-ups of n-gram layers: one by C at once where it can, any number with all checks first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..._kernels.backend import kernels
from .hash import NgramHash
from .sequences import sequences_of

if TYPE_CHECKING:
    from ..._kernels.packing import Packing
    from ..._typing import Array, ArrayLike


class NgramLayer(Protocol):
    """What a look-up needs of a layer."""

    @property
    def hash(self) -> NgramHash: ...
    @property
    def embedding_dim(self) -> int: ...
    @property
    def _result_dtype(self) -> np.dtype[Any]: ...
    def _output(self, out: Array | None, shape: tuple[int, ...], **read: Any) -> Array:
        """The array for a result: ``out``, checked, or a new one."""

    def _table_in_place(self) -> tuple[Array, Packing | None] | None:
        """The table, for kernels; None where rows are looked up by their numbers."""

    def _look_up_rows(self, rows: Array, by_row: Array) -> None:
        """Write the rows of those numbers."""


def look_up(
    layer: NgramLayer,
    ids: ArrayLike,
    history: ArrayLike | None,
    lengths: ArrayLike | None,
    cu_seqlens: ArrayLike | None,
    out: Array | None,
) -> Array:
    """The result of a layer: from C at once if the arguments need no checks."""
    table = layer._table_in_place()
    if table is not None and lengths is None and cu_seqlens is None:
        hash = layer.hash
        described = hash.arguments, hash.heads, *table, layer.embedding_dim, layer._result_dtype
        result = kernels.fast_ngram_gather(*described, ids, history, out)
        if result is not None:
            return result
    return look_up_in_all([layer], ids, history, lengths, cu_seqlens, [out])[0]


def look_up_in_all(
    layers: Sequence[NgramLayer],
    ids: ArrayLike,
    history: ArrayLike | None,
    lengths: ArrayLike | None,
    cu_seqlens: ArrayLike | None,
    outs: Sequence[Array | None],
) -> list[Array]:
    """The result of each layer. All arguments and tokens are checked before one is written."""
    if not layers:
        return []
    sequences = sequences_of(ids, layers[0].hash.n_tokens, lengths, cu_seqlens)
    results: list[Array] = []
    in_place, by_number = [], []
    for layer, out in zip(layers, outs, strict=True):
        hash, n_cols = layer.hash, layer.embedding_dim
        before = sequences.history(history, hash.n, hash.n_tokens)
        others = {f"the result of layer {k}": result for k, result in enumerate(results)}
        results.append(layer._output(out, (*sequences.tokens.shape, hash.width * n_cols), ids=ids, history=history, **others))
        by_row = results[-1].reshape(*sequences.tokens.shape, hash.width, n_cols)
        table = layer._table_in_place()
        if table is None:
            by_number.append((layer, hash.rows_of(sequences, before), by_row))
        else:
            in_place.append((hash.arguments, hash.heads, before, *table, by_row))
    # A read from a file may fail after all checks: with several layers it comes before any writing.
    staged = [np.empty_like(by_row) if len(layers) > 1 else by_row for _, _, by_row in by_number]
    for (layer, rows, _), place in zip(by_number, staged, strict=True):
        layer._look_up_rows(rows, place)
    kernels.ngram_gather(in_place, sequences.tokens, sequences.starts)
    for (_, _, by_row), place in zip(by_number, staged, strict=True):
        if place is not by_row:
            by_row[...] = place
    return results
