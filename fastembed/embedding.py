"""Embedding and TokenPositionEmbedding: thin classes that own tables and gradients.

All work is done by `ops`, but that a call with plain arguments goes from the inherited `__call__` to C at once.

V: rows of a token table; P: rows of a position table; D: columns; S: the shape of the ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from . import _checks, ops
from ._backend import kernels
from .rowgrad import RowGrad

if TYPE_CHECKING:
    from ._typing import Array, ArrayLike, DTypeLike, Rng


def _normal(shape: tuple[int, int], std: float, rng: np.random.Generator, dtype: np.dtype[Any]) -> Array:
    """Normal numbers drawn in float64, row by row, and rounded to ``dtype``: one seed gives one table in every dtype."""
    std = _checks.number("std", std, 0.0, 3.4e38)
    table = np.empty(shape, dtype)
    n_block = 4096  # rows that are float64 at one time
    for first in range(0, shape[0], n_block):
        block = table[first : first + n_block]
        block[...] = rng.normal(0.0, std, block.shape)
    return table


class _Layer:
    """Tables by name, a row-sparse gradient for each, and the ids of the last call."""

    training: bool
    _last_ids: tuple[Any, ...] | None
    _hold: Any  # from SingleLookup or PairLookup
    _aliases: ClassVar[dict[str, str]] = {}  # other names of the tables in checkpoints

    def __init__(self, tables: dict[str, Array], trainable: bool = True) -> None:
        self._tables = tables
        self._hold(*tables.values())
        self._last_ids = None
        self.training = True
        self.trainable = trainable
        self.zero_grad()

    @property
    def dtype(self) -> np.dtype[Any]:
        """The tables' dtype, in native byte order."""
        return next(iter(self._tables.values())).dtype.newbyteorder("=")

    def parameters(self) -> list[Array]:
        """The tables themselves, in the order of `state_dict`."""
        return list(self._tables.values())

    def state_dict(self) -> dict[str, Array]:
        """The tables themselves by name: later training shows in them. Copy them to keep a state."""
        return dict(self._tables)

    def load_state_dict(self, state: Mapping[str, ArrayLike], strict: bool = True) -> None:
        """Copy tables into this layer's.

        Parameters
        ----------
        state : mapping of name to array_like
            Names as in `state_dict`, or as in GPT-2 checkpoints (``wte.weight``, ``transformer.wte.weight``).
        strict : bool
            Whether a missing or an unexpected name is an error; otherwise such names are passed over.

        Raises
        ------
        KeyError
            A name is missing, unexpected, or there twice. No table is changed.
        ValueError, TypeError
            An array has another shape, or a dtype that does not convert. No table is changed.
        """
        if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
            raise TypeError(f"state must be a mapping of names to arrays, got {type(state).__name__}")
        known: dict[str, Any] = {}
        unexpected = []
        for key, value in state.items():
            plain = key.removeprefix("transformer.")
            name = self._aliases.get(plain, plain)
            if name not in self._tables:
                unexpected.append(key)
            elif name in known:
                raise KeyError(f"{name} is there twice in {sorted(state)}")
            else:
                known[name] = value
        missing = [name for name in self._tables if name not in known]
        if strict and (missing or unexpected):
            raise KeyError(f"missing names {missing}, unexpected names {unexpected}; expected {list(self._tables)}")
        arrays = {name: _checks.like(name, value, self._tables[name].shape, self.dtype) for name, value in known.items()}
        _checks.copy_into([(_checks.writable_table(name, self._tables[name]), array) for name, array in arrays.items()])

    def grads(self) -> dict[str, RowGrad]:
        """The accumulated gradient of each table, names as in `state_dict`; without rows before the first backward."""
        return dict(self._grads)

    def zero_grad(self) -> None:
        """Forget the accumulated gradients."""
        self._grads = {name: RowGrad.zeros(table.shape, self.dtype) for name, table in self._tables.items()}

    def train(self, mode: bool = True) -> Self:
        """Keep a reference to the ids of each call, for `backward`. The default."""
        self.training = mode
        if not mode:
            self._last_ids = None
        return self

    def eval(self) -> Self:
        """Keep no ids of a call: `backward` then needs them as an argument."""
        return self.train(False)

    def _ids_of_last_call(self) -> tuple[Any, ...]:
        if self._last_ids is None:
            raise RuntimeError("backward needs ids: there was no call in train mode, and none were given")
        return self._last_ids

    def _accumulate(self, rows_by_name: dict[str, Array], dout: ArrayLike) -> None:
        """Add ``dout`` to the gradient of every table; all of them, or none where an argument does not fit."""
        some_rows = next(iter(rows_by_name.values()))
        width = self.parameters()[0].shape[1]
        values = _checks.rows("dout", dout, (*some_rows.shape, width), self.dtype)
        self._grads = {name: self._grads[name].accumulate(rows, values) for name, rows in rows_by_name.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.__dict__, self.training)


