"""HashEmbedding: the sum of four rows of a small table, which a hash of the id selects.

V: rows of the table; D: columns; S: the shape of the ids.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .. import _checks
from .._kernels.backend import kernels
from .._kernels.floats import own_floats
from ..functional import bags as bag_ops
from ..functional import lookup
from ..tables.storage import Storage
from .one_table import OneTable

if TYPE_CHECKING:
    from .._typing import Array, ArrayLike, DTypeLike, Rng
    from ..tables.vocabulary import Vocabulary
    from .differentiable import CallHandle


def hash_ids(ids: Any, num_rows: int, *, seed: int = 0, hash: Callable[[str], int] | None = None) -> Array:
    """The four rows of each id in a hashed table of ``num_rows``.

    Parameters
    ----------
    ids : array_like of integers or of strings, shape S
        Integers of 64 bits; a negative one is hashed as its two's complement.
    num_rows : int
        V, from 1 to 2**32 - 1.
    seed : int
        The seed of the hash, from 0 to 2**32 - 1.
    hash : callable, optional
        Maps a string to an integer of 64 bits, for ids that are strings: by default MurmurHash2
        (64A) of its UTF-8 with the seed 1, by which spaCy numbers strings.

    Returns
    -------
    ndarray of int64, shape S + (4,)
        The four 32-bit parts of MurmurHash3 (x64, 128 bits) of the 8 bytes of the id, low bytes
        first, modulo V, as thinc's ``ops.hash(ids, seed) % V``. An id's rows need not be distinct.

    Raises
    ------
    TypeError, ValueError
        Ids are neither integers nor strings; or a number is out of range.

    Examples
    --------
    >>> import fastembed as fe
    >>> fe.hash_ids([0, 2**63, -1], 1000)
    array([[819, 695, 794,  84],
           [423, 918, 846, 680],
           [ 99, 458, 871, 177]])
    """
    n_rows, start = _checks.uint32("num_rows", num_rows, 1), _checks.uint32("seed", seed)
    return kernels.hash_rows(_checks.hash_keys(ids, _checks.function("hash", hash), kernels.hash_string), start, n_rows)


def murmur_hash(ids: Any, *, seed: int = 0, hash: Callable[[str], int] | None = None) -> Array:
    """The hash of each id itself, of which `hash_ids` takes the remainders.

    Parameters
    ----------
    ids, seed, hash
        As in `hash_ids`.

    Returns
    -------
    ndarray of uint32, shape S + (4,)
        As thinc's ``ops.hash(ids, seed)``.

    Raises
    ------
    TypeError, ValueError
        As in `hash_ids`.

    Examples
    --------
    >>> import fastembed as fe
    >>> fe.murmur_hash([0])
    array([[3428303819,  685728695, 3303603794, 4065689084]], dtype=uint32)
    """
    start = _checks.uint32("seed", seed)
    return kernels.hash_parts(_checks.hash_keys(ids, _checks.function("hash", hash), kernels.hash_string), start)


class HashEmbedding(OneTable):
    """A table for any number of ids: the sum of the four rows that a hash of the id selects.

    Parameters
    ----------
    num_rows : int
        V, the number of rows: from 1 to 2**32 - 1, and usually far fewer than there are ids.
    embedding_dim : int
        D, the length of a row.
    seed : int
        The seed of the hash, from 0 to 2**32 - 1. Layers of one model should have different seeds.
    hash : callable, optional
        Maps a string to an integer of 64 bits, for ids that are strings, by default as in
        `hash_ids`. It must give the same in every process; Python's own ``hash`` does not, which is
        a UserWarning.
    dropout : float
        The probability that a column of the result is 0, in train mode; others are divided by 1 -
        dropout. One mask serves all ids of a call.
    dropout_seed : int
        The seed of the mask, which depends on it, the number of the call and the column alone.
    dtype, rng, trainable_rows
        As in `Embedding`.
    std : float
        Standard deviation of the normal distribution, of mean 0, that a new table is drawn from. A
        sum of four rows has twice that.

    Attributes
    ----------
    weight : ndarray of shape (V, D)

    Notes
    -----
    As thinc's HashEmbed: the rows of an id are those of `hash_ids`, added to 0 in their order.

    Examples
    --------
    >>> import numpy as np, fastembed as fe
    >>> layer = fe.HashEmbedding(1000, 4, seed=7, rng=0)
    >>> x = layer([[3, 2**63], [-1, 12]])
    >>> x.shape, bool(np.allclose(x[0, 1], layer.weight[layer.rows_of(2**63)].sum(0)))
    ((2, 2, 4), True)
    """

    _aliases: ClassVar[dict[str, str]] = {"E": "weight"}
    _options = ("seed", "hash", "dropout", "dropout_seed")
    _check_hash = staticmethod(partial(_checks.function, "hash"))

    def __init__(
        self,
        num_rows: int,
        embedding_dim: int,
        *,
        seed: int = 0,
        hash: Callable[[str], int] | None = None,
        dropout: float = 0.0,
        dropout_seed: int = 0,
        dtype: DTypeLike = "float32",
        std: float = 0.5,
        rng: Rng = None,
        trainable_rows: Any = None,
    ) -> None:
        options = {"seed": seed, "hash": hash, "dropout": dropout, "dropout_seed": dropout_seed}
        self._init_random(_checks.uint32("num_rows", num_rows, 1), embedding_dim, dtype, std, rng, trainable_rows, **options)

    def _set_up(  # type: ignore[override]  # it has none of the row options of OneTable
        self,
        weight: Array,
        freeze: bool,
        trainable_rows: Any,
        storage: Storage | None = None,
        *,
        seed: int = 0,
        hash: Callable[[str], int] | None = None,
        dropout: float = 0.0,
        dropout_seed: int = 0,
    ) -> None:
        _checks.uint32("the number of rows", len(weight), 1)
        self._seed, self._hash = _checks.uint32("seed", seed), _checks.string_hash(hash)
        self._set_dropout(dropout, dropout_seed)
        super()._set_up(weight, freeze, trainable_rows, storage)

    dropout: Any = property(operator.attrgetter("_dropout"), doc="The probability that a column is 0, in train mode.")
    dropout_seed: Any = property(operator.attrgetter("_dropout_seed"), doc="The seed of dropout masks.")

    @property
    def num_rows(self) -> int:
        """V, the number of rows."""
        return self.num_embeddings

    @property
    def seed(self) -> int:
        """The seed of the hash."""
        return self._seed

    def rows_of(self, ids: Any) -> Array:
        """The four rows of each id, int64 of shape S + (4,). See `fastembed.hash_ids`."""
        return hash_ids(ids, self.num_rows, seed=self._seed, hash=self._hash)

    def _bags(self, rows: Array) -> bag_ops.Bags:
        """Bags of the four rows of each id."""
        four = rows.reshape(-1, 4)
        return bag_ops.Bags(four, np.arange(len(four) + 1) * 4, "sum", None, None)

    def _mask(self, number: int) -> Array:
        """The factors of the columns in the call of that number: 0, or 1 / (1 - dropout)."""
        mask = np.ones((1, self.embedding_dim), self._arithmetic)
        kernels.dropout(mask, self.dropout, self.dropout_seed, number)
        return mask

    @own_floats
    def _drop_elements(self, sums: Array, number: int) -> None:
        sums *= self._mask(number)

    def __call__(self, ids: Any, *, out: Array | None = None, out_dtype: DTypeLike | None = None) -> Array:
        """The sum of the four rows of each id, shape S + (D,); ids as in `fastembed.hash_ids`."""
        return self.call(ids, out=out, out_dtype=out_dtype)[0]

    def call(self, ids: Any, *, out: Array | None = None, out_dtype: DTypeLike | None = None) -> tuple[Array, CallHandle]:
        """What a call of the layer returns, and a handle of this call. See `Embedding.call`."""
        weight, rows = self.tables["weight"], self.rows_of(ids)
        to = _checks.result_dtype(out_dtype, self.dtype)
        result = _checks.output(out, (*rows.shape[:-1], self.embedding_dim), to, table=weight, ids=ids)
        with lookup.matrix_buffer(result) as sums:
            with self.up_to_date({"weight": rows}):
                bag_ops.look_up(weight, self._bags(rows), sums)
                self._counter.add({"weight": rows})
            self._n_calls += self.training
            number = self._n_calls if self.training and self.dropout else 0
            if number:
                self._drop_elements(sums, number)
        return result if out is None else out, self._handle(ids, number)

    @own_floats
    def backward(self, dout: ArrayLike, ids: Any = None, *, call: CallHandle | None = None, optimizer: Any = None) -> None:
        """Accumulate the gradient of a call, or take a step with it: see `Embedding.backward`.

        Each of the four rows of an id gets ``dout``, twice if the row occurs twice. Ids and dropout
        mask are those of ``call`` or, without it, of the last call in train mode. ``ids`` are for a
        call without dropout: in train mode a layer with dropout refuses them.
        """
        call_ids, number = self._call_arguments(call, ids, 0)
        rows = self.rows_of(call_ids)
        gradients = _checks.rows("dout", dout, (*rows.shape[:-1], self.embedding_dim), self._arithmetic)
        if number:
            gradients = gradients * self._mask(number)
        batch = bag_ops.batch_backward(gradients, self._bags(rows), rows, self.num_rows, False)
        self._accumulate_or_step({"weight": batch}, optimizer)

    def _resize(self, name: str, n: int, new_rows: ArrayLike | None, vocabulary: Vocabulary | None) -> None:
        """Unsupported: another number of rows would give every id other rows."""
        raise ValueError(
            f"a hashed table keeps its {self.num_rows} rows: the rows of an id are its hash modulo their number, so that with "
            f"{n} of them nearly every id would have other rows"
        )

    def __repr__(self) -> str:
        dropout = f", dropout={self.dropout}" if self.dropout else ""
        return f"HashEmbedding({self.num_rows}, {self.embedding_dim}, seed={self._seed}, dtype={self.dtype}{dropout})"
