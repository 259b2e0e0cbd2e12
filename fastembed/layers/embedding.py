"""Embedding: a table whose rows are looked up by id.

The inherited `__call__` answers calls with plain arguments in C; others go to `_look_up` here.

V: rows of the table; D: columns; S: the shape of the ids.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .. import _checks
from .._kernels.backend import kernels
from ..functional import lookup
from ..functional.batch import Batch, batch_of
from ..functional.max_norm import put_rescaled
from .one_table import OneTable

if TYPE_CHECKING:
    from .._typing import Array, ArrayLike, DTypeLike, Rng
    from .differentiable import CallHandle


class Embedding(OneTable, kernels.SingleLookup):
    """A table whose rows are looked up by id.

    Parameters
    ----------
    num_embeddings : int
        V, the number of rows.
    embedding_dim : int
        D, the length of a row.
    padding_idx : int, optional
        A row that gets no gradient; a negative one counts from the end. In a new table it is zeros.
    max_norm : float, optional
        Rows with a larger norm are scaled down to this norm when they are looked up, in the table
        itself. No gradient flows through that.
    max_norm_in_place : bool
        Whether ``max_norm`` changes the table; if not, only the result is scaled.
    norm_type : float
        The p of the p-norm for ``max_norm``.
    scale_grad_by_freq : bool
        Whether the gradient of a row is divided by how often the row occurs in the batch.
    bounds : {"raise", "wrap", "clip", "zero"}
        The meaning of an id outside ``0 <= id < V`` in calls and `backward`, as in
        `fastembed.gather`; under "zero" it gives zeros and has no gradient.
    dtype : {"float32", "float64", "float16", "bfloat16"}
        Tables of half precision compute in float32, and so do their gradients and optimisers.
    std : float
        Standard deviation of the normal distribution, of mean 0, that a new table is drawn from.
    rng : numpy.random.Generator, int or None
        The source of random numbers: a generator, a seed, or fresh entropy.
    trainable_rows : array_like, optional
        Numbers, or a mask, of the rows that optimisers update; by default all. Settable at any
        time.

    Attributes
    ----------
    weight : ndarray of shape (V, D)

    Notes
    -----
    The options are those of torch.nn.Embedding. A row of norm n above ``max_norm`` is multiplied by
    ``max_norm / (n + 1e-7)``.

    Examples
    --------
    >>> import fastembed as fe
    >>> layer = fe.Embedding(10, 3, rng=0)
    >>> layer([[1, 2, 4], [4, 3, 2]]).shape
    (2, 3, 3)
    >>> fe.Embedding(3, 2, padding_idx=-1, rng=0)([2])
    array([[0., 0.]], dtype=float32)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        max_norm_in_place: bool = True,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        bounds: str = "raise",
        dtype: DTypeLike = "float32",
        std: float = 1.0,
        rng: Rng = None,
        trainable_rows: Any = None,
    ) -> None:
        self._init_random(
            num_embeddings,
            embedding_dim,
            dtype,
            std,
            rng,
            trainable_rows,
            padding_idx=padding_idx,
            max_norm=max_norm,
            max_norm_in_place=max_norm_in_place,
            norm_type=norm_type,
            scale_grad_by_freq=scale_grad_by_freq,
            bounds=bounds,
        )

    def _fast_tables(self, tables: dict[str, Array]) -> tuple[Array, ...]:
        return (tables["weight"],)

    def call(self, ids: ArrayLike, *, out: Array | None = None, out_dtype: DTypeLike | None = None) -> tuple[Array, CallHandle]:
        """What a call of the layer returns, and a handle of this call for `backward`.

        A handle names one of several calls whose gradients are still to come. It keeps a reference
        to the arguments of the call, in evaluation mode too. ``out`` and ``out_dtype`` are those of
        `fastembed.gather`.

        Examples
        --------
        >>> import fastembed as fe
        >>> layer = fe.Embedding(4, 1, rng=0)
        >>> first, call = layer.call([3])
        >>> second = layer([1, 2])
        >>> layer.backward([[5.0]], call=call)
        >>> layer.grads()["weight"].ids
        array([3])
        """
        return self._look_up(ids, out, out_dtype), self._handle(ids)

    def _look_up(self, ids: ArrayLike, out: Array | None, out_dtype: DTypeLike | None) -> Array:
        weight = self.tables["weight"]
        if self._only_reads:
            self.storage.prefetch(ids, self._bounds)
            return lookup.gather(weight, ids, out=out, bounds=self._bounds, out_dtype=out_dtype)
        rows = lookup.resolve_ids(ids, len(weight), bounds=self._bounds)
        self.storage.prefetch(rows)
        to = _checks.result_dtype(out_dtype, weight.dtype)
        result = _checks.output(out, (*rows.shape, self.embedding_dim), to, table=weight, ids=ids)
        commit = kernels.Commit()
        with self.reading(rows, commit):
            lookup.gather(weight, rows, out=result, bounds=self._bounds, out_dtype=to)
            put_rescaled(result, rows, *self._apply_max_norm(rows))
            commit.run()
        return result if out is None else out

    @contextlib.contextmanager
    def reading(self, rows: Array, commit: kernels.Commit) -> Iterator[Array]:
        """A context in which rows (checked int64, -1 for none) are up to date: the table.

        ``commit`` counts them as looked up.
        """
        with self.up_to_date({"weight": rows}):
            self._counter.add_to(commit, {"weight": rows})
            yield self.tables["weight"]

    def gradient_of(self, rows: Array, gradients: Array, *, sources: Any = None, factors: Any = None) -> Batch:
        """The gradient of rows (checked int64, overwritten), under the options of the layer.

        ``sources`` and ``factors`` are those of `batch_of`.
        """
        kept, by_frequency = self._without_padding(rows), self._scale_grad_by_freq
        return batch_of(kept, self.num_embeddings, gradients, by_frequency=by_frequency, sources=sources, factors=factors)

    def backward(
        self, dout: ArrayLike, ids: ArrayLike | None = None, *, call: CallHandle | None = None, optimizer: Any = None
    ) -> None:
        """Accumulate the gradient of a call into `grads`, or let an optimiser take a step with it.

        Parameters
        ----------
        dout : array_like of shape S + (D,)
            The gradient of what the call returned.
        ids : array_like of integers, shape S, optional
            The ids of that call; by default those of the last call in train mode.
        call : CallHandle, optional
            The handle of that call, from `call`, instead of its ids.
        optimizer : one of fastembed.optim, optional
            An optimiser of this layer, which takes a step with the gradient at once; the gradient
            is not stored.

        Raises
        ------
        RuntimeError
            There are no ids; or an optimiser is given while there is an accumulated gradient.
        IndexError, TypeError, ValueError
            As in `fastembed.scatter_add`; or ``call`` is not one of this layer with its present
            size. Nothing is changed.
        """
        (call_ids,) = self._call_arguments(call, ids)
        rows = self._without_padding(lookup.resolve_ids(call_ids, self.num_embeddings, bounds=self._bounds))
        self._backward({"weight": rows}, dout, optimizer, by_frequency=self._scale_grad_by_freq)

    def __repr__(self) -> str:
        return f"Embedding({self.num_embeddings}, {self.embedding_dim}, dtype={self.dtype}{self._options_repr()})"
