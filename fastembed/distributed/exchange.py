"""The two exchanges of a step: rows come from their owners, gradients go to them.

All tables of a call share each message. T: rows looked up; D: columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from ..functional.batch import Batch, batch_of
from ..functional.lookup import gather
from ..functional.row_grad import RowGrad
from .partition import Partition
from .ranks.errors import PeerError
from .ranks.group import Group, Part

if TYPE_CHECKING:
    from .._typing import Array

# A gradient that is one of several of the same source: its row, which of the gradient rows sent to
# the same owner it is, and the factor that this is multiplied by.
SHARED = np.dtype([("row", np.int64), ("source", np.int32), ("factor", np.float64)])


class Owner(Protocol):
    """A table of which this rank has some rows."""

    partition: Partition

    def read_owned(self, rows: Array, is_call: bool) -> Array:
        """These of the rank's rows, by their numbers here, up to date; for a call or a backward."""


class _Wanted(NamedTuple):
    """The distinct rows of a look-up: their numbers at the owners, in the order of these."""

    numbers: Array
    n_sent: Array  # how many of them each rank owns
    places: Array  # for each row looked up, which of them it is; -1 for none


def _wanted(rows: Array, partition: Partition) -> _Wanted:
    distinct, inverse = np.unique(rows, return_inverse=True)
    n_missing = int(distinct.size > 0 and distinct[0] < 0)
    owners, numbers = partition.place(distinct[n_missing:])
    order = _by_owner(owners, partition.size)
    places = np.full(len(distinct), -1, np.int64)
    places[order + n_missing] = np.arange(len(order))
    return _Wanted(numbers[order], np.bincount(owners, minlength=partition.size), places[inverse].reshape(rows.shape))


def _by_owner(owners: Array, size: int) -> Array:
    """The stable order by owner."""
    return np.argsort(owners.astype(np.uint16) if size <= 1 << 16 else owners, kind="stable")


def fetch(group: Group, step: str, wants: Sequence[tuple[Owner, Array]], *, is_call: bool = True) -> list[tuple[Array, Array]]:
    """Rows of tables, from their owners. All ranks call it together, each for rows of its own.

    Parameters
    ----------
    wants : list of (Owner, ndarray)
        The tables, in all ranks the same ones, with the rows to fetch: int64, -1 for none.
    is_call : bool
        Whether it is for a call, which shortens rows above ``max_norm``.

    Returns
    -------
    list of (ndarray, ndarray)
        For each table, its distinct rows among those, and for each row looked up which of them it
        is, int64 of the same shape; -1 for none.
    """
    wanted = [_wanted(rows, table.partition) for table, rows in wants]
    asked = group.agree(step, np.stack([want.n_sent for want in wanted], axis=1))
    parts = [Part(want.numbers, want.n_sent, counts) for want, counts in zip(wanted, asked.T, strict=True)]
    numbers = group.alltoallv(f"{step}: ids", *parts)
    with group.applying(step):
        replies = []
        for (table, _), rows, part in zip(wants, numbers, parts, strict=True):
            _check_owned(f"{step}: ids", rows, part.n_received, table.partition.n_owned(group.rank))
            replies.append(Part(table.read_owned(rows, is_call), part.n_received, part.n_sent))
        found = group.alltoallv(f"{step}: rows", *replies)
    return [(rows, want.places) for rows, want in zip(found, wanted, strict=True)]


def _check_owned(step: str, rows: Array, n_received: Array, n_owned: int) -> None:
    """PeerError if a rank has sent a number that is none of a row of this rank."""
    bad = np.flatnonzero((rows < 0) | (rows >= n_owned))
    if len(bad):
        peer = _rank_of(bad[0], n_received)
        raise PeerError(step, [peer], f"sent row number {rows[bad[0]]} to a rank of {n_owned} rows")


def _rank_of(item: int, n_received: Array) -> int:
    """The rank that an item has come from."""
    return int(np.searchsorted(np.cumsum(n_received), item, side="right"))


class Outgoing(NamedTuple):
    """Gradients of rows of a table, on their way to the owners.

    Attributes
    ----------
    rows : ndarray of int64
        In the order of the look-up; -1 for none.
    gradients : ndarray of shape (n, D), contiguous
    sources : ndarray of int64, or None
        Which of the gradients each row has, not decreasing; None: 0, 1, 2, ...
    factors : ndarray of float64, or None
        With ``sources``: a factor for the gradient of each row.
    """

    rows: Array
    gradients: Array
    sources: Array | None = None
    factors: Array | None = None

    def present(self) -> Outgoing:
        """Those of rows, without those of -1."""
        taken = np.flatnonzero(self.rows >= 0)
        if len(taken) == len(self.rows):
            return self
        if self.sources is None:
            return Outgoing(self.rows[taken], gather(self.gradients, taken))
        factors = None if self.factors is None else self.factors[taken]
        return Outgoing(self.rows[taken], self.gradients, self.sources[taken], factors)

    def summed(self, n_rows: int) -> Outgoing:
        """The sum of each row of a table of ``n_rows``."""
        sources = None if self.sources is None else self.sources.astype(np.int32)
        batch = batch_of(self.rows.copy(), n_rows, self.gradients, sources=sources, factors=self.factors)
        sums = RowGrad.zeros((n_rows, self.gradients.shape[1]), self.gradients.dtype).accumulate(batch)
        return Outgoing(sums.ids, sums.rows)


