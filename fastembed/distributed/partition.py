"""Partitions: which rank owns which rows of a table, and their numbers there."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from .. import _checks

if TYPE_CHECKING:
    from .._typing import Array

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: Fibonacci hashing


class Partition:
    """Rows 0 .. n_rows - 1 of a table over ``size`` ranks; each rank numbers its own from 0.

    Numbers of rows are in the same order in the whole table and in the rows of a rank.

    Parameters
    ----------
    n_rows, size : int
    """

    kind: ClassVar[str]

    def __init__(self, n_rows: int, size: int) -> None:
        self.n_rows, self.size = n_rows, size

    def place(self, rows: Array) -> tuple[Array, Array]:
        """The owner of each row, and its number there; rows are int64 and valid."""
        raise NotImplementedError

    def n_owned(self, rank: int) -> int:
        """How many rows a rank has."""
        raise NotImplementedError

    def owned(self, rank: int) -> Array:
        """The rows of a rank, int64 in the order of their numbers there."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.n_rows}, {self.size})"


class Ranges(Partition):
    """A range of rows for each rank, of equal lengths but for one row.

    Examples
    --------
    >>> from fastembed.distributed.partition import Ranges
    >>> [Ranges(7, 3).owned(rank).tolist() for rank in range(3)]
    [[0, 1], [2, 3], [4, 5, 6]]
    """

    kind = "ranges"

    def __init__(self, n_rows: int, size: int) -> None:
        super().__init__(n_rows, size)
        self.starts = np.array([n_rows * rank // size for rank in range(size + 1)], np.int64)

    def place(self, rows: Array) -> tuple[Array, Array]:
        owners = np.searchsorted(self.starts, rows, side="right") - 1
        return owners, rows - self.starts[owners]

    def n_owned(self, rank: int) -> int:
        return int(self.starts[rank + 1] - self.starts[rank])

    def owned(self, rank: int) -> Array:
        return np.arange(self.starts[rank], self.starts[rank + 1])


class Hashed(Partition):
    """Of every ``size`` rows that follow one another each rank has one, in an order by a hash.

    So frequent rows that are neighbours, as the first ids of a vocabulary by frequency are, have
    different owners.

    Examples
    --------
    >>> from fastembed.distributed.partition import Hashed
    >>> [Hashed(7, 3).owned(rank).tolist() for rank in range(3)]
    [[0, 5], [1, 3], [2, 4, 6]]
    """

    kind = "hash"

    def place(self, rows: Array) -> tuple[Array, Array]:
        groups = rows // self.size
        return (rows + self._shifts(groups)) % self.size, groups

    def n_owned(self, rank: int) -> int:
        whole, rest = divmod(self.n_rows, self.size)
        shift = int(self._shifts(np.array([whole]))[0])
        return whole + ((rank - shift) % self.size < rest)

    def owned(self, rank: int) -> Array:
        groups = np.arange(self.n_owned(rank))
        return groups * self.size + (rank - self._shifts(groups)) % self.size

    def _shifts(self, groups: Array) -> Array:
        """By how much the ranks of each group of rows are rotated."""
        mixed = groups.astype(np.uint64) * _GOLDEN
        return ((mixed >> np.uint64(40)) % np.uint64(self.size)).astype(np.int64)


_KINDS = {kind.kind: kind for kind in (Ranges, Hashed)}


def partition(kind: str, n_rows: int, size: int) -> Partition:
    """The partition of that kind, "ranges" or "hash"."""
    found: Partition = _KINDS[_checks.one_of("partition", kind, tuple(_KINDS))](n_rows, size)
    return found
