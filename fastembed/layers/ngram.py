"""NgramEmbedding: the rows of a table that hashes of n-grams select, side by side.

V: rows of the table; D: columns; T: tokens of a sequence; W: rows of a token.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from .. import _checks
from .._kernels.backend import kernels
from .._kernels.floats import own_floats
from ..functional import lookup
from ..functional.batch import batch_of
from ..functional.ngram.hash import NgramHash
from ..tables.storage import Storage
from .one_table import OneTable

if TYPE_CHECKING:
    from .._typing import Array, ArrayLike, DTypeLike, Rng
    from ..tables.vocabulary import Vocabulary
    from .differentiable import CallHandle


class PackedTable(Protocol):
    """A table that gives rows as floats, such as `fastembed.QuantizedEmbedding`."""

    @property
    def num_embeddings(self) -> int: ...

    @property
    def embedding_dim(self) -> int: ...

    def __call__(self, ids: ArrayLike, *, out: Array | None = None) -> Array: ...


def _checked_hash(hash: Any, n_rows: int) -> NgramHash:
    """The hash, if the table has all rows that it selects."""
    if not isinstance(hash, NgramHash):
        raise TypeError(f"hash must be a NgramHash, got {_checks.shown(hash)}")
    if hash.n_rows > n_rows:
        raise ValueError(f"the table must have the {hash.n_rows} rows that hash selects, got {n_rows}")
    return hash


class NgramEmbedding(OneTable):
    """A table of which each token gets the rows of the n-grams that end at it, side by side.

    Parameters
    ----------
    hash : NgramHash
        Which rows: W for each token.
    table : array_like of shape (V, D), of any float dtype
        The table itself, not copied; at least ``hash.n_rows`` rows. `random` draws one, `open` maps
        a file.
    freeze : bool
        Whether optimisers leave the table unchanged.
    trainable_rows : array_like, optional
        As in `Embedding`.

    Attributes
    ----------
    weight : ndarray of shape (V, D)

    Raises
    ------
    TypeError, ValueError
        The table has an invalid dtype or shape, or fewer rows than the hash selects.

    Examples
    --------
    >>> import numpy as np, fastembed as fe
    >>> hash = fe.NgramHash([3, 5, 9], [[7, 11], [13, 17]], vocab_size=100, fill=0)
    >>> layer = fe.NgramEmbedding(hash, np.arange(48.0).reshape(48, 1))
    >>> layer([4, 8])
    array([[ 5.,  8., 30., 43.],
           [ 5.,  8., 30., 43.]])
    >>> layer.backward([[1.0, 0.0, 0.0, 2.0], [3.0, 0.0, 0.0, 0.0]])
    >>> grad = layer.grads()["weight"]
    >>> grad.ids.tolist(), grad.rows.reshape(-1).tolist()
    ([5, 8, 30, 43], [4.0, 0.0, 0.0, 2.0])
    """

    _options = ("hash",)

    def __init__(self, hash: NgramHash, table: ArrayLike, *, freeze: bool = False, trainable_rows: Any = None) -> None:
        self._set_up(_checks.table("table", table), freeze, trainable_rows, hash=hash)

    @classmethod
    def random(
        cls,
        hash: NgramHash,
        embedding_dim: int,
        *,
        dtype: DTypeLike = "float32",
        std: float = 1.0,
        rng: Rng = None,
        trainable_rows: Any = None,
    ) -> Self:
        """A layer with a new table of ``hash.n_rows`` rows, drawn as in `Embedding`.

        Examples
        --------
        >>> import fastembed as fe
        >>> hash = fe.NgramHash([3, 5], [[7, 11]], vocab_size=100, fill=0)
        >>> fe.NgramEmbedding.random(hash, 4, rng=0)([1, 2, 3]).shape
        (3, 8)
        """
        layer = cls.__new__(cls)
        n_rows = _checked_hash(hash, _checks.INT64_MAX).n_rows
        layer._init_random(n_rows, embedding_dim, dtype, std, rng, trainable_rows, hash=hash)
        return layer

    def _set_up(  # type: ignore[override]  # it has none of the row options of OneTable
        self, weight: Array, freeze: bool, trainable_rows: Any, storage: Storage | None = None, *, hash: NgramHash
    ) -> None:
        self._hash = _checked_hash(hash, len(weight))
        super()._set_up(weight, freeze, trainable_rows, storage)

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
        """The rows of each token side by side, shape (..., T, W D).

        Parameters
        ----------
        ids, history, lengths, cu_seqlens
            As in a call of `NgramHash`.
        out : ndarray of shape (..., T, W D), optional
            The array for the result, as in `fastembed.gather`.

        Raises
        ------
        IndexError, TypeError, ValueError
            As in a call of `NgramHash`, or ``out`` is invalid. Nothing is written.
        """
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
        """What a call of the layer returns, and a handle of this call. See `Embedding.call`."""
        weight = self.tables["weight"]
        mixes = self._hash.mix(ids, history=history, lengths=lengths, cu_seqlens=cu_seqlens)
        shape = *mixes.shape[:-1], self._hash.width, self.embedding_dim
        result, by_row = _output(out, shape, self.dtype, table=weight, ids=ids, history=history)
        if self._fast_path and _checks.is_readable_in_place(weight, self.dtype):
            kernels.ngram_gather(weight, mixes, self._hash.heads, by_row)
        else:
            self._look_up_rows(mixes, by_row)
        return result if out is None else out, self._handle(ids, history, lengths, cu_seqlens)

    def _look_up_rows(self, mixes: Array, by_row: Array) -> None:
        """A look-up by numbers of rows, which pending updates, counts and prefetches need."""
        rows = kernels.ngram_rows(mixes, self._hash.heads)
        self.storage.prefetch(rows)
        with self.up_to_date({"weight": rows}):
            lookup.gather(self.tables["weight"], rows, out=by_row)
            self._counter.add({"weight": rows})

    @own_floats()
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
        """Accumulate the gradient of a call, or take a step with it: see `Embedding.backward`.

        The gradient of a row is the sum over all places and heads that selected it.

        Parameters
        ----------
        dout : array_like of shape (..., T, W D)
        ids, history, lengths, cu_seqlens, call, optimizer
            Those of the call, by default of the last one in train mode.
        """
        of_call, before, *ends = self._call_arguments(call, ids, history, lengths, cu_seqlens)
        rows = self._hash(of_call, history=before, lengths=ends[0], cu_seqlens=ends[1])
        shape = *rows.shape[:-1], self._hash.width * self.embedding_dim
        gradients = _checks.rows("dout", dout, shape, self._arithmetic).reshape(*rows.shape, self.embedding_dim)
        self._accumulate_or_step({"weight": batch_of(rows, self.num_embeddings, gradients)}, optimizer)

    @staticmethod
    def look_up_layers(
        layers: Iterable[NgramEmbedding | PackedNgramEmbedding], ids: ArrayLike, history: ArrayLike | None = None, **options: Any
    ) -> list[Array]:
        """What each of several layers returns for the same tokens; ``options`` as in a call.

        Examples
        --------
        >>> import fastembed as fe
        >>> hash = fe.NgramHash([3, 5], [[7, 11]], vocab_size=100, fill=0)
        >>> layers = [fe.NgramEmbedding.random(hash, 4, rng=k) for k in range(2)]
        >>> [x.shape for x in fe.NgramEmbedding.look_up_layers(layers, [1, 2, 3])]
        [(3, 8), (3, 8)]
        """
        return [layer(ids, history, **options) for layer in layers]

    def _resize(self, name: str, n: int, new_rows: ArrayLike | None, vocabulary: Vocabulary | None) -> None:
        """Unsupported below the rows of the hash; a table may have more."""
        if n < self._hash.n_rows:
            raise ValueError(f"n must be at least {self._hash.n_rows}, the rows that the hash selects; got {n}")
        super()._resize(name, n, new_rows, vocabulary)

    def __repr__(self) -> str:
        return f"NgramEmbedding({self._hash!r}, {self.num_embeddings} rows of {self.embedding_dim}, dtype={self.dtype})"


class PackedNgramEmbedding:
    """`NgramEmbedding` on a packed table, for inference.

    Parameters
    ----------
    hash : NgramHash
    table : QuantizedEmbedding, PackedTable, DiskTable, or another layer that returns rows for ids
        At least ``hash.n_rows`` rows, of float32 unless its ``dtype`` says otherwise.

    Examples
    --------
    >>> import numpy as np, fastembed as fe
    >>> hash = fe.NgramHash([3, 5], [[7, 11]], vocab_size=100, fill=0)
    >>> table = fe.QuantizedEmbedding.from_float(np.ones((18, 4), np.float32))
    >>> fe.PackedNgramEmbedding(hash, table)([[1, 2, 3]]).shape
    (1, 3, 8)
    """

    def __init__(self, hash: NgramHash, table: PackedTable) -> None:
        for name in ("num_embeddings", "embedding_dim", "__call__"):
            if not hasattr(table, name):
                raise TypeError(f"table must be a layer that returns rows for ids, got {_checks.shown(table)}, without {name}")
        self.hash, self.table = _checked_hash(hash, table.num_embeddings), table

    def __call__(
        self,
        ids: ArrayLike,
        history: ArrayLike | None = None,
        *,
        lengths: ArrayLike | None = None,
        cu_seqlens: ArrayLike | None = None,
        out: Array | None = None,
    ) -> Array:
        """The rows of each token side by side, of shape (..., T, W D)."""
        mixes = self.hash.mix(ids, history=history, lengths=lengths, cu_seqlens=cu_seqlens)
        shape = *mixes.shape[:-1], self.hash.width, self.table.embedding_dim
        dtype = np.dtype(getattr(self.table, "dtype", np.float32))
        result, by_row = _output(out, shape, dtype, ids=ids, history=history)
        self.table(kernels.ngram_rows(mixes, self.hash.heads), out=by_row)
        return result if out is None else out

    def prefetch(
        self,
        ids: ArrayLike,
        history: ArrayLike | None = None,
        *,
        lengths: ArrayLike | None = None,
        cu_seqlens: ArrayLike | None = None,
    ) -> None:
        """Begin to read the rows of tokens, and return at once: see `fastembed.DiskTable.prefetch`.

        Parameters
        ----------
        ids, history, lengths, cu_seqlens
            As in a call.

        Raises
        ------
        TypeError
            The table is in memory, and nothing can be read ahead.
        IndexError, ValueError
            As in a call.
        """
        if not hasattr(self.table, "prefetch"):
            raise TypeError(f"table must be a DiskTable for rows to be read ahead, got {_checks.shown(self.table)}")
        self.table.prefetch(self.hash(ids, history=history, lengths=lengths, cu_seqlens=cu_seqlens))

    def __repr__(self) -> str:
        return f"PackedNgramEmbedding({self.hash!r}, {self.table!r})"


def _output(out: Array | None, shape: tuple[int, ...], dtype: np.dtype[Any], **read: Any) -> tuple[Array, Array]:
    """The array for a result, rows of a token side by side; and its view of ``shape``, by rows."""
    result = _checks.output(out, (*shape[:-2], shape[-2] * shape[-1]), dtype, **read)
    return result, result.reshape(shape)
