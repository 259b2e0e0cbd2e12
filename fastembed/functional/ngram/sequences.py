"""The sequences of tokens of a call, and what comes before and after them.

T: tokens of a sequence; N: tokens of the longest n-gram.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ... import _checks

if TYPE_CHECKING:
    from ..._typing import Array, ArrayLike


class Sequences(NamedTuple):
    """Checked sequences: along the last axis of the tokens, or end to end in one axis.

    Attributes
    ----------
    tokens : ndarray of integers, shape (..., T)
        Whether they are in the vocabulary is left to the kernels.
    starts : ndarray of int64, shape (sequences + 1,)
        Where each begins in C order, and where the last one ends.
    shape : tuple of int
        The axes of the sequences.
    """

    tokens: Array
    starts: Array
    shape: tuple[int, ...]

    def history(self, value: Any, n: int, n_tokens: int) -> Array | None:
        """The checked history of each sequence, shape (sequences, N - 1); or None."""
        before = _checks.token_history(value, (*self.shape, n - 1), n_tokens)
        return None if before is None else before.reshape(len(self.starts) - 1, n - 1)

    def next_history(self, before: Array | None, n: int, fill: int) -> Array:
        """The last N - 1 tokens of each sequence and its history, shape (..., N - 1)."""
        n_before = n - 1
        if before is None:
            before = np.full((len(self.starts) - 1, n_before), fill)
        if self.shape == self.tokens.shape[:-1]:  # along the last axis
            last = self.tokens[..., -n_before:].astype(np.int64)
            return np.concatenate([before.reshape(*self.shape, n_before)[..., last.shape[-1] :], last], -1)
        places = self.starts[1:, None] - n_before + np.arange(n_before)
        in_sequence = places - self.starts[:-1, None]
        last = np.where(in_sequence < 0, np.take_along_axis(before, in_sequence % n_before, 1), 0)
        own = in_sequence >= 0
        last[own] = self.tokens.reshape(-1)[places[own]]
        return last.reshape(*self.shape, n_before)


def sequences_of(ids: ArrayLike, n_tokens: int, lengths: ArrayLike | None, cu_seqlens: ArrayLike | None) -> Sequences:
    """The sequences that the arguments of a call of `NgramHash` mean."""
    tokens = _checks.token_ids("token id", ids, n_tokens)
    starts = _checks.sequence_starts(tokens.shape, lengths, cu_seqlens)
    return Sequences(tokens, starts, tokens.shape[:-1] if lengths is cu_seqlens else (len(starts) - 1,))
