"""Hashed n-gram tables: hashes of a token and of those before it select rows."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import Any

from .._messages import shown
from . import ops
from ._nested import arithmetic, flat, nest, rounding, shape, unravel
from .layers import CallHandle, OneTable
from .ops import Table

_MASK64 = 2**64 - 1


def mixes(
    tokens: list[int],
    starts: list[int],
    history: list[list[int]] | None,
    multipliers: list[int],
    token_map: list[int] | None,
    fill: int,
    cuts: list[int],
    cut_own: bool,
) -> list[list[int]]:
    """For each token, x_0 m_0 ^ ... ^ x_k m_k in 64 bits for k = 1 .. N - 1.

    x_k is the code (``token_map[token]``) of the token k before it in its sequence or the history,
    and ``fill`` from the first k on for which there is none or it is one of ``cuts``; ``cut_own``:
    from k = 0 on.
    """
    mixed = []
    for s, (start, end) in enumerate(pairwise(starts)):
        before: list[int | None] = [None] * (len(multipliers) - 1) if history is None else list(history[s])
        seen = before + tokens[start:end]
        for place in range(len(before), len(seen)):
            is_over, mix, of_token = False, 0, []
            for k, multiplier in enumerate(multipliers):
                token = seen[place - k]
                is_over = is_over or token is None or (token in cuts and (k > 0 or cut_own))
                code = fill if is_over or token is None else token_map[token] if token_map else token
                mix ^= code * multiplier & _MASK64
                of_token.append(mix)
            mixed.append(of_token[1:])
    return mixed


def rows_of_mixes(mixed: list[list[int]], head_sizes: list[int], offsets: list[int]) -> list[list[int]]:
    """For each token, the mix of each head modulo its size, plus its offset."""
    n_heads = len(head_sizes)
    return [[mix[h * len(mix) // n_heads] % head_sizes[h] + offsets[h] for h in range(n_heads)] for mix in mixed]


class NgramHash:
    """Rows of the n-grams that end at each token, for n = 2 .. N with H heads each."""

    def __init__(
        self,
        multipliers: list[int],
        head_sizes: list[list[int]],
        *,
        offsets: list[list[int]] | None = None,
        token_map: list[int] | None = None,
        vocab_size: int | None = None,
        fill: int,
        cut: list[int] | int | None = None,
        cut_own: bool = False,
        unsigned: bool = False,
    ) -> None:
        self.multipliers, self.token_map = multipliers, token_map
        self.head_sizes: list[int] = list(flat(head_sizes))
        self.offsets = list(accumulate(self.head_sizes, initial=0))[:-1] if offsets is None else list(flat(offsets))
        largest = 2**63 - 1 if unsigned else min((2**63 - 1) // max(*multipliers, 1) + 1, 2**63 - 1)
        self.n_tokens = len(token_map) if token_map else largest if vocab_size is None else vocab_size
        self.fill = token_map[fill] if token_map else fill
        self.cuts = [] if cut is None else list(flat(cut))
        self.cut_own = cut_own

    def __call__(
        self, ids: Any, *, history: Any = None, lengths: list[int] | None = None, cu_seqlens: list[int] | None = None
    ) -> Any:
        of_shape, tokens = shape(ids), list(flat(ids))
        if lengths is not None:
            cu_seqlens = list(accumulate(lengths, initial=0))
        for given, name in ((history or [], "token id of the history"), (ids, "token id")):
            for i, token in enumerate(flat(given)):
                if not 0 <= token < self.n_tokens:
                    where = f"{name} {shown(token)} at position {unravel(i, shape(given))}"
                    raise IndexError(f"{where} is out of range for a vocabulary of {self.n_tokens} tokens")
        starts = list(range(0, len(tokens) + 1, max(of_shape[-1], 1))) if cu_seqlens is None else cu_seqlens
        n_before = len(self.multipliers) - 1
        before = None if history is None else nest(flat(history), (len(starts) - 1, n_before))
        mixed = mixes(tokens, starts, before, self.multipliers, self.token_map, self.fill, self.cuts, self.cut_own)
        return nest(flat(rows_of_mixes(mixed, self.head_sizes, self.offsets)), (*of_shape, len(self.head_sizes)))


class NgramEmbedding(OneTable):
    """x[t] = the rows of token t's n-grams side by side."""

    def __init__(self, hash: NgramHash, weight: Table, **options: Any) -> None:
        self._set_up(weight, hash=hash, **options)

    def _set_up(self, weight: Table, *, hash: Any = None, **options: Any) -> None:
        super()._set_up(weight, **options)
        self.hash: NgramHash = hash

    def call(self, ids: Any, **sequences: Any) -> tuple[Any, CallHandle]:
        rows = self.hash(ids, **sequences)
        out = ops.gather(self.weight, rows, dtype=self.dtype)
        n_cols = len(self.hash.head_sizes) * ops.width(self.weight)
        return nest(flat(out), (*shape(ids), n_cols)), self._handle(ids, sequences)

    def backward(
        self, dout: Any, ids: Any = None, *, call: CallHandle | None = None, optimizer: Any = None, **sequences: Any
    ) -> None:
        """Each row gets its part of the gradient, and the sum of them if it was selected again."""
        of_call, given = self._call_arguments(call, ids, sequences)
        r = rounding(arithmetic(self.dtype))
        rows = list(flat(self.hash(of_call, **given)))
        self._accumulate_or_step({"weight": rows}, [r(x) for x in flat(dout)], optimizer)
