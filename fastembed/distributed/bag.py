"""ShardedEmbeddingBag: bags of rows that other ranks have.

V: rows of the whole table; D: columns; N: ids; B: bags.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _checks
from .._kernels.floats import own_floats
from ..functional import bags as bag_ops
from ..functional.lookup import resolve_ids
from ..functional.row_grad import RowGrad
from .ranks.group import Group
from .sharded import Sharded

if TYPE_CHECKING:
    from .._typing import Array, ArrayLike, DTypeLike
    from ..layers.differentiable import CallHandle


class ShardedEmbeddingBag(Sharded):
    """`fastembed.EmbeddingBag` with its rows, and their optimiser state, spread over ranks.

    Parameters
    ----------
    mode, include_last_offset
        As in `fastembed.EmbeddingBag`.
    group, num_embeddings, embedding_dim, partition, exact, padding_idx, max_norm, norm_type,
    scale_grad_by_freq, bounds, dtype, std, rng, trainable_rows
        As in `ShardedEmbedding`.

    Attributes
    ----------
    per_sample_weights_grad : ndarray of the shape of the ids, or None
        The gradient of the ``per_sample_weights`` of the last backward, if it had any.

    Examples
    --------
    >>> from fastembed import distributed
    >>> group = distributed.local()
    >>> table = [[1.0, 2.0], [3.0, 4.0]]
    >>> bag = distributed.ShardedEmbeddingBag.from_pretrained(group, table, mode="sum")
    >>> bag([0, 1, 1], [0, 2])
    array([[4., 6.],
           [3., 4.]])
    """

    per_sample_weights_grad: Array | None

    def __init__(
        self,
        group: Group,
        num_embeddings: int,
        embedding_dim: int,
        *,
        mode: str = "mean",
        partition: str = "ranges",
        exact: bool = True,
        padding_idx: int | None = None,
        include_last_offset: bool = False,
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
            mode=mode,
            exact=exact,
            padding_idx=padding_idx,
            include_last_offset=include_last_offset,
            max_norm=max_norm,
            norm_type=norm_type,
            scale_grad_by_freq=scale_grad_by_freq,
            bounds=bounds,
        )

    def _set_up(self, *arguments: Any, mode: str = "mean", include_last_offset: bool = False, **options: Any) -> None:
        self._mode = _checks.mode(mode)
        self._include_last_offset = _checks.flag("include_last_offset", include_last_offset)
        self.per_sample_weights_grad = None
        super()._set_up(*arguments, **options)
        if self._mode == "max" and self._scale_grad_by_freq:
            raise ValueError("scale_grad_by_freq requires mode sum, mean or sqrtn, got max")

    @property
    def mode(self) -> str:
        """How the rows of a bag are reduced."""
        return self._mode

    def _bags(self, ids: ArrayLike, offsets: ArrayLike | None, per_sample_weights: ArrayLike | None) -> bag_ops.Bags:
        return bag_ops.check_bags(
            ids,
            offsets,
            per_sample_weights,
            n_rows=self.num_embeddings,
            dtype=self._arithmetic,
            mode=self._mode,
            padding_idx=self._padding_idx,
            include_last_offset=self._include_last_offset,
            bounds=self._bounds,
            takes_lengths=False,
        )

    def __call__(
        self,
        ids: ArrayLike,
        offsets: ArrayLike | None = None,
        per_sample_weights: ArrayLike | None = None,
        *,
        out: Array | None = None,
    ) -> Array:
        """One row for each bag, shape (B, D). All ranks call it together, each for its bags."""
        return self.call(ids, offsets, per_sample_weights, out=out)[0]

    def call(
        self,
        ids: ArrayLike,
        offsets: ArrayLike | None = None,
        per_sample_weights: ArrayLike | None = None,
        *,
        out: Array | None = None,
    ) -> tuple[Array, CallHandle]:
        """What a call returns, and a handle of this call. See `fastembed.EmbeddingBag.call`."""
        with self.group.checking(self._step("look-up")):
            bags = self._bags(ids, offsets, per_sample_weights)
            all_rows = resolve_ids(bags.ids, self.num_embeddings, bounds=self._bounds)  # padding too has a norm
            rows = bag_ops.rows_of(bags, self.num_embeddings)
            result = bag_ops.output_for(self.tables["weight"], bags, out)
        found, index = self._fetch(all_rows.reshape(-1))
        bag_ops.look_up(found, _with_ids(bags, np.where(rows < 0, -1, index)), result)
        return result if out is None else out, self._handle(ids, offsets, per_sample_weights)

    @own_floats
    def backward(
        self,
        dout: ArrayLike,
        ids: ArrayLike | None = None,
        offsets: ArrayLike | None = None,
        per_sample_weights: ArrayLike | None = None,
        *,
        call: CallHandle | None = None,
        optimizer: Any = None,
    ) -> None:
        """Send the gradient of a call to the owners: see `ShardedEmbedding.backward`.

        With mode "max" or weights, rows are looked up again.

        Parameters
        ----------
        dout : array_like of shape (B, D)
        ids, offsets, per_sample_weights, call, optimizer
            As in `fastembed.EmbeddingBag.backward`.
        """
        with self.group.checking(self._step("backward begins")):
            if ids is None and (offsets is not None or per_sample_weights is not None):
                raise ValueError("offsets and per_sample_weights require ids, and none were given")
            bags = self._bags(*self._call_arguments(call, ids, offsets, per_sample_weights))
            gradients = self._check_dout(dout, (len(bags.offsets) - 1, self.embedding_dim), optimizer)
            rows = bag_ops.rows_of(bags, self.num_embeddings)
        needs_rows = self._mode == "max" or bags.weights is not None
        flags = self.group.agree(self._step("backward begins"), np.full((self.group.size, 1), needs_rows, np.int64))
        found, index = self._fetch(rows, is_call=False) if flags.any() else (self.tables["weight"][:0], rows)
        seen = _with_ids(bags, index)
        dweights = bag_ops.weights_backward(gradients, found, seen, seen.ids.reshape(-1))
        if self._mode == "max":
            items, of_items = _gradient_of_maxima(gradients, found, seen)
            self._push(rows[items], of_items, np.arange(len(items)), None, optimizer)
        else:
            sums, bag_ids, weights = bag_ops.gradient_of_each(gradients, bags, rows)
            self._push(rows, sums, bag_ids, weights, optimizer)
        self.per_sample_weights_grad = dweights

    def _options_repr(self) -> str:
        options = f"mode={self._mode}, {super()._options_repr()}"
        return options + (", include_last_offset=True" if self._include_last_offset else "")


def _with_ids(bags: bag_ops.Bags, ids: Array) -> bag_ops.Bags:
    """The bags with ids into another table, -1 for none."""
    return bags._replace(ids=ids.reshape(bags.ids.shape), padding_idx=None, bounds="zero")


def _gradient_of_maxima(dout: Array, table: Array, bags: bag_ops.Bags) -> tuple[Array, Array]:
    """The ids that hold a maximum of their bag, by their places, and the gradient of each."""
    n_ids, n_cols = bags.ids.size, dout.shape[1]
    of_ids = RowGrad.zeros((n_ids, n_cols), dout.dtype)
    grad = bag_ops.max_backward(of_ids, dout, table, bags, bags.ids.reshape(-1), np.arange(n_ids))
    return grad.ids, grad.rows
