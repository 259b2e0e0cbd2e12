"""EmbeddingBag: a layer that makes one row of each bag of ids.

V: rows of the table; D: columns; N: ids; B: bags.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .. import _checks
from ..functional import bags as bag_ops
from ..functional import lookup
from ..functional.max_norm import put_rescaled
from ..functional.row_grad import RowGrad, plain_batch
from ..tables.storage import MEMORY, Storage
from .one_table import OneTable

if TYPE_CHECKING:
    from .._typing import Array, ArrayLike, DTypeLike, Rng


class EmbeddingBag(OneTable):
    """A table of which the rows of each bag of ids become one: their sum, mean or maximum.

    Parameters
    ----------
    num_embeddings : int
        V, the number of rows.
    embedding_dim : int
        D, the length of a row.
    mode : {"mean", "sum", "sqrtn", "max"}
        As in `fastembed.embedding_bag`.
    padding_idx : int, optional
        A row that is passed over, not counted and takes no gradient; below 0 it counts from the end. A new table has zeros there.
    include_last_offset : bool
        Whether the last of the offsets is where the last bag ends.
    max_norm, max_norm_in_place, norm_type, dtype, std, rng, trainable_rows
        As in `Embedding`.
    scale_grad_by_freq : bool
        Whether what a row gets is divided by how often it occurs in the batch; not with "max".

    Attributes
    ----------
    weight : ndarray of shape (V, D)
    per_sample_weights_grad : ndarray of the shape of the ids, or None
        The gradient of the last backward's ``per_sample_weights``, if there were any.

    Notes
    -----
    The options are those of torch.nn.EmbeddingBag; weights go with "mean" and "sqrtn" too.

    Examples
    --------
    >>> import fastembed as fe
    >>> bag = fe.EmbeddingBag.from_pretrained([[1.0, 2.0], [3.0, 4.0]], mode="sum")
    >>> bag([0, 1, 1], [0, 2])
    array([[4., 6.],
           [3., 4.]])
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        mode: str = "mean",
        padding_idx: int | None = None,
        include_last_offset: bool = False,
        max_norm: float | None = None,
        max_norm_in_place: bool = True,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
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
            mode=mode,
            padding_idx=padding_idx,
            include_last_offset=include_last_offset,
            max_norm=max_norm,
            max_norm_in_place=max_norm_in_place,
            norm_type=norm_type,
            scale_grad_by_freq=scale_grad_by_freq,
        )

    @classmethod
    def _in_file(cls, files: Any, freeze: bool = False, *, bag_mode: str | None = None, **options: Any) -> Self:
        """In `open`, whose ``mode`` is that of the file, ``bag_mode`` is that of the bags."""
        return super()._in_file(files, freeze, **(options if bag_mode is None else options | {"mode": bag_mode}))

    def _set_up(
        self,
        weight: Array,
        freeze: bool,
        trainable_rows: Any,
        storage: Storage = MEMORY,
        *,
        mode: str = "mean",
        include_last_offset: bool = False,
        **options: Any,
    ) -> None:
        self._mode = _checks.mode(mode)
        self._include_last_offset = _checks.flag("include_last_offset", include_last_offset)
        self.per_sample_weights_grad: Array | None = None
        super()._set_up(weight, freeze, trainable_rows, storage, **options)
        if self._mode == "max" and self._scale_grad_by_freq:
            raise ValueError("scale_grad_by_freq goes with mode sum, mean or sqrtn, got max")

    def _hold(self, weight: Array) -> None:
        """Bags are looked up through the checks of `bag_ops`, which keep the table in place."""

    @property
    def mode(self) -> str:
        """How the rows of a bag become one."""
        return self._mode

    @property
    def include_last_offset(self) -> bool:
        """Whether the last of the offsets is where the last bag ends."""
        return self._include_last_offset

    def _bags(self, ids: ArrayLike, offsets: ArrayLike | None, per_sample_weights: ArrayLike | None) -> bag_ops.Bags:
        return bag_ops.checked(
            ids,
            offsets,
            per_sample_weights,
            n_rows=self.num_embeddings,
            dtype=self._arithmetic,
            mode=self._mode,
            padding_idx=self._padding_idx,
            include_last_offset=self._include_last_offset,
        )

    def _seen(self, rows: Array) -> tuple[Array, Array]:
        """A table in which these rows (-1 for none) are as a look-up sees them, and the numbers that they have in it."""
        weight = self.tables["weight"]
        if self._max_norm is None or self._max_norm_in_place:
            return weight, rows
        compact, places = lookup.touched(weight, rows, self._arithmetic)
        put_rescaled(compact, np.unique(rows[rows >= 0]), *self._rescaled(rows))
        return compact, places

    def __call__(
        self,
        ids: ArrayLike,
        offsets: ArrayLike | None = None,
        per_sample_weights: ArrayLike | None = None,
        *,
        out: Array | None = None,
    ) -> Array:
        """One row for each bag, shape (B, D). See `fastembed.embedding_bag`."""
        weight = self.tables["weight"]
        bags = self._bags(ids, offsets, per_sample_weights)
        result = bag_ops.output_for(weight, bags, out)
        self.storage.prefetch(bags.ids)
        if self._only_reads:
            bag_ops.look_up(weight, bags, result)
        else:
            all_rows = lookup.resolve_ids(bags.ids, len(weight))
            rows = bag_ops.rows_of(bags._replace(ids=all_rows), len(weight))
            with self.up_to_date({"weight": all_rows}):
                self._rescale(all_rows)
                table, places = self._seen(rows)
                seen = bags._replace(ids=places.reshape(bags.ids.shape), padding_idx=None, bounds="zero")
                bag_ops.look_up(table, seen, result)
                self._counter.add({"weight": rows})
        if self.training:
            self._last_ids = (ids, offsets, per_sample_weights)
        return result if out is None else out

    def backward(
        self,
        dout: ArrayLike,
        ids: ArrayLike | None = None,
        offsets: ArrayLike | None = None,
        per_sample_weights: ArrayLike | None = None,
        *,
        optimizer: Any = None,
    ) -> None:
        """Accumulate the gradient of a call into `grads`, or let an optimiser take a step with it. See `Embedding.backward`.

        Parameters
        ----------
        dout : array_like of shape (B, D)
        ids, offsets, per_sample_weights
            As they were in that call; by default those of the last call in train mode.
        """
        if ids is None and (offsets is not None or per_sample_weights is not None):
            raise ValueError("offsets and per_sample_weights go with ids, and none were given")
        bags = self._bags(*self._call_of(ids, offsets, per_sample_weights))
        rows = bag_ops.rows_of(bags, self.num_embeddings)
        gradients = _checks.rows("dout", dout, (len(bags.offsets) - 1, self.embedding_dim), self._arithmetic)
        with self.lock:
            of_weights = None
            if self._mode == "max" or bags.weights is not None:
                with self.up_to_date({"weight": rows}):
                    table, places = self._seen(rows)
                    of_weights = bag_ops.weights_back(gradients, table, bags, places)
            if self._mode != "max":
                batch = bag_ops.batch_back(gradients, bags, rows, self.num_embeddings, self._scale_grad_by_freq)
                self._accumulate_or_step({"weight": batch}, optimizer)
            elif optimizer is None:
                grad = bag_ops.maxima_back(self._grads["weight"], gradients, table, bags, places, rows)
                self._grads = {"weight": grad}
            else:
                none = RowGrad.zeros((self.num_embeddings, self.embedding_dim), self._arithmetic)
                grad = bag_ops.maxima_back(none, gradients, table, bags, places, rows)
                self._accumulate_or_step({"weight": plain_batch(grad.ids, grad.rows)}, optimizer)
            self.per_sample_weights_grad = of_weights

    def __repr__(self) -> str:
        options = self._options_shown() + (", include_last_offset=True" if self._include_last_offset else "")
        return f"EmbeddingBag({self.num_embeddings}, {self.embedding_dim}, mode={self._mode}, dtype={self.dtype}{options})"
