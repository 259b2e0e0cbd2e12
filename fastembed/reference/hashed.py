"""Hashed embeddings: a look-up is the sum of the four rows that the hash of an id selects."""

from __future__ import annotations

from collections.abc import Callable
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


def murmur_hash(ids: Any, *, seed: int = 0, hash: Callable[[str], int] | None = None) -> Any:
    """The four parts of the hash of each id.

    A negative id is hashed as its two's complement in 64 bits; a string goes through `hash` first.
    """
    items = list(flat(ids))
    for i, item in enumerate(items):
        items[i] = number = hash(item) if isinstance(item, str) and hash is not None else item
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