def _restored(cls: type[_Layer], state: dict[str, Any], training: bool) -> _Layer:
    """A layer from what `copy` or `pickle` kept of it: everything but the ids of the last call."""
    layer = cls.__new__(cls)
    _Layer.__init__(layer, state["_tables"])
    layer.__dict__.update(state)
    return layer.train(training)


class Embedding(_Layer, kernels.SingleLookup):
    """A table whose rows are looked up by id.

    Parameters
    ----------
    num_embeddings : int
        V, the number of rows.
    embedding_dim : int
        D, the length of a row.
    dtype : {"float32", "float64"}
    std : float
        Standard deviation of the normal distribution that the table is drawn from (mean 0).
    rng : numpy.random.Generator, int or None
        Where the numbers come from: a generator, a seed, or fresh entropy.

    Attributes
    ----------
    weight : ndarray of shape (V, D)

    Examples
    --------
    >>> import fastembed as fe
    >>> layer = fe.Embedding(10, 3, rng=0)
    >>> layer([[1, 2, 4], [4, 3, 2]]).shape
    (2, 3, 3)
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int, *, dtype: DTypeLike = "float32", std: float = 1.0, rng: Rng = None
    ) -> None:
        shape = (_checks.size("num_embeddings", num_embeddings), _checks.size("embedding_dim", embedding_dim))
        super().__init__({"weight": _normal(shape, std, np.random.default_rng(rng), _checks.dtype(dtype))})

    @classmethod
    def from_pretrained(cls, array: ArrayLike, freeze: bool = False) -> Self:
        """A layer around an existing table: no copy, no random draw.

        Parameters
        ----------
        array : array_like of shape (V, D), float32 or float64
        freeze : bool
            Whether optimisers leave the table as it is.
        """
        layer = cls.__new__(cls)
        _Layer.__init__(layer, {"weight": _checks.table("array", array)}, trainable=not freeze)
        return layer

    @property
    def weight(self) -> Array:
        """The table itself, shape (V, D): write into it to change it."""
        return self._tables["weight"]

    @property
    def num_embeddings(self) -> int:
        """V, the number of rows."""
        return len(self.weight)

    @property
    def embedding_dim(self) -> int:
        """D, the length of a row."""
        return self.weight.shape[1]

    def _look_up(self, ids: ArrayLike, out: Array | None) -> Array:
        return ops.gather(self.weight, ids, out=out)

    def backward(self, dout: ArrayLike, ids: ArrayLike | None = None) -> None:
        """Accumulate the gradient of a call into `grads`.

        Parameters
        ----------
        dout : array_like of shape S + (D,)
            The gradient of what the call returned.
        ids : array_like of integers, shape S, optional
            The ids of that call; by default those of the last call in train mode.

        Raises
        ------
        RuntimeError
            There are no ids.
        IndexError, TypeError, ValueError
            As in `fastembed.scatter_add`. The gradient is unchanged.
        """
        (of_call,) = self._ids_of_last_call() if ids is None else (ids,)
        self._accumulate({"weight": ops.resolve_ids(of_call, self.num_embeddings)}, dout)

    def __repr__(self) -> str:
        return f"Embedding({self.num_embeddings}, {self.embedding_dim}, dtype={self.dtype})"


class TokenPositionEmbedding(_Layer, kernels.PairLookup):
    """A token table and a position table whose rows are added: the embedding stage of microgpt and GPT-2.

    Parameters
    ----------
    vocab_size : int
        V, rows of the token table.
    block_size : int
        P, rows of the position table: the longest sequence.
    n_embd : int
        D, the length of a row.
    dtype : {"float32", "float64"}
    std : float
        Standard deviation of the normal distribution that the tables are drawn from (mean 0), ``wte`` first.
    rng : numpy.random.Generator, int or None
        Where the numbers come from: a generator, a seed, or fresh entropy.

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
    ) -> None:
        n_tokens, n_positions = _checks.size("vocab_size", vocab_size), _checks.size("block_size", block_size)
        width, to, generator = _checks.size("n_embd", n_embd), _checks.dtype(dtype), np.random.default_rng(rng)
        wte = _normal((n_tokens, width), std, generator, to)
        super().__init__({"wte": wte, "wpe": _normal((n_positions, width), std, generator, to)})

    @classmethod
    def from_arrays(cls, wte: ArrayLike, wpe: ArrayLike) -> Self:
        """A layer around two existing tables of one dtype and width: no copy, no random draw."""
        token_table, position_table = _checks.table("wte", wte), _checks.table("wpe", wpe)
        if token_table.dtype.newbyteorder("=") != position_table.dtype.newbyteorder("="):
            raise TypeError(f"wpe must have the dtype of wte, {token_table.dtype}, got {position_table.dtype}")
        if token_table.shape[1] != position_table.shape[1]:
            raise ValueError(f"wpe must have shape (rows, {token_table.shape[1]}), got {position_table.shape}")
        layer = cls.__new__(cls)
        _Layer.__init__(layer, {"wte": token_table, "wpe": position_table})
        return layer

    @property
    def wte(self) -> Array:
        """The token table itself, shape (V, D): write into it to change it."""
        return self._tables["wte"]

    @property
    def wpe(self) -> Array:
        """The position table itself, shape (P, D): write into it to change it."""
        return self._tables["wpe"]

    @property
    def vocab_size(self) -> int:
        """V, rows of the token table."""
        return len(self.wte)

    @property
    def block_size(self) -> int:
        """P, rows of the position table."""
        return len(self.wpe)

    @property
    def n_embd(self) -> int:
        """D, the length of a row."""
        return self.wte.shape[1]

    def _look_up(self, token_ids: ArrayLike, position_ids: ArrayLike | None, start: int, out: Array | None) -> Array:
        return ops.gather_add(self.wte, token_ids, self.wpe, position_ids, start=start, out=out)

    def backward(
        self, dout: ArrayLike, ids: ArrayLike | None = None, position_ids: ArrayLike | None = None, *, start: int = 0
    ) -> None:
        """Accumulate the gradient of a call into `grads`, for both tables.

        Parameters
        ----------
        dout : array_like of shape S + (D,)
            The gradient of what the call returned.
        ids : array_like of integers, shape S, optional
            The token ids of that call; by default the arguments of the last call in train mode.
        position_ids, start
            As they were in that call; they go with ``ids``.

        Raises
        ------
        RuntimeError
            There are no ids.
        IndexError, TypeError, ValueError
            As in `fastembed.gather_add_backward`. The gradients are unchanged.
        """
        if ids is None and (position_ids is not None or start != 0):
            raise ValueError("position_ids and start go with ids, and none were given")
        token_ids, position_ids, start = self._ids_of_last_call() if ids is None else (ids, position_ids, start)
        token_rows, position_rows = ops.resolve_pair(token_ids, self.vocab_size, position_ids, start, self.block_size)
        self._accumulate({"wte": token_rows, "wpe": position_rows}, dout)

    def __repr__(self) -> str:
        return f"TokenPositionEmbedding({self.vocab_size}, {self.block_size}, {self.n_embd}, dtype={self.dtype})"
