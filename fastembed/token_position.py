"""TokenPositionEmbedding: a token table and a position table whose rows are added.

All work is done by `ops`, but that a call with plain arguments goes from the inherited `__call__` to C at once.

V: rows of the token table; P: rows of the position table; D: columns; S: the shape of the ids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from . import _checks, ops
from ._backend import kernels
from .layer import Layer, normal

if TYPE_CHECKING:
    from ._typing import Array, ArrayLike, DTypeLike, Rng


class TokenPositionEmbedding(Layer, kernels.PairLookup):
    """A token table and a position table whose rows are added: the embedding stage of microgpt and GPT-2.

    Parameters
    ----------
    vocab_size : int
        V, rows of the token table.
    block_size : int
        P, rows of the position table: the longest sequence.
    n_embd : int
        D, the length of a row.
    dtype : {"float32", "float64", "float16", "bfloat16"}
        Tables of half precision compute in float32, and so do their gradients and optimisers.
    std : float
        Standard deviation of the normal distribution that the tables are drawn from (mean 0), ``wte`` first.
    rng : numpy.random.Generator, int or None
        Where the numbers come from: a generator, a seed, or fresh entropy.
    trainable_rows : array_like, or mapping of table name to array_like, optional
        Numbers, or a mask, of the rows (of ``wte``, if no table is named) that optimisers change: all of them by default.
        Settable at any time.

    Attributes
    ----------
    wte : ndarray of shape (V, D)
    wpe : ndarray of shape (P, D)

    Examples
    --------
    >>> import numpy as np, fastembed as fe
    >>> emb = fe.TokenPositionEmbedding(27, 8, 16, dtype="float64", rng=0)
    >>> x = emb(4, 2)  # one token 'e' at position 2
    >>> x.shape, bool(np.all(x == emb.wte[4] + emb.wpe[2]))
    ((16,), True)
    >>> emb([[26, 4, 12], [26, 0, 13]]).shape
    (2, 3, 16)
    """

    _aliases: ClassVar[dict[str, str]] = {"wte.weight": "wte", "wpe.weight": "wpe"}

    def __init__(
        self,
        vocab_size: int,
        block_size: int,
        n_embd: int,
        *,
        dtype: DTypeLike = "float32",
        std: float = 0.02,
        rng: Rng = None,
        trainable_rows: Any = None,
    ) -> None:
        n_tokens, n_positions = _checks.size("vocab_size", vocab_size), _checks.size("block_size", block_size)
        width, to, generator = _checks.size("n_embd", n_embd), _checks.dtype(dtype), np.random.default_rng(rng)
        wte = normal((n_tokens, width), std, generator, to)
        wpe = normal((n_positions, width), std, generator, to)
        super().__init__({"wte": wte, "wpe": wpe}, trainable_rows=trainable_rows)

    @classmethod
    def from_arrays(cls, wte: ArrayLike, wpe: ArrayLike, *, trainable_rows: Any = None) -> Self:
        """A layer around two existing tables of one dtype and width: no copy, no random draw."""
        token_table, position_table = _checks.table("wte", wte), _checks.table("wpe", wpe)
        if token_table.dtype.newbyteorder("=") != position_table.dtype.newbyteorder("="):
            raise TypeError(f"wpe must have the dtype of wte, {token_table.dtype}, got {position_table.dtype}")
        if token_table.shape[1] != position_table.shape[1]:
            raise ValueError(f"wpe must have shape (rows, {token_table.shape[1]}), got {position_table.shape}")
        layer = cls.__new__(cls)
        Layer.__init__(layer, {"wte": token_table, "wpe": position_table}, trainable_rows=trainable_rows)
        return layer

    @property
    def wte(self) -> Array:
        """The token table itself, shape (V, D), all rows up to date: write into it to change it."""
        self.flush()
        return self.tables["wte"]

    @property
    def wpe(self) -> Array:
        """The position table itself, shape (P, D), all rows up to date: write into it to change it."""
        self.flush()
        return self.tables["wpe"]

    @property
    def vocab_size(self) -> int:
        """V, rows of the token table."""
        return len(self.tables["wte"])

    @property
    def block_size(self) -> int:
        """P, rows of the position table."""
        return len(self.tables["wpe"])

    @property
    def n_embd(self) -> int:
        """D, the length of a row."""
        return self.tables["wte"].shape[1]

    def _look_up(self, token_ids: ArrayLike, position_ids: ArrayLike | None, start: int, out: Array | None) -> Array:
        wte, wpe = self.tables.values()
        if not self._is_behind:
            return ops.gather_add(wte, token_ids, wpe, position_ids, start=start, out=out)
        token_rows, position_rows = ops.resolve_pair(token_ids, len(wte), position_ids, start, len(wpe))
        with self.caught_up({"wte": token_rows, "wpe": position_rows}):
            return ops.gather_add(wte, token_ids, wpe, position_ids, start=start, out=out)

    def backward(
        self,
        dout: ArrayLike,
        ids: ArrayLike | None = None,
        position_ids: ArrayLike | None = None,
        *,
        start: int = 0,
        optimizer: Any = None,
    ) -> None:
        """Accumulate the gradient of a call into `grads`, for both tables, or let an optimiser take a step with it.

        Parameters
        ----------
        dout : array_like of shape S + (D,)
            The gradient of what the call returned.
        ids : array_like of integers, shape S, optional
            The token ids of that call; by default the arguments of the last call in train mode.
        position_ids, start
            As they were in that call; they go with ``ids``.
        optimizer : one of fastembed.optim, optional
            That holds this layer: it reduces the gradient of each row and updates the row in one pass; none is stored.

        Raises
        ------
        RuntimeError
            There are no ids; or there is an accumulated gradient, and an optimiser that would not see it.
        IndexError, TypeError, ValueError
            As in `fastembed.gather_add_backward`. Nothing is changed.
        """
        if ids is None and (position_ids is not None or start != 0):
            raise ValueError("position_ids and start go with ids, and none were given")
        token_ids, position_ids, start = self._ids_of_last_call() if ids is None else (ids, position_ids, start)
        token_rows, position_rows = ops.resolve_pair(token_ids, self.vocab_size, position_ids, start, self.block_size)
        self._backward({"wte": token_rows, "wpe": position_rows}, dout, optimizer)

    def __repr__(self) -> str:
        return f"TokenPositionEmbedding({self.vocab_size}, {self.block_size}, {self.n_embd}, dtype={self.dtype})"
