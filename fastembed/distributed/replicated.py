"""Layers that every rank has whole, and that all ranks train with the gradients of all.

V: rows of a table; D: columns; N: ranks.
"""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .. import _checks
from .._kernels.floats import own_floats
from ..functional.batch import Batch, batch_of, plain_batch
from ..functional.lookup import gather
from ..functional.row_grad import RowGrad
from ..layers.differentiable import Differentiable
from ..layers.embedding import Embedding
from ..layers.token_position import TokenPositionEmbedding
from .exchange import SHARED, Outgoing, push
from .partition import Ranges
from .ranks.group import Group
from .sharded import common_seed

if TYPE_CHECKING:
    from .._kernels.backend import kernels
    from .._typing import Array, ArrayLike


class Replicated(Differentiable):
    """A layer whose `backward` is one of all ranks together; the base of replicated layers."""

    group: Group
    _exact: bool

    def _join(self, group: Group, exact: bool) -> None:
        """Make this layer one of all ranks: ValueError unless all have the same tables."""
        self.group, self._exact = group, _checks.flag("exact", exact)
        sums = [zlib.crc32(np.ascontiguousarray(table).reshape(-1).view(np.uint8).data) for table in self.tables.values()]
        found = group.allgather(f"tables of {self!r}", np.array(sums, np.int64))
        if (found != found[0]).any():
            raise ValueError(
                f"the tables of {self!r} must be the same in all ranks, got the CRCs {_checks.shown(found.tolist())}"
            )

    @classmethod
    def _from_mapped(cls, files: Any, freeze: bool = False, **options: Any) -> Self:
        files.close()
        raise TypeError(f"{cls.__name__} has no mapped files: its tables are small")

    def _accumulate_or_step(self, batches: dict[str, Batch], optimizer: Any, commit: kernels.Commit | None = None) -> None:
        """Accumulate the gradients of all ranks, or let an optimiser step, alike in all."""
        self._check_can_step(optimizer)
        combined = {name: self._combined(name, batch, optimizer is not None) for name, batch in batches.items()}
        with self.group.applying(f"backward of {self!r}"):
            super()._accumulate_or_step(combined, optimizer, commit)

    @own_floats
    def _combined(self, name: str, batch: Batch, is_step: bool) -> Batch:
        """The gradients of all ranks for a table: those of rank 0 first.

        Either every rank gets all of them; or, if these are more bytes than the table, each row's
        are summed by one rank, and the ranks get the sums. A sum that goes on from an accumulated
        gradient needs all of them.
        """
        step, size, table = f"backward of {self!r}: {name}", self.group.size, self.tables[name]
        given = self._outgoing(batch, len(table))
        n_given = self.group.agree(step, np.full((size, 1), len(given.rows)))[:, 0]
        of_item = (8 if given.factors is None else SHARED.itemsize) + given.gradients.itemsize * table.shape[1]
        of_table = len(table) * (8 + given.gradients.itemsize * table.shape[1])
        total = int(n_given.sum()) * of_item
        if total / size + of_table < total and (is_step or not self.has_grad):
            return self._summed(step, given, table, batch.by_frequency)
        rows = self.group.allgatherv(f"{step}: ids", given.rows, n_given)
        gradients = self.group.allgatherv(f"{step}: gradients", given.gradients, n_given)
        factors = None if given.factors is None else self.group.allgatherv(f"{step}: factors", given.factors, n_given)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(table):
            raise self.group.failed(step, [], "ids of a rank are outside the table")
        return batch_of(rows, len(table), gradients, by_frequency=batch.by_frequency, factors=factors)

    def _outgoing(self, batch: Batch, n_rows: int) -> Outgoing:
        """This rank's gradients, each with its row, in an order that keeps that of equal rows."""
        *shape, n_cols = batch.gradients.shape
        gradients = batch.gradients.reshape(math.prod(shape), n_cols)
        order = np.arange(len(batch.rows)) if batch.order is None else batch.order
        expanded = _checks.rounded(gather(gradients, order), self._arithmetic)
        sources = None if batch.factors is None else np.arange(len(batch.rows))
        given = Outgoing(batch.rows, expanded, sources, batch.factors)
        return given if self._exact else given.summed(n_rows)

    def _summed(self, step: str, given: Outgoing, table: Array, by_frequency: bool) -> Batch:
        """The sum of each row's gradients, by the rank that has the row to sum."""
        of = Ranges(len(table), self.group.size)
        (own,) = push(self.group, f"{step}: to sum", [(of, given, by_frequency)])
        owned = of.owned(self.group.rank)
        sums = RowGrad.zeros((len(owned), table.shape[1]), self._arithmetic).accumulate(own)
        n_rows = self.group.agree(f"{step}: sums", np.full((self.group.size, 1), len(sums)))[:, 0]
        ids = self.group.allgatherv(f"{step}: ids of sums", owned[sums.ids], n_rows)
        rows = self.group.allgatherv(f"{step}: sums", sums.rows, n_rows)
        if (np.diff(ids) <= 0).any() or (len(ids) and not 0 <= ids[0] <= ids[-1] < len(table)):
            raise self.group.failed(step, [], "ids of sums are not ascending rows of the table")
        return plain_batch(ids, rows)


