"""ShardedEmbedding and ShardedNgramEmbedding: look-ups of rows that other ranks have.

V: rows of the whole table; D: columns; S: the shape of the ids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from .. import _checks
from ..functional.lookup import gather, resolve_ids
from ..functional.ngram.hash import NgramHash
from .ranks.group import Group
from .sharded import Sharded

if TYPE_CHECKING:
    from .._typing import Array, ArrayLike, DTypeLike
    from ..layers.differentiable import CallHandle


class ShardedEmbedding(Sharded):
    """`fastembed.Embedding` with its rows, and their optimiser state, spread over ranks.

    Each rank looks up ids of its own. Calls and `backward` are exchanges: all ranks make the same
    ones in the same order, with any number of ids, also none.

    Parameters
    ----------
    group : Group
        The ranks, of `mpi`, `gloo` or `local`.
    num_embeddings : int
        V, the number of rows of the whole table.
    embedding_dim : int
        D, the length of a row.
    partition : {"ranges", "hash"}
        Whether a rank has a range of rows, or every so-manieth in an order by a hash, which spreads
        rows that are frequent.
    exact : bool
        Whether the gradients of all tokens go to the owners, which add them in the order of ranks
        and ids: the bits of one process that looks up the ids of all ranks together. If not, each
        rank adds up its own first, so that fewer are sent.
    padding_idx, max_norm, norm_type, scale_grad_by_freq, bounds, dtype, std, trainable_rows
        As in `fastembed.Embedding`, for the whole table. ``scale_grad_by_freq`` requires ``exact``.
    rng : int, optional
        A seed, the same in all ranks; by default one that rank 0 draws. The random numbers do not
        depend on the number of ranks.

    Attributes
    ----------
    weight : ndarray of shape (len(rows), D)
        The rows of this rank. After a change other than by ``layer.weight = ...`` or an optimiser,
        ``layer.weight = layer.weight`` makes it part of the next delta.
    rows : ndarray of int64
        Their numbers in the whole table, ascending. Gradients, and options of optimisers by rows,
        are numbered as ``weight``: ``lr_multipliers=of_all[layer.rows]``.

    Examples
    --------
    >>> import fastembed as fe
    >>> from fastembed import distributed
    >>> group = distributed.local()
    >>> layer = distributed.ShardedEmbedding(group, 10, 3, rng=0)
    >>> opt = fe.optim.AdamW(layer, lr=0.1)
    >>> x = layer([[1, 2, 4], [4, 3, 2]])
    >>> layer.backward(x, optimizer=opt)
    >>> x.shape, opt.step_counts
    ((2, 3, 3), [1])
    """

    def __init__(
        self,
        group: Group,
        num_embeddings: int,
        embedding_dim: int,
        *,
        partition: str = "ranges",
        exact: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        bounds: str = "raise",
        dtype: DTypeLike = "float32",
        std: float = 1.0,
        rng: int | None = None,
        trainable_rows: Any = None,
    ) -> None:
        self._init_random(
            group,
            num_embeddings,
            embedding_dim,
            partition,
            dtype,
            std,
            rng,
            trainable_rows,
            exact=exact,
            padding_idx=padding_idx,
            max_norm=max_norm,
            norm_type=norm_type,
            scale_grad_by_freq=scale_grad_by_freq,
            bounds=bounds,
        )

    def __call__(self, ids: ArrayLike, *, out: Array | None = None) -> Array:
        """The rows of ids, shape S + (D,). All ranks call it together.

        Raises
        ------
        IndexError, TypeError, ValueError
            As in `fastembed.gather`. The other ranks then raise PeerError, and all can go on.
        PeerError
            Another rank refused the call, did not answer in time, or is gone.
        """
        return self.call(ids, out=out)[0]

    def call(self, ids: ArrayLike, *, out: Array | None = None) -> tuple[Array, CallHandle]:
        """What a call returns, and a handle of this call. See `fastembed.Embedding.call`."""
        with self.group.checking(self._step("look-up")):
            rows, result = self.checked_call(ids, out)
        found, index = self._fetch(rows)
        gather(found, index, out=result, bounds="zero")
        return result if out is None else out, self._handle(ids)

    def checked_call(self, ids: ArrayLike, out: Array | None = None) -> tuple[Array, Array]:
        """The rows that a call looks up, and the array for its result."""
        rows = resolve_ids(ids, self.num_embeddings, bounds=self._bounds)
        return rows, _checks.output(out, (*rows.shape, self.embedding_dim), self.dtype, table=self.tables["weight"], ids=ids)

    def backward(
        self, dout: ArrayLike, ids: ArrayLike | None = None, *, call: CallHandle | None = None, optimizer: Any = None
    ) -> None:
        """Send the gradient of a call to the owners of its rows. All ranks call it together.

        There it is accumulated, or an optimiser takes a step with it, in a rank without rows too.

        Parameters
        ----------
        dout, ids, call, optimizer
            As in `fastembed.Embedding.backward`; ``dout`` and the ids are those of this rank.

        Raises
        ------
        RuntimeError, IndexError, TypeError, ValueError
            As there. The other ranks then raise PeerError; nothing is changed.
        PeerError
            As in a call.
        """
        with self.group.checking(self._step("backward"), 2):
            rows, gradients = self.checked_backward(dout, ids, call, optimizer)
        self._push(rows, gradients, None, None, optimizer)

    def checked_backward(
        self, dout: ArrayLike, ids: ArrayLike | None, call: CallHandle | None, optimizer: Any
    ) -> tuple[Array, Array]:
        """The rows of a call that have a gradient (-1 for none), and the gradients."""
        (call_ids,) = self._call_arguments(call, ids)
        rows = resolve_ids(call_ids, self.num_embeddings, bounds=self._bounds)
        if self._padding_idx is not None:
            rows[rows == self._padding_idx] = -1
        return rows, self._check_dout(dout, (*rows.shape, self.embedding_dim), optimizer)


class ShardedNgramEmbedding(Sharded):
    """`fastembed.NgramEmbedding` with its rows, and their optimiser state, spread over ranks.

    Parameters
    ----------
    group, partition, exact, dtype, std, rng, trainable_rows
        As in `ShardedEmbedding`.
    hash : NgramHash
        Which rows: W for each token. The table has ``hash.n_rows`` rows.
    embedding_dim : int
        D, the length of a row.

    Examples
    --------
    >>> import fastembed as fe
    >>> from fastembed import distributed
    >>> hash = fe.NgramHash([3, 5], [[7, 11]], vocab_size=100, fill=0)
    >>> layer = distributed.ShardedNgramEmbedding(distributed.local(), hash, 4, rng=0)
    >>> layer([1, 2, 3]).shape
    (3, 8)
    """

    def __init__(
        self,
        group: Group,
        hash: NgramHash,
        embedding_dim: int,
        *,
        partition: str = "hash",
        exact: bool = True,
        dtype: DTypeLike = "float32",
        std: float = 1.0,
        rng: int | None = None,
        trainable_rows: Any = None,
    ) -> None:
        if not isinstance(hash, NgramHash):
            raise TypeError(f"hash must be a NgramHash, got {_checks.shown(hash)}")
        self._hash = hash
        self._init_random(group, hash.n_rows, embedding_dim, partition, dtype, std, rng, trainable_rows, exact=exact)

    @classmethod
    def from_pretrained(  # type: ignore[override]  # it needs a hash
        cls, group: Group, array: ArrayLike, freeze: bool = False, *, hash: NgramHash, **options: Any
    ) -> Self:
        """A layer with copies of the rows that this rank owns: see `ShardedEmbedding`.

        Parameters
        ----------
        array : array_like of shape (hash.n_rows, D), of any float dtype
        group, freeze, hash, **options
            As in the constructor and in `ShardedEmbedding.from_pretrained`.
        """
        layer = super().from_pretrained(group, array, freeze, **options)
        if hash.n_rows > layer.num_embeddings:
            raise ValueError(f"array must have the {hash.n_rows} rows that hash selects, got {layer.num_embeddings}")
        layer._hash = hash
        return layer

    @property
    def hash(self) -> NgramHash:
        """Which rows a token gets."""
        return self._hash

    def __call__(
        self,
        ids: ArrayLike,
        history: ArrayLike | None = None,
        *,
        lengths: ArrayLike | None = None,
        cu_seqlens: ArrayLike | None = None,
        out: Array | None = None,
    ) -> Array:
        """The rows of each token side by side, shape (..., T, W D). All ranks call it together."""
        return self.call(ids, history, lengths=lengths, cu_seqlens=cu_seqlens, out=out)[0]

    def call(
        self,
        ids: ArrayLike,
        history: ArrayLike | None = None,
        *,
        lengths: ArrayLike | None = None,
        cu_seqlens: ArrayLike | None = None,
        out: Array | None = None,
    ) -> tuple[Array, CallHandle]:
        """What a call returns, and a handle of this call. See `fastembed.NgramEmbedding.call`."""
        with self.group.checking(self._step("look-up")):
            rows = self._hash(ids, history=history, lengths=lengths, cu_seqlens=cu_seqlens)
            shape = *rows.shape[:-1], rows.shape[-1] * self.embedding_dim
            result = _checks.output(out, shape, self.dtype, table=self.tables["weight"], ids=ids, history=history)
        found, index = self._fetch(rows)
        gather(found, index, out=result.reshape(*rows.shape, self.embedding_dim), bounds="zero")
        return result if out is None else out, self._handle(ids, history, lengths, cu_seqlens)

    def backward(
        self,
        dout: ArrayLike,
        ids: ArrayLike | None = None,
        history: ArrayLike | None = None,
        *,
        lengths: ArrayLike | None = None,
        cu_seqlens: ArrayLike | None = None,
        call: CallHandle | None = None,
        optimizer: Any = None,
    ) -> None:
        """Send the gradient of a call to the owners: see `ShardedEmbedding.backward`.

        Parameters
        ----------
        dout : array_like of shape (..., T, W D)
        ids, history, lengths, cu_seqlens, call, optimizer
            As in `fastembed.NgramEmbedding.backward`.
        """
        with self.group.checking(self._step("backward"), 2):
            of_call, before, *ends = self._call_arguments(call, ids, history, lengths, cu_seqlens)
            rows = self._hash(of_call, history=before, lengths=ends[0], cu_seqlens=ends[1])
            gradients = self._check_dout(dout, (*rows.shape[:-1], rows.shape[-1] * self.embedding_dim), optimizer)
        self._push(rows, gradients, None, None, optimizer)
