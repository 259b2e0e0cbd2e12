"""TokenPositionEmbedding: token rows plus position rows, with types, norm, dropout and logits.

The inherited `__call__` answers calls with plain arguments in C; others go to `_call` here.

V: rows of the token table; P: rows of the position table; D: columns; S: the shape of the ids.
"""

from __future__ import annotations

import operator
import os
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from .. import _checks
from .._kernels.backend import kernels
from .._kernels.floats import own_floats
from ..functional import lookup
from ..functional.batch import batch_of
from ..functional.sequences import Call, resolve_sequences
from ..tables.attribute import TableAttribute
from ..tables.init import normal
from ..tables.vocabulary import Vocabulary
from .base import Layer
from .tied_head import TiedHead

if TYPE_CHECKING:
    from .._typing import Array, ArrayLike, DTypeLike, Rng
    from .differentiable import CallHandle


class TokenPositionEmbedding(TiedHead, kernels.PairLookup):
    """The sum of token rows and position rows: the embedding stage of microgpt, GPT-2 and BERT.

    Parameters
    ----------
    vocab_size : int
        V, rows of the token table.
    block_size : int
        P, rows of the position table: the longest sequence.
    n_embd : int
        D, the length of a row.
    n_types : int
        Rows of a third table, ``wtype``, for the type of each token (BERT's segments); 0 for none.
    token_scale : float
        A factor for token rows: the square root of D in the Transformer and in Gemma.
    norm : {"rms", "layer"}, optional
        A normalization of the sum over D, without gain: x / sqrt(mean(x^2) + norm_eps), for "layer"
        after the mean is subtracted.
    norm_eps : float
    dropout : float
        The probability that an element of the result is 0, in train mode; others are divided by 1 -
        dropout.
    dropout_seed : int
        The seed of dropout masks, which depend on it, the number of the call and the position
        alone.
    bounds : {"raise", "wrap", "clip", "zero"}
        The meaning of an id outside its table, in each of the tables, as in `fastembed.gather_add`.
    dtype : {"float32", "float64", "float16", "bfloat16"}
        Tables of half precision compute in float32, and so do their gradients and optimisers.
    std : float
        Standard deviation of the normal distribution, of mean 0, that new tables are drawn from,
        ``wte`` first.
    rng : numpy.random.Generator, int or None
        The source of random numbers: a generator, a seed, or fresh entropy.
    trainable_rows : array_like, or mapping of table name to array_like, optional
        Numbers, or a mask, of the rows (of ``wte``, if no table is named) that optimisers update;
        by default all. Settable at any time.

    Attributes
    ----------
    wte : ndarray of shape (V, D)
    wpe : ndarray of shape (P, D)
    wtype : ndarray of shape (n_types, D), or None

    Examples
    --------
    >>> import numpy as np, fastembed as fe
    >>> emb = fe.TokenPositionEmbedding(27, 8, 16, dtype="float64", rng=0)
    >>> x = emb(4, 2)  # one token 'e' at position 2
    >>> x.shape, bool(np.all(x == emb.wte[4] + emb.wpe[2]))
    ((16,), True)
    >>> emb([[26, 4, 12], [26, 0, 13]]).shape
    (2, 3, 16)
    >>> emb([[26, 4, 12], [26, 0, 0]], lengths=[3, 2])[1, 2].any()  # padding gives zeros
    np.False_
    """

    _aliases: ClassVar[dict[str, str]] = {"wte.weight": "wte", "wpe.weight": "wpe", "wtype.weight": "wtype"}
    _table_names = ("wte", "wpe", "wtype")
    _options = ("token_scale", "norm", "norm_eps", "dropout", "dropout_seed", "bounds")

    def __init__(
        self,
        vocab_size: int,
        block_size: int,
        n_embd: int,
        *,
        n_types: int = 0,
        dtype: DTypeLike = "float32",
        std: float = 0.02,
        rng: Rng = None,
        trainable_rows: Any = None,
        **options: Any,
    ) -> None:
        _checks.known_options(type(self).__name__, options, ("n_types", "dtype", "std", "rng", "trainable_rows", *self._options))
        sizes = (
            _checks.size(name, n) for name, n in (("vocab_size", vocab_size), ("block_size", block_size), ("n_types", n_types))
        )
        width, to, generator = _checks.size("n_embd", n_embd), _checks.dtype(dtype), _checks.generator(rng)
        wte, wpe, wtype = (normal((n_rows, width), std, generator, to) for n_rows in sizes)
        self._set_up(wte, wpe, wtype if len(wtype) else None, trainable_rows, **options)

    @classmethod
    def from_arrays(
        cls, wte: ArrayLike, wpe: ArrayLike, wtype: ArrayLike | None = None, *, trainable_rows: Any = None, **options: Any
    ) -> Self:
        """A layer around existing tables of one dtype and width: no copy, no random draw.

        Parameters
        ----------
        wte, wpe, wtype : array_like of shape (V, D), (P, D) and (n_types, D)
        trainable_rows : array_like, or mapping of table name to array_like, optional
        **options
            ``token_scale``, ``norm``, ``norm_eps``, ``dropout``, ``dropout_seed`` and ``bounds``,
            as in the constructor.
        """
        _checks.known_options(cls.__name__, options, ("trainable_rows", *cls._options))
        first = _checks.table("wte", wte)
        others = {"wpe": _checks.table("wpe", wpe)} | ({} if wtype is None else {"wtype": _checks.table("wtype", wtype)})
        for name, table in others.items():
            if _checks.native(first.dtype) != _checks.native(table.dtype):
                raise TypeError(f"{name} must have the dtype of wte, {first.dtype}, got {table.dtype}")
            if first.shape[1] != table.shape[1]:
                raise ValueError(f"{name} must have shape (rows, {first.shape[1]}), got {table.shape}")
        layer = cls.__new__(cls)
        layer._set_up(first, others["wpe"], others.get("wtype"), trainable_rows, **options)
        return layer

    _of_tables = from_arrays

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        *,
        wte: str = "wte",
        wpe: str = "wpe",
        wtype: str | None = None,
        dtype: DTypeLike | None = None,
        **options: Any,
    ) -> Self:
        """A layer with the tables of a checkpoint, such as GPT-2's; or a CheckpointError.

        Parameters
        ----------
        path : path-like
            A safetensors file, or a folder that `fastembed.load_vectors` reads, whose tokens become
            the vocabulary.
        wte, wpe, wtype : str
            The names of the tensors: "wte" is also found as "transformer.wte.weight". Of BERT they
            are "word_embeddings", "position_embeddings" and "token_type_embeddings".
        dtype : {"float32", "float64", "float16", "bfloat16"}, optional
            By default that of the file.
        **options
            As in `from_arrays`.

        Examples
        --------
        >>> import tempfile, numpy as np, fastembed as fe
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     tables = {"wte.weight": np.ones((4, 2)), "wpe.weight": np.ones((3, 2))}
        ...     fe.checkpoint.save(f"{folder}/model.safetensors", tables)
        ...     fe.TokenPositionEmbedding.from_file(f"{folder}/model.safetensors")
        TokenPositionEmbedding(4, 3, 2, dtype=float64)
        """
        from ..io.vectors import reading

        names = {"wte": wte, "wpe": wpe} | ({} if wtype is None else {"wtype": wtype})
        loaded = {key: reading.load_tensor(path, name, dtype, has_names=key == "wte") for key, name in names.items()}
        layer = cls.from_arrays(**{key: found.table for key, found in loaded.items()}, **options)
        if (ids := loaded["wte"].ids) is not None:
            layer.vocabulary = Vocabulary.of_ids(ids)
        return layer

    def _set_up(
        self,
        wte: Array,
        wpe: Array,
        wtype: Array | None,
        trainable_rows: Any,
        *,
        token_scale: float = 1.0,
        norm: str | None = None,
        norm_eps: float = 1e-5,
        dropout: float = 0.0,
        dropout_seed: int = 0,
        bounds: str = "raise",
    ) -> None:
        self._bounds = _checks.bounds(bounds)
        self._token_scale = _checks.number("token_scale", token_scale, -3.4e38, 3.4e38)
        self._norm = _checks.one_of("norm", norm, (None, "rms", "layer"))
        self._norm_eps = _checks.eps("norm_eps", norm_eps)
        self._set_dropout(dropout, dropout_seed)
        tables = {"wte": wte, "wpe": wpe} | ({} if wtype is None else {"wtype": wtype})
        Layer.__init__(self, tables, trainable_rows=trainable_rows)

    def _fast_tables(self, tables: dict[str, Array]) -> tuple[Array, ...]:
        return tables["wte"], tables["wpe"]

    def _changes_result(self) -> bool:
        return "wtype" in self.tables or self.token_scale != 1 or self.norm is not None or self.dropout != 0

    token_scale: Any = property(operator.attrgetter("_token_scale"), doc="The factor of token rows.")
    norm: Any = property(operator.attrgetter("_norm"), doc='The normalization of the sum: None, "rms" or "layer".')
    norm_eps: Any = property(operator.attrgetter("_norm_eps"), doc="The number added to the mean of the squares.")
    dropout: Any = property(operator.attrgetter("_dropout"), doc="The probability that an element is 0, in train mode.")
    dropout_seed: Any = property(operator.attrgetter("_dropout_seed"), doc="The seed of dropout masks.")
    bounds: Any = property(operator.attrgetter("_bounds"), doc="The meaning of an id outside its table.")

    wte = TableAttribute("The token table itself, shape (V, D), up to date; writable.")
    wpe = TableAttribute("The position table itself, shape (P, D), up to date; writable.")

    @property
    def wtype(self) -> Array | None:
        """The table of token types itself, up to date; None without one."""
        self.apply_pending()
        return self.tables.get("wtype")

    @wtype.setter
    def wtype(self, value: Array | None) -> None:
        _checks.in_place("wtype", value, self.tables.get("wtype"))

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

    # ---- forward ----

    def call(
        self,
        token_ids: ArrayLike,
        position_ids: ArrayLike | None = None,
        *,
        start: int = 0,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        type_ids: ArrayLike | None = None,
        out: Array | None = None,
        out_dtype: DTypeLike | None = None,
    ) -> tuple[Array, CallHandle]:
        """What a call of the layer returns, and a handle of this call. See `Embedding.call`."""
        call = Call(start, lengths, mask, type_ids, self._n_calls + 1 if self.training and self.dropout else 0)
        if not self._changes_result() and lengths is None and mask is None and type_ids is None:
            result = self._look_up(token_ids, position_ids, start, out, out_dtype)
        else:
            rows = self._rows(token_ids, position_ids, call)
            given = {"token_ids": token_ids, "position_ids": position_ids, "lengths": lengths, "mask": mask, "type_ids": type_ids}
            to = _checks.result_dtype(out_dtype, self.dtype)
            result = _checks.output(out, (*rows["wte"].shape, self.n_embd), to, **self.tables, **given)
            with lookup.matrix_buffer(result) as x:
                with self.up_to_date(rows):
                    self._sum(rows, x)
                    self._counter.add(rows)
                self._norm_and_dropout(x, call.number)
            result = result if out is None else out
        self._n_calls += self.training
        return result, self._handle(token_ids, position_ids, call)

    def _look_up(
        self, token_ids: ArrayLike, position_ids: ArrayLike | None, start: int, out: Array | None, out_dtype: DTypeLike | None
    ) -> Array:
        wte, wpe, bounds = self.tables["wte"], self.tables["wpe"], self._bounds
        if self._only_reads:
            return lookup.gather_add(wte, token_ids, wpe, position_ids, start=start, out=out, bounds=bounds, out_dtype=out_dtype)
        resolved = lookup.resolve_pair(token_ids, len(wte), position_ids, start, len(wpe), bounds=bounds)
        rows = dict(zip(("wte", "wpe"), resolved, strict=True))
        to, shape = _checks.result_dtype(out_dtype, self.dtype), (*rows["wte"].shape, self.n_embd)
        result = _checks.output(out, shape, to, **self.tables, token_ids=token_ids, position_ids=position_ids)
        with self.up_to_date(rows):
            lookup.gather_add(wte, rows["wte"], wpe, rows["wpe"], out=result, bounds=bounds, out_dtype=to)
            self._counter.add(rows)
        return result if out is None else out

    def _rows(self, token_ids: ArrayLike, position_ids: ArrayLike | None, call: Call) -> dict[str, Array]:
        """The rows of each table for a call, -1 for padding."""
        n_rows = {name: len(table) for name, table in self.tables.items()}
        return resolve_sequences(token_ids, position_ids, call, n_rows, self._bounds)

    @own_floats
    def _sum(self, rows: dict[str, Array], into: Array | None = None) -> Array:
        """The sum of token, position and type rows in the arithmetic dtype, shape (n_ids, D)."""
        tables = {
            name: lookup.readable_rows(table, rows[name].reshape(-1), self._arithmetic) for name, table in self.tables.items()
        }
        (wte, tokens), (wpe, positions) = tables["wte"], tables["wpe"]
        x = np.empty((tokens.size, self.n_embd), self._arithmetic) if into is None else into
        if self.token_scale == 1:
            kernels.gather_add(wte, tokens, wpe, positions, 0, x, "zero")
        else:
            kernels.gather(wte, tokens, x, "zero")
            x *= x.dtype.type(self.token_scale)
            x += self._gathered(wpe, positions)
        if "wtype" in tables:
            x += self._gathered(*tables["wtype"])
        return x

    def _gathered(self, table: Array, rows: Array) -> Array:
        result = np.empty((rows.size, self.n_embd), self._arithmetic)
        kernels.gather(table, rows, result, "zero")
        return result

    def _norm_and_dropout(self, x: Array, number: int) -> None:
        """Apply norm and, with the number of the call (else 0), dropout to the sum in place."""
        if self.norm is not None:
            kernels.norm_rows(x, None, self.norm == "layer", self.norm_eps)
        if number:
            kernels.dropout(x, self.dropout, self.dropout_seed, number)

    # ---- backward ----

    @own_floats
    def backward(
        self,
        dout: ArrayLike,
        ids: ArrayLike | None = None,
        position_ids: ArrayLike | None = None,
        *,
        start: int = 0,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        type_ids: ArrayLike | None = None,
        call: CallHandle | None = None,
        optimizer: Any = None,
    ) -> None:
        """Accumulate the gradient of a call, or take a step with it: see `Embedding.backward`.

        Parameters
        ----------
        dout : array_like of shape S + (D,)
        ids, position_ids, start, lengths, mask, type_ids
            The arguments of that call, if it had no dropout: in train mode a layer with dropout
            refuses them. By default the arguments and the dropout mask of the last call in train
            mode.
        call : CallHandle, optional
            The handle of that call, from `call`, instead of its arguments.
        """
        others = (position_ids, lengths, mask, type_ids)
        if ids is None and (_checks.integer("start", start) != 0 or any(value is not None for value in others)):
            raise ValueError("position_ids, start, lengths, mask and type_ids require ids, and none were given")
        given = Call(start, lengths, mask, type_ids)
        ids, position_ids, of_call = self._call_arguments(call, ids, position_ids, given)
        if not isinstance(of_call, Call):  # a call that C answered: start alone
            of_call = Call(of_call)
        rows = self._rows(ids, position_ids, of_call)
        if not self._changes_result():
            self._backward(rows, dout, optimizer)
            return
        values = _checks.rows("dout", dout, (*rows["wte"].shape, self.n_embd), self._arithmetic)
        values, number = values.reshape(rows["wte"].size, self.n_embd), of_call.number
        if number or self.norm is not None:
            with self.up_to_date(rows):
                values = self._norm_and_dropout_backward(values.copy(), rows, number)
        scale = None if self.token_scale == 1 else np.full(rows["wte"].size, self.token_scale)
        factors = {"wte": scale}
        batches = {
            name: batch_of(of_table, len(self.tables[name]), values, factors=factors.get(name)) for name, of_table in rows.items()
        }
        self._accumulate_or_step(batches, optimizer)

    def _norm_and_dropout_backward(self, gradients: Array, rows: dict[str, Array], number: int) -> Array:
        """Turn the gradient of the result into that of the sum, in place."""
        if number:
            kernels.dropout(gradients, self.dropout, self.dropout_seed, number)
        if self.norm is not None:
            kernels.norm_rows(self._sum(rows), gradients, self.norm == "layer", self.norm_eps)
        return gradients

    def __repr__(self) -> str:
        shown = {
            "n_types": (len(self.tables.get("wtype", ())), 0),
            "token_scale": (self.token_scale, 1.0),
            "norm": (self.norm, None),
            "dropout": (self.dropout, 0.0),
            "bounds": (self.bounds, "raise"),
        }
        options = "".join(f", {name}={value}" for name, (value, default) in shown.items() if value != default)
        return f"TokenPositionEmbedding({self.vocab_size}, {self.block_size}, {self.n_embd}, dtype={self.dtype}{options})"
