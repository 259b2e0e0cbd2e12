"""Sequences of tokens: the rows of the token, position and type tables that a call means, and its padding.

S: the shape of the token ids; sequences lie along its last axis.
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
    """What a call was told beside ids, and the number of its dropout."""

    start: int
    lengths: Any = None
    mask: Any = None
    type_ids: Any = None
    number: int = 0


def resolve_sequences(
    token_ids: ArrayLike, position_ids: ArrayLike | None, call: Call, n_rows: Mapping[str, int]
) -> dict[str, Array]:
    """The rows of each table that a call means, int64 of shape S; -1 where there is padding.

    Parameters
    ----------
    token_ids, position_ids, call
        As in `TokenPositionEmbedding`.
    n_rows : mapping of table name to int
        The rows of ``wte`` and ``wpe``, and of ``wtype`` where there is one.
    """
    exact = _checks.integers("token id", token_ids)
    kept = _checks.kept(exact.shape, call.lengths, call.mask)
    if call.type_ids is not None and "wtype" not in n_rows:
        raise ValueError("type_ids go with a layer that has types: n_types was 0")
    ids = _checks.within_64_bits("token id", exact, n_rows["wte"], "raise", kept)
    if kept is None:
        tokens, positions = lookup.resolve_pair(ids, n_rows["wte"], position_ids, call.start, n_rows["wpe"])
    else:
        tokens, positions = _padded_pair(ids, position_ids, call.start, kept, n_rows)
    rows = {"wte": tokens, "wpe": positions}
    if "wtype" in n_rows:
        given = 0 if call.type_ids is None else call.type_ids
        types = _checks.ids_like("type id", given, ids.shape, n_rows["wtype"], "raise", kept)
        rows["wtype"] = np.where(tokens < 0, -1, lookup.resolve_ids(types, n_rows["wtype"], name="type id"))
    return rows


def _padded_pair(
    ids: Array, position_ids: ArrayLike | None, start: int, kept: Array, n_rows: Mapping[str, int]
) -> tuple[Array, Array]:
    """Token and position rows of places that are kept, -1 elsewhere: ids of padded places need not be ids."""
    n_positions = int(np.flatnonzero(kept.reshape(-1, kept.shape[-1]).any(0))[-1]) + 1 if kept.any() else 0
    tokens, positions = np.full(ids.shape, -1), np.full(ids.shape, -1)
    some = (..., slice(0, n_positions))
    given = None
    if position_ids is not None:
        lookup.resolve_ids(ids[some], n_rows["wte"], name="token id")  # a bad one is named first
        given = _checks.ids_like("position id", position_ids, ids.shape, n_rows["wpe"], "raise", kept)[some]
    tokens[some], positions[some] = lookup.resolve_pair(ids[some], n_rows["wte"], given, start, n_rows["wpe"])
    tokens[~kept], positions[~kept] = -1, -1
    return tokens, positions
