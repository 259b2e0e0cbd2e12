"""HashNumbers: the numbers that make an n-gram hash, by which two of them are equal.

N: tokens of the longest n-gram; H: heads for each n; W = (N - 1) H: rows of a token.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._memory import memory_errors

if TYPE_CHECKING:
    from ..._typing import Array


class HashNumbers:
    """The numbers of a hash, read-only."""

    _multipliers: Array
    _heads: Array
    _shape: tuple[int, ...]
    _n_rows: int
    _n_tokens: int
    _token_map: Array | None
    _fill: int
    _cut: Array
    _cut_own: bool

    @property
    def n(self) -> int:
        """N, the number of tokens of the longest n-gram."""
        return len(self._multipliers)

    @property
    def n_heads(self) -> int:
        """H, the number of heads for each n."""
        return self._shape[1]

    @property
    def width(self) -> int:
        """W = (N - 1) H, the number of rows of a token."""
        return len(self._heads)

    @property
    def n_rows(self) -> int:
        """The rows that a table needs."""
        return self._n_rows

    @property
    def n_tokens(self) -> int:
        """The number of tokens: ids are from 0 to this less 1."""
        return self._n_tokens

    @property
    def fill(self) -> int:
        """The token that stands for missing ones."""
        return self._fill

    @property
    def multipliers(self) -> Array:
        """A copy, uint64 of shape (N,)."""
        return self._multipliers.copy()

    @property
    def head_sizes(self) -> Array:
        """A copy, int64 of shape (N - 1, H)."""
        return self._heads[:, 0].reshape(self._shape).astype(np.int64)

    @property
    def offsets(self) -> Array:
        """A copy, int64 of shape (N - 1, H)."""
        return self._heads[:, 2].reshape(self._shape).astype(np.int64)

    @property
    def heads(self) -> Array:
        """For kernels: size, reciprocal and offset of each head, read-only uint64 (W, 3)."""
        return self._heads

    @property
    def arguments(self) -> tuple[Any, ...]:
        """For kernels: the hash, as `ngram_mixes` takes it."""
        fill = self._fill if self._token_map is None else int(self._token_map[self._fill])
        return self._multipliers, self._token_map, self._n_tokens, fill, self._cut, self._cut_own

    @property
    @memory_errors()
    def digest(self) -> str:
        """The SHA-256 of all numbers, in hexadecimal digits: that of equal hashes alone.

        Examples
        --------
        >>> import fastembed as fe
        >>> hash, other = (fe.NgramHash([3, m], [[7, 11]], vocab_size=100, fill=0) for m in (5, 9))
        >>> hash == other, hash.digest[:8], other.digest[:8]
        (False, '1dc05e0e', '2983f095')
        """
        result = hashlib.sha256(f"{self._shape} {self._n_tokens} {self._fill} {self._cut_own}".encode())
        for array in (self._multipliers, self._heads, np.unique(self._cut), self._token_map):
            result.update(b"-" if array is None else b"%d:" % len(array))
            result.update(b"" if array is None else array.astype(array.dtype.newbyteorder("<"), "C").tobytes())
        return result.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HashNumbers) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"NgramHash(n={self.n}, n_heads={self.n_heads}, n_rows={self.n_rows}, n_tokens={self.n_tokens})"