def push(group: Group, step: str, given: Sequence[tuple[Partition, Outgoing, bool]]) -> list[Batch]:
    """The gradients of all ranks for this rank's rows: of rank 0 first, each in its own order.

    Given are the partition of each table, what this rank has for it, and whether each gradient is
    divided by how often its row occurs.

    So the sums are those of one process that has looked up the ids of all ranks one after the
    other.
    """
    sorted_ones = [_for_owners(outgoing, partition) for partition, outgoing, _ in given]
    counts = np.concatenate([np.stack([n_items, n_rows], axis=1) for _, _, n_items, n_rows in sorted_ones], axis=1)
    announced = group.agree(step, counts)
    items_in, rows_in = announced[:, ::2].T, announced[:, 1::2].T
    for (items, *_), n_items, n_rows in zip(sorted_ones, items_in, rows_in, strict=True):
        with group.applying(step):
            _check_lengths(step, n_items, n_rows, is_shared=items.dtype.names is not None)
    of_items = [Part(items, n, n_in) for (items, _, n, _), n_in in zip(sorted_ones, items_in, strict=True)]
    of_rows = [Part(rows, n, n_in) for (_, rows, _, n), n_in in zip(sorted_ones, rows_in, strict=True)]
    received = group.alltoallv(f"{step}: gradients", *of_items, *of_rows)
    batches = []
    with group.applying(step):
        for k, (partition, _, by_frequency) in enumerate(given):
            n_owned = partition.n_owned(group.rank)
            items, gradients = received[k], received[len(given) + k]
            rows = items if items.dtype.names is None else np.ascontiguousarray(items["row"])
            _check_owned(f"{step}: gradients", rows, items_in[k], n_owned)
            sources = factors = None
            if items.dtype.names is not None:
                sources = _numbered(f"{step}: gradients", items["source"], items_in[k], rows_in[k])
                factors = np.ascontiguousarray(items["factor"])
            batches.append(batch_of(rows, n_owned, gradients, by_frequency=by_frequency, sources=sources, factors=factors))
    return batches


def _for_owners(outgoing: Outgoing, partition: Partition) -> tuple[Array, Array, Array, Array]:
    """What goes to the owners, in their order: items and gradient rows; how many to each."""
    rows, gradients, sources, factors = outgoing
    owners, numbers = partition.place(rows)
    order = _by_owner(owners, partition.size)
    n_items = np.bincount(owners, minlength=partition.size)
    if sources is None:
        return numbers[order], gather(gradients, order), n_items, n_items
    by_owner, of_items = owners[order], sources[order]
    is_new = np.ones(len(rows), bool)
    is_new[1:] = (by_owner[1:] != by_owner[:-1]) | (of_items[1:] != of_items[:-1])
    n_rows = np.bincount(by_owner[is_new], minlength=partition.size)
    items = np.empty(len(rows), SHARED)
    items["row"], items["factor"] = numbers[order], 1.0 if factors is None else factors[order]
    items["source"] = np.cumsum(is_new) - 1 - (np.cumsum(n_rows) - n_rows)[by_owner]
    return items, gather(gradients, of_items[is_new]), n_items, n_rows


def _check_lengths(step: str, n_items: Array, n_rows: Array, *, is_shared: bool) -> None:
    """PeerError if a rank announces a number of gradients that is not possible for its rows."""
    bad = np.flatnonzero(n_rows > n_items if is_shared else n_rows != n_items)
    if len(bad):
        raise PeerError(step, [int(bad[0])], f"announces {n_items[bad[0]]} rows with {n_rows[bad[0]]} gradients")


def _numbered(step: str, sources: Array, n_items: Array, n_rows: Array) -> Array:
    """The sources of the items of all ranks, numbered through all gradients received."""
    limits = np.repeat(n_rows, n_items)
    bad = np.flatnonzero((sources < 0) | (sources >= limits))
    if len(bad):
        peer = _rank_of(bad[0], n_items)
        raise PeerError(step, [peer], f"sent an item of gradient {sources[bad[0]]}, of {limits[bad[0]]}")
    starts = np.cumsum(n_rows) - n_rows
    return (sources + np.repeat(starts, n_items)).astype(np.int32)
