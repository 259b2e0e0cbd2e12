"""NgramEmbedding: the rows of a table that hashes of n-grams select, side by side.

V: rows of the table; D: columns; T: tokens of a sequence; W: rows of a token.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .. import _checks
from .._kernels.floats import own_floats
from ..functional import lookup
from ..functional.batch import batch_of
from ..functional.ngram.calls import look_up, look_up_in_all
from ..functional.ngram.hash import NgramHash
from ..tables.attribute import Declared
from ..tables.packed import PackedRows
from ..tables.storage import Storage
from .bag import EmbeddingBag
from .one_table import OneTable

if TYPE_CHECKING:
    from .._kernels.packing import Packing
    from .._typing import Array, ArrayLike, DTypeLike, Rng
    from ..tables.row_calls import RowTable
    from ..tables.vocabulary import Vocabulary
    from .differentiable import CallHandle


def _checked_hash(hash: Any, n_rows: int = _checks.INT64_MAX) -> NgramHash:
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
    _check_hash = staticmethod(_checked_hash)

    def __init__(self, hash: NgramHash, table: ArrayLike, *, freeze: bool = False, trainable_rows: Any = None) -> None:
        checked = _checked_hash(hash)
        self._set_up(_checks.table("table", table), freeze, trainable_rows, hash=checked)

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
        layer._init_random(_checked_hash(hash).n_rows, embedding_dim, dtype, std, rng, trainable_rows, hash=hash)
        return layer

    def _set_up(  # type: ignore[override]  # it has none of the row options of OneTable
        self, weight: Array, freeze: bool, trainable_rows: Any, storage: Storage | None = None, *, hash: NgramHash | None = None
    ) -> None:
        self._hash = _checked_hash(hash, len(weight))
        if storage is not None and storage.is_mapped:
            self._check_file(storage)
        super()._set_up(weight, freeze, trainable_rows, storage)

    def _check_file(self, files: Any) -> None:
        """ValueError if a mapped file was saved with another hash."""
        from ..io import checkpoint
        from .files import saved

        if files.name:  # a .npy file says nothing of a hash
            saved.check_digest(files.path, checkpoint.contents(files.path)[1], self._hash)

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
        result = look_up(self, ids, history, lengths, cu_seqlens, out)
        return result, self._handle(ids, history, lengths, cu_seqlens)

    @property
    def _result_dtype(self) -> np.dtype[Any]:
        return self.dtype

    def _output(self, out: Array | None, shape: tuple[int, ...], **read: Any) -> Array:
        return _checks.output(out, shape, self.dtype, table=self.tables["weight"], **read)

    def _table_in_place(self) -> tuple[Array, Packing | None] | None:
        """The table, for kernels; None where pending updates, counts or a mapped file need rows."""
        weight = self.tables["weight"]
        return (weight, None) if self._fast_path and _checks.is_readable_in_place(weight, self.dtype) else None

    def _look_up_rows(self, rows: Array, by_row: Array) -> None:
        self.storage.prefetch(rows)
        with self.up_to_date({"weight": rows}):
            lookup.gather(self.tables["weight"], rows, out=by_row)
            self._counter.add({"weight": rows})

    @own_floats
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
        layers: Iterable[NgramEmbedding | PackedNgramEmbedding],
        ids: ArrayLike,
        history: ArrayLike | None = None,
        *,
        lengths: ArrayLike | None = None,
        cu_seqlens: ArrayLike | None = None,
        outs: Iterable[Array | None] | None = None,
    ) -> list[Array]:
        """What each of several layers returns for the same tokens, in one call.

        Parameters
        ----------
        layers : iterable of NgramEmbedding and PackedNgramEmbedding
        ids, history, lengths, cu_seqlens
            As in a call of one layer.
        outs : iterable of ndarray or None, optional
            The array for the result of each layer.

        Raises
        ------
        IndexError, TypeError, ValueError
            As in a call of one layer. Nothing is written.

        Examples
        --------
        >>> import fastembed as fe
        >>> hash = fe.NgramHash([3, 5], [[7, 11]], vocab_size=100, fill=0)
        >>> layers = [fe.NgramEmbedding.random(hash, 4, rng=k) for k in range(2)]
        >>> [x.shape for x in fe.NgramEmbedding.look_up_layers(layers, [1, 2, 3])]
        [(3, 8), (3, 8)]
        """
        every = _listed("layers", layers)
        for layer in every:
            if not isinstance(layer, NgramEmbedding | PackedNgramEmbedding):
                raise TypeError(f"layers must be NgramEmbedding or PackedNgramEmbedding, got {_checks.shown(layer)}")
        given = [None] * len(every) if outs is None else _listed("outs", outs)
        if len(given) != len(every):
            raise ValueError(f"outs must be {len(every)} arrays, one for each layer, got {len(given)}")
        results = look_up_in_all(every, ids, history, lengths, cu_seqlens, given)
        for layer in every:
            layer._handle(ids, history, lengths, cu_seqlens)
        return results

    def _resize(self, name: str, n: int, new_rows: ArrayLike | None, vocabulary: Vocabulary | None) -> None:
        """Unsupported below the rows of the hash; a table may have more."""
        if n < self._hash.n_rows:
            raise ValueError(f"n must be at least {self._hash.n_rows}, the rows that the hash selects; got {n}")
        super()._resize(name, n, new_rows, vocabulary)

    def __repr__(self) -> str:
        return f"NgramEmbedding({self._hash!r}, {self.num_embeddings} rows of {self.embedding_dim}, dtype={self.dtype})"


def _listed(name: str, values: Any) -> list[Any]:
    if not isinstance(values, Iterable):
        raise TypeError(f"{name} must be an iterable, got {_checks.shown(values)}")
    return list(values)


class PackedNgramEmbedding(Declared):
    """`NgramEmbedding` on a packed table, for inference.

    Parameters
    ----------
    hash : NgramHash
    table : PackedTable, QuantizedEmbedding, DiskTable, or another layer that returns rows for ids
        At least ``hash.n_rows`` rows, of float32 unless its ``dtype`` says otherwise. Rows of the
        first two are decoded while the rows of further tokens are computed; of others the numbers
        of rows are computed first.

    Examples
    --------
    >>> import numpy as np, fastembed as fe
    >>> hash = fe.NgramHash([3, 5], [[7, 11]], vocab_size=100, fill=0)
    >>> table = fe.QuantizedEmbedding.from_float(np.ones((18, 4), np.float32))
    >>> fe.PackedNgramEmbedding(hash, table)([[1, 2, 3]]).shape
    (1, 3, 8)
    """

    hash: NgramHash
    table: RowTable

    def __init__(self, hash: NgramHash, table: RowTable) -> None:
        for name in ("num_embeddings", "embedding_dim", "__call__"):
            if not hasattr(table, name):
                raise TypeError(f"table must be a layer that returns rows for ids, got {_checks.shown(table)}, without {name}")
        if isinstance(table, EmbeddingBag):
            raise TypeError(f"table must be a layer that returns a row for each id, got {_checks.shown(table)}")
        self.hash, self.table = _checked_hash(hash, table.num_embeddings), table

    @property
    def embedding_dim(self) -> int:
        """D, the number of elements of a row."""
        return self.table.embedding_dim

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
            The array for the result, of the dtype of the table's results. With a `PackedTable` or a
            `QuantizedEmbedding` also of float16 or bfloat16, to which rows are then rounded.

        Returns
        -------
        ndarray
            ``out`` if it was given, else an array of the dtype of the table's results.

        Raises
        ------
        IndexError, TypeError, ValueError
            As in a call of `NgramEmbedding`. Nothing is written.
        """
        return look_up(self, ids, history, lengths, cu_seqlens, out)

    @property
    def _result_dtype(self) -> np.dtype[Any]:
        return self.table._dtype if isinstance(self.table, PackedRows) else np.dtype(getattr(self.table, "dtype", np.float32))

    def _output(self, out: Array | None, shape: tuple[int, ...], **read: Any) -> Array:
        if isinstance(self.table, PackedRows):
            return self.table.output(out, shape, **read)
        return _checks.output(out, shape, self._result_dtype, **read)

    def _table_in_place(self) -> tuple[Array, Packing | None] | None:
        return self.table.rows_in_place if isinstance(self.table, PackedRows) else None

    def _look_up_rows(self, rows: Array, by_row: Array) -> None:
        self.table(rows, out=by_row)

    def _handle(self, *arguments: Any) -> None:
        """Nothing is kept of a call: there is no backward."""

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