class ReplicatedEmbedding(Replicated, Embedding):
    """`fastembed.Embedding`, the same in all ranks: each looks up ids of its own, all train it.

    For small tables: look-ups exchange nothing, and `backward`, which all ranks call together,
    gives each rank the gradients of all.

    Parameters
    ----------
    group : Group
    num_embeddings, embedding_dim : int
    exact : bool
        As in `ShardedEmbedding`.
    rng : int, optional
        A seed, the same in all ranks; by default one that rank 0 draws.
    **options
        Those of `fastembed.Embedding`, except ``max_norm`` and its options, as look-ups of one rank
        must not change rows. ``scale_grad_by_freq`` requires ``exact``.

    Examples
    --------
    >>> import fastembed as fe
    >>> from fastembed import distributed
    >>> layer = distributed.ReplicatedEmbedding(distributed.local(), 10, 3, rng=0)
    >>> layer.backward(layer([1, 1, 2]), optimizer=fe.optim.SGD(layer))
    """

    def __init__(
        self, group: Group, num_embeddings: int, embedding_dim: int, *, exact: bool = True, rng: int | None = None, **options: Any
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, rng=common_seed(group, rng), **options)
        self._join(group, exact)

    @classmethod
    def from_pretrained(  # type: ignore[override]  # it needs a group
        cls, group: Group, array: ArrayLike, freeze: bool = False, *, exact: bool = True, **options: Any
    ) -> Self:
        """A layer around an existing table, which must be the same in all ranks.

        Parameters
        ----------
        array : array_like of shape (V, D), of any float dtype
            Not copied.
        group, freeze, exact, **options
            As in the constructor and in `fastembed.Embedding.from_pretrained`.
        """
        layer = super().from_pretrained(array, freeze, **options)
        layer._join(group, exact)
        return layer

    def _join(self, group: Group, exact: bool) -> None:
        if self._max_norm is not None:
            raise ValueError(f"max_norm must be None in a replicated layer, got {self._max_norm}")
        if self._scale_grad_by_freq and not exact:
            raise ValueError("scale_grad_by_freq requires exact=True: sums of one rank do not say how often a row occurs")
        super()._join(group, exact)

    def backward(self, *arguments: Any, **options: Any) -> None:
        """`fastembed.Embedding.backward` of all ranks together, each with its ids and ``dout``.

        Raises
        ------
        PeerError
            As in `ShardedEmbedding.backward`.
        """
        with self.group.checking(f"backward of {self!r}: weight"):
            super().backward(*arguments, **options)


class ReplicatedTokenPositionEmbedding(Replicated, TokenPositionEmbedding):
    """`fastembed.TokenPositionEmbedding`, the same in all ranks: see `ReplicatedEmbedding`.

    Parameters
    ----------
    group, exact, rng
        As in `ReplicatedEmbedding`.
    vocab_size, block_size, n_embd : int
    **options
        Those of `fastembed.TokenPositionEmbedding`, except dropout, whose masks go by the place in
        the batch of a rank.

    Examples
    --------
    >>> import fastembed as fe
    >>> from fastembed import distributed
    >>> layer = distributed.ReplicatedTokenPositionEmbedding(distributed.local(), 27, 8, 4, rng=0)
    >>> layer.backward(layer([[26, 4], [26, 0]]), optimizer=fe.optim.Adam(layer))
    """

    def __init__(
        self,
        group: Group,
        vocab_size: int,
        block_size: int,
        n_embd: int,
        *,
        exact: bool = True,
        rng: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(vocab_size, block_size, n_embd, rng=common_seed(group, rng), **options)
        self._join(group, exact)

    @classmethod
    def from_arrays(  # type: ignore[override]  # it needs a group
        cls, group: Group, wte: ArrayLike, wpe: ArrayLike, *, exact: bool = True, **options: Any
    ) -> Self:
        """A layer around existing tables, not copied, which must be the same in all ranks."""
        layer = super().from_arrays(wte, wpe, **options)
        layer._join(group, exact)
        return layer

    def _join(self, group: Group, exact: bool) -> None:
        if self._dropout:
            raise ValueError(f"dropout must be 0 in a replicated layer, got {self._dropout}")
        super()._join(group, exact)

    def backward(self, *arguments: Any, **options: Any) -> None:
        """`fastembed.TokenPositionEmbedding.backward` of all ranks together."""
        with self.group.checking(f"backward of {self!r}: wte"):
            super().backward(*arguments, **options)
