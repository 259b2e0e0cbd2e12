"""HashEmbedding: ids of any size, each hashed to four rows of a small table, which are summed.

V: rows of the table; D: columns; S: the shape of the ids.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .. import _checks
from .._kernels.backend import kernels
from ..functional import bags as bag_ops
from ..functional import lookup
from ..tables.storage import MEMORY, Storage
from .one_table import OneTable

if TYPE_CHECKING:
    from .._typing import Array, ArrayLike, DTypeLike, Rng
    from .vocabulary import Vocabulary


def hash_ids(ids: Any, num_rows: int, *, seed: int = 0, hash: Callable[[str], int] | None = None) -> Array:
    """The four rows that each id means in a table of ``num_rows``.

    Parameters
    ----------
    ids : array_like of integers or of strings, shape S
        Integers of 64 bits; one below 0 counts as its two's complement.
    num_rows : int
        V, from 1 to 2**32 - 1.
    seed : int
        From 0 to 2**32 - 1: another seed gives other rows.
    hash : callable, optional
        Makes an integer of 64 bits of a string.

    Returns
    -------
    ndarray of int64, shape S + (4,)
        The four 32-bit parts of MurmurHash3 (x64, 128 bits) of the 8 bytes of the id, low ones first, modulo V: what thinc's
        ``ops.hash(ids, seed) % V`` gives. Two of an id's rows may be the same.

    Raises
    ------
    TypeError, ValueError
        Ids are no integers, or strings without a ``hash``; or a number is out of range.

    Examples
    --------
    >>> import fastembed as fe
    >>> fe.hash_ids([0, 2**63, -1], 1000)
    array([[819, 695, 794,  84],
           [423, 918, 846, 680],
           [ 99, 458, 871, 177]])
    """
    n_rows, start = _checks.word("num_rows", num_rows, 1), _checks.word("seed", seed)
    return kernels.hash_rows(_checks.keys(ids, _checks.function("hash", hash)), start, n_rows)


class HashEmbedding(OneTable):
    """A look-up by ids that need no table of their own size: four rows that a hash selects are summed.

    Parameters
    ----------
    num_rows : int
        V, the number of rows: from 1 to 2**32 - 1, and usually far fewer than there are ids.
    embedding_dim : int
        D, the length of a row.
    seed : int
        Of the hash, from 0 to 2**32 - 1: layers beside each other are to have different ones.
    hash : callable, optional
        Makes an integer of 64 bits of a string, for ids that are strings. It has to give the same in every process: Python's own
        ``hash`` does not.
    dropout : float
        The probability that a column of the result is 0, in train mode; others are divided by 1 - dropout. One draw for all of a
        call.
    dropout_seed : int
        Of the random bits, which depend on it, the number of the call and the column alone.
    dtype, rng, trainable_rows
        As in `Embedding`.
    std : float
        Standard deviation of the normal distribution that the table is drawn from (mean 0). That of a sum of four is twice it.

    Attributes
    ----------
    weight : ndarray of shape (V, D)

    Notes
    -----
    thinc's HashEmbed: the rows of an id are those of `hash_ids`, summed in their order from 0 on.

    Examples
    --------
    >>> import numpy as np, fastembed as fe
    >>> layer = fe.HashEmbedding(1000, 4, seed=7, rng=0)
    >>> x = layer([[3, 2**63], [-1, 12]])
    >>> x.shape, bool(np.allclose(x[0, 1], layer.weight[layer.rows_of(2**63)].sum(0)))
    ((2, 2, 4), True)
    """

    _aliases: ClassVar[dict[str, str]] = {"E": "weight"}

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
        self._init_random(_checks.word("num_rows", num_rows, 1), embedding_dim, dtype, std, rng, trainable_rows, **options)

    def _set_up(  # type: ignore[override]  # the options of rows are not for it
        self,
        weight: Array,
        freeze: bool,
        trainable_rows: Any,
        storage: Storage = MEMORY,
        *,
        seed: int = 0,
        hash: Callable[[str], int] | None = None,
        dropout: float = 0.0,
        dropout_seed: int = 0,
    ) -> None:
        _checks.word("the number of rows", len(weight), 1)
        self._seed, self._hash = _checks.word("seed", seed), _checks.function("hash", hash)
        self._set_dropout(dropout, dropout_seed)
        super()._set_up(weight, freeze, trainable_rows, storage)

    def _hold(self, weight: Array) -> None:
        """Rows are looked up through the checks of `bag_ops`, which keep the table in place."""

    dropout: Any = property(operator.attrgetter("_dropout"), doc="The probability that a column is 0, in train mode.")
    dropout_seed: Any = property(operator.attrgetter("_dropout_seed"), doc="Of the random bits of dropout.")

    @property
    def num_rows(self) -> int:
        """V, the number of rows."""
        return self.num_embeddings

    @property
    def seed(self) -> int:
        """Of the hash."""
        return self._seed

    def rows_of(self, ids: Any) -> Array:
        """The four rows of each id, int64 of shape S + (4,). See `fastembed.hash_ids`."""
        return hash_ids(ids, self.num_rows, seed=self._seed, hash=self._hash)

    def _bags(self, rows: Array) -> bag_ops.Bags:
        four = rows.reshape(-1, 4)
        return bag_ops.Bags(four, np.arange(len(four) + 1) * 4, "sum", None, None)

    def _mask(self, number: int) -> Array:
        """What the columns are multiplied by in that call."""
        mask = np.ones((1, self.embedding_dim), self._arithmetic)
        kernels.dropout(mask, self.dropout, self.dropout_seed, number)
        return mask

    def __call__(self, ids: Any, *, out: Array | None = None) -> Array:
        """The sum of the four rows of each id, shape S + (D,); ids as in `fastembed.hash_ids`."""
        weight, rows = self.tables["weight"], self.rows_of(ids)
        result = _checks.output(out, (*rows.shape[:-1], self.embedding_dim), self.dtype, table=weight, ids=ids)
        with lookup.as_matrix(result) as sums, np.errstate(over="ignore", invalid="ignore"):
            with self.up_to_date({"weight": rows}):
                bag_ops.look_up(weight, self._bags(rows), sums)
                self._counter.add({"weight": rows})
            if self.training:
                self._n_calls += 1
                number = self._n_calls if self.dropout else 0
                self._last_ids = (ids, number)
                if number:
                    sums *= self._mask(number)
        return result if out is None else out

    def backward(self, dout: ArrayLike, ids: Any = None, *, optimizer: Any = None) -> None:
        """Accumulate the gradient of a call into `grads`, or let an optimiser take a step with it. See `Embedding.backward`.

        Each of the four rows of an id gets ``dout``, twice if it is the same row twice. By default ids and dropout are those of
        the last call in train mode; with ``ids`` nothing is dropped.
        """
        of_call, number = self._call_of(ids, 0)
        rows = self.rows_of(of_call)
        gradients = _checks.rows("dout", dout, (*rows.shape[:-1], self.embedding_dim), self._arithmetic)
        if number:
            with np.errstate(over="ignore", invalid="ignore"):
                gradients = gradients * self._mask(number)
        batch = bag_ops.batch_back(gradients, self._bags(rows), rows, self.num_rows, False)
        self._accumulate_or_step({"weight": batch}, optimizer)

    def _resize(self, name: str, n: int, new_rows: ArrayLike | None, vocabulary: Vocabulary | None) -> None:
        """Refused: another number of rows would give every id other rows."""
        raise ValueError(
            f"a hashed table keeps its {self.num_rows} rows: the rows of an id are its hash modulo their number, so that with "
            f"{n} of them nearly every id would have other rows"
        )

    def __repr__(self) -> str:
        dropout = f", dropout={self.dropout}" if self.dropout else ""
        return f"HashEmbedding({self.num_rows}, {self.embedding_dim}, seed={self._seed}, dtype={self.dtype}{dropout})"
