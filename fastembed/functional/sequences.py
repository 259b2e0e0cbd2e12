"""Sequences of tokens: their rows in the token, position and type tables, without the padding.

S: the shape of the token ids; its last axis is the sequence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import _checks
from . import lookup

if TYPE_CHECKING:
    from .._typing import Array, ArrayLike


class Call(NamedTuple):
    """The arguments of a call besides ids, and its number, which selects the dropout mask.

    The number of a call without dropout is 0.
    """

    start: int
    lengths: Any = None
    mask: Any = None
    type_ids: Any = None
    number: int = 0


def resolve_sequences(
    token_ids: ArrayLike, position_ids: ArrayLike | None, call: Call, n_rows: Mapping[str, int], bounds: str
) -> dict[str, Array]:
    """The rows of each table for a call, int64 of shape S; -1 for padding and, with "zero", none.

    Parameters
    ----------
    token_ids, position_ids, call
        As in `TokenPositionEmbedding`.
    n_rows : mapping of table name to int
        The rows of ``wte`` and ``wpe``, and of ``wtype`` where there is one.
    bounds : str
        As in `fastembed.gather`, for each table.
    """
    exact = _checks.integers("token id", token_ids)
    mask = _checks.sequence_mask(exact.shape, call.lengths, call.mask)
    if call.type_ids is not None and "wtype" not in n_rows:
        raise ValueError("type_ids require a layer with types: n_types was 0")
    ids = _checks.within_64_bits("token id", exact, n_rows["wte"], bounds, mask)
    if mask is None:
        tokens, positions = lookup.resolve_pair(ids, n_rows["wte"], position_ids, call.start, n_rows["wpe"], bounds=bounds)
    else:
        tokens, positions = _resolve_padded_pair(ids, position_ids, call.start, mask, n_rows, bounds)
    rows = {"wte": tokens, "wpe": positions}
    if "wtype" in n_rows:
        given = 0 if call.type_ids is None else call.type_ids
        types = _checks.broadcast_ids_to("type id", given, ids.shape, n_rows["wtype"], bounds, mask)
        rows["wtype"] = lookup.resolve_ids(types, n_rows["wtype"], bounds=bounds, name="type id")
        if mask is not None:
            rows["wtype"][~mask] = -1
    return rows


def _resolve_padded_pair(
    ids: Array, position_ids: ArrayLike | None, start: int, mask: Array, n_rows: Mapping[str, int], bounds: str
) -> tuple[Array, Array]:
    """Token and position rows where ``mask`` is True, else -1: ids of padding need not be valid."""
    n_positions = int(np.flatnonzero(mask.reshape(-1, mask.shape[-1]).any(0))[-1]) + 1 if mask.any() else 0
    tokens, positions = np.full(ids.shape, -1), np.full(ids.shape, -1)
    used = (..., slice(0, n_positions))  # the rest is padding in every sequence
    given = None
    if position_ids is not None:
        lookup.resolve_ids(ids[used], n_rows["wte"], bounds=bounds, name="token id")  # an invalid token id is reported first
        given = _checks.broadcast_ids_to("position id", position_ids, ids.shape, n_rows["wpe"], bounds, mask)[used]
    tokens[used], positions[used] = lookup.resolve_pair(ids[used], n_rows["wte"], given, start, n_rows["wpe"], bounds=bounds)
    tokens[~mask], positions[~mask] = -1, -1
    return tokens, positions
