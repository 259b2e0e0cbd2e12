"""Hashed embeddings: rows that a hash of an id selects, or hashes of the n-grams at a token."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import Any

from .._messages import shown
from . import ops
from ._nested import arithmetic, flat, nest, rounding, shape, unravel
from .layers import CallHandle, OneTable
from .norms import drop
from .ops import Row, Table

_MASK64 = 2**64 - 1


def _fmix64(h: int) -> int:
    """The finaliser of MurmurHash3."""
    h = (h ^ h >> 33) * 0xFF51AFD7ED558CCD & _MASK64
    h = (h ^ h >> 33) * 0xC4CEB9FE1A85EC53 & _MASK64
    return h ^ h >> 33


def murmur(key: int, seed: int) -> list[int]:
    """MurmurHash3 (x64, 128 bits) of a key of 8 bytes, as four numbers of 32 bits.

    thinc hashes ids in this way.
    """
    k = key * 0x87C37B91114253D5 & _MASK64
    k = (k << 31 | k >> 33) * 0x4CF5AD432745937F & _MASK64
    high = seed ^ 8
    low = (high ^ k) + high & _MASK64
    high = high + low & _MASK64
    low, high = _fmix64(low), _fmix64(high)
    low = low + high & _MASK64
    high = high + low & _MASK64
    return [low & 0xFFFFFFFF, low >> 32, high & 0xFFFFFFFF, high >> 32]


def hash_ids(ids: Any, num_rows: int, *, seed: int = 0, hash: Callable[[str], int] | None = None) -> Any:
    """The four rows of each id: the four parts of its hash, modulo the number of rows."""
    parts = flat(murmur_hash(ids, seed=seed, hash=hash))
    return nest([part % num_rows for part in parts], (*shape(ids), 4))


def hash_string(string: str) -> int:
    """The default number of a string: MurmurHash2 (64A) of its UTF-8, with the seed 1.

    spaCy numbers strings in this way.
    """
    data, m, r, mask = string.encode(), 0xC6A4A7935BD1E995, 47, 2**64 - 1
    h = 1 ^ len(data) * m & mask
    for at in range(0, len(data) - 7, 8):
        k = int.from_bytes(data[at : at + 8], "little") * m & mask
        h = (h ^ (k ^ k >> r) * m & mask) * m & mask
    if len(data) % 8:
        h = (h ^ int.from_bytes(data[-(len(data) % 8) :], "little")) * m & mask
    h = (h ^ h >> r) * m & mask
    return h ^ h >> r


def murmur_hash(ids: Any, *, seed: int = 0, hash: Callable[[str], int] | None = None) -> Any:
    """The four parts of the hash of each id.

    A negative id is hashed as its two's complement in 64 bits; a string goes through `hash` first,
    by default `hash_string`.
    """
    items = list(flat(ids))
    for i, item in enumerate(items):
        items[i] = number = (hash or hash_string)(item) if isinstance(item, str) else item
        if not -(2**63) <= number < 2**64:
            raise ValueError(f"id {shown(number)} at position {unravel(i, shape(ids))} does not fit into 64 bits")
    return nest([murmur(item & _MASK64, seed) for item in items], shape(ids))


class HashEmbedding(OneTable):
    """x[i] = the sum of weight[row] over the four rows of ids[i], with dropout of columns."""

    def __init__(self, num_rows: int, embedding_dim: int, *, std: float = 0.5, **options: Any) -> None:
        super().__init__(num_rows, embedding_dim, std=std, **options)

    def _set_up(
        self,
        weight: Table,
        *,
        seed: int = 0,
        hash: Callable[[str], int] | None = None,
        dropout: float = 0.0,
        dropout_seed: int = 0,
        **options: Any,
    ) -> None:
        super()._set_up(weight, **options)
        self.seed, self.hash, self.dropout, self.dropout_seed = seed, hash, dropout, dropout_seed

    def rows_of(self, ids: Any) -> Any:
        return hash_ids(ids, len(self.weight), seed=self.seed, hash=self.hash)

    def _mask(self, number: int) -> Row:
        """0 for columns that call `number` drops, else 1 / (1 - dropout); all 1 for number 0."""
        ones = [1.0] * ops.width(self.weight)
        return drop([ones], self.dropout, self.dropout_seed, number, arithmetic(self.dtype))[0] if number else ones

    def call(self, ids: Any) -> tuple[Any, CallHandle]:
        r, store = rounding(arithmetic(self.dtype)), rounding(self.dtype)
        rows, number, out = list(flat(self.rows_of(ids))), self._number_of_call(), []
        mask = self._mask(number)
        for i in range(0, len(rows), 4):
            x = [0.0] * len(mask)
            for row in rows[i : i + 4]:
                x = [r(a + b) for a, b in zip(x, self.weight[row], strict=True)]
            out.append([store(r(a * m)) for a, m in zip(x, mask, strict=True)])
        return nest(out, shape(ids)), self._handle(ids, number)

    def backward(self, dout: Any, ids: Any = None, *, call: CallHandle | None = None, optimizer: Any = None) -> None:
        """Each of the four rows gets the gradient of the sum, through the call's dropout mask."""
        of_call, number = self._call_arguments(call, ids, 0)
        r, mask, width = rounding(arithmetic(self.dtype)), self._mask(number), ops.width(self.weight)
        values = [r(r(x) * mask[i % width]) for i, x in enumerate(flat(dout))]
        rows = list(flat(self.rows_of(of_call)))
        gradients = [x for i in range(len(rows)) for x in values[i // 4 * width : (i // 4 + 1) * width]]
        self._accumulate_or_step({"weight": rows}, gradients, optimizer)


# ---- n-grams ----


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
        for given, name in ((history or [], "history token id"), (ids, "token id")):
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
