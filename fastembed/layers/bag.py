"""EmbeddingBag: a layer that reduces each bag of ids to one row.

V: rows of the table; D: columns; N: ids; B: bags.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .. import _checks
from .._kernels.backend import kernels
from .._kernels.floats import own_floats
from ..functional import bags as bag_ops
from ..functional import lookup
from ..functional.batch import plain_batch
from ..functional.max_norm import put_rescaled
from ..functional.row_grad import RowGrad
from ..tables.storage import Storage
from .one_table import OneTable

if TYPE_CHECKING:
    from .._typing import Array, ArrayLike, DTypeLike, Rng
    from .differentiable import CallHandle


class EmbeddingBag(OneTable):
    """A table whose rows are reduced over bags of ids: to their sum, mean or maximum.

    Parameters
    ----------
    num_embeddings : int
        V, the number of rows.
    embedding_dim : int
        D, the length of a row.
    mode : {"mean", "sum", "sqrtn", "max"}
        As in `fastembed.embedding_bag`.
    padding_idx : int, optional
        A row that is skipped, not counted and gets no gradient; a negative one counts from the end.
        In a new table it is zeros.
    include_last_offset : bool
        Whether the last of the offsets is the end of the last bag.
    max_norm, max_norm_in_place, norm_type, bounds, dtype, std, rng, trainable_rows
        As in `Embedding`; under ``bounds="zero"`` an id outside the table is skipped and not
        counted.
    scale_grad_by_freq : bool
        Whether the gradient of a row is divided by how often the row occurs in the batch; not with
        "max".

    Attributes
    ----------
    weight : ndarray of shape (V, D)
    per_sample_weights_grad : ndarray of the shape of the ids, or None
        The gradient of the ``per_sample_weights`` of the last backward, if it had any.

    Notes
    -----
    The options are those of torch.nn.EmbeddingBag; "mean" and "sqrtn" take weights too.

    Examples
    --------
    >>> import fastembed as fe
    >>> bag = fe.EmbeddingBag.from_pretrained([[1.0, 2.0], [3.0, 4.0]], mode="sum")
    >>> bag([0, 1, 1], [0, 2])
    array([[4., 6.],
           [3., 4.]])
    >>> bag([[0, 1], [1]])
    array([[4., 6.],
           [3., 4.]])
    """

    per_sample_weights_grad: Array | None
    _options = ("mode", "include_last_offset", *OneTable._options)

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
            mode=mode,
            padding_idx=padding_idx,
            include_last_offset=include_last_offset,
            max_norm=max_norm,
            max_norm_in_place=max_norm_in_place,
            norm_type=norm_type,
            scale_grad_by_freq=scale_grad_by_freq,
            bounds=bounds,
        )

    @classmethod
    def _from_mapped(cls, files: Any, freeze: bool = False, *, bag_mode: str | None = None, **options: Any) -> Self:
        """As in the base class; ``bag_mode`` is the mode of bags, ``mode`` that of the file."""
        return super()._from_mapped(files, freeze, **(options if bag_mode is None else options | {"mode": bag_mode}))

    def _set_up(
        self,
        weight: Array,
        freeze: bool,
        trainable_rows: Any,
        storage: Storage | None = None,
        *,
        mode: str = "mean",
        include_last_offset: bool = False,
        **options: Any,
    ) -> None:
        self._mode = _checks.mode(mode)
        self._include_last_offset = _checks.flag("include_last_offset", include_last_offset)
        self.per_sample_weights_grad = None
        super()._set_up(weight, freeze, trainable_rows, storage, **options)
        if self._mode == "max" and self._scale_grad_by_freq:
            raise ValueError("scale_grad_by_freq requires mode sum, mean or sqrtn, got max")

    @property
    def mode(self) -> str:
        """How the rows of a bag are reduced."""
        return self._mode

    @property
    def include_last_offset(self) -> bool:
        """Whether the last of the offsets is the end of the last bag."""
        return self._include_last_offset

    def _bags(
        self,
        ids: ArrayLike,
        offsets: ArrayLike | None,
        per_sample_weights: ArrayLike | None,
        lengths: ArrayLike | None = None,
    ) -> bag_ops.Bags:
        return bag_ops.check_bags(
            self._ids_of(ids),
            offsets,
            per_sample_weights,
            n_rows=self.num_embeddings,
            dtype=self._arithmetic,
            mode=self._mode,
            padding_idx=self._padding_idx,
            include_last_offset=self._include_last_offset,
            bounds=self._bounds,
            lengths=lengths,
        )

    def _ids_of(self, ids: Any) -> Any:
        """Ids, or the ids that names have in the vocabulary."""
        if self._vocabulary is None or not _checks.are_names(ids):
            return ids
        if isinstance(ids, list | tuple) and not isinstance(ids[0], str):  # bags, which may differ in length
            return self._vocabulary.ids_of_bags(ids)
        return self._vocabulary.ids(ids)

    def _table_seen_by(self, rows: Array) -> tuple[Array, Array]:
        """A table with these rows (-1 for none) after ``max_norm``, and their row numbers in it."""
        weight = self.tables["weight"]
        if self._max_norm is None or self._max_norm_in_place:
            return weight, rows
        compact, compact_rows = lookup.compact_table(weight, rows, self._arithmetic)
        put_rescaled(compact, np.unique(rows[rows >= 0]), *self._rows_above_max_norm(rows))
        return compact, compact_rows

    def __call__(
        self,
        ids: ArrayLike,
        offsets: ArrayLike | None = None,
        per_sample_weights: ArrayLike | None = None,
        *,
        lengths: ArrayLike | None = None,
        out: Array | None = None,
        out_dtype: DTypeLike | None = None,
    ) -> Array:
        """One row for each bag, shape (B, D). See `fastembed.embedding_bag`."""
        return self.call(ids, offsets, per_sample_weights, lengths=lengths, out=out, out_dtype=out_dtype)[0]

    def call(
        self,
        ids: ArrayLike,
        offsets: ArrayLike | None = None,
        per_sample_weights: ArrayLike | None = None,
        *,
        lengths: ArrayLike | None = None,
        out: Array | None = None,
        out_dtype: DTypeLike | None = None,
    ) -> tuple[Array, CallHandle]:
        """What a call of the layer returns, and a handle of this call. See `Embedding.call`."""
        weight = self.tables["weight"]
        if self._fast_path and lengths is None and out_dtype is None:
            options = self._mode, self._padding_idx, self._include_last_offset, out
            at_once = kernels.fast_bag(weight, None, 0, weight.dtype, self._bounds, ids, offsets, per_sample_weights, *options)
            if at_once is not None:
                return at_once, self._handle(ids, offsets, per_sample_weights, lengths)
        bags = self._bags(ids, offsets, per_sample_weights, lengths)
        result = bag_ops.output_for(weight, bags, out, out_dtype)
        self.storage.prefetch(bags.ids, self._bounds)
        if self._only_reads:
            bag_ops.look_up(weight, bags, result, is_new=out is None)
        else:
            all_rows = lookup.resolve_ids(bags.ids, len(weight), bounds=self._bounds)
            rows = bag_ops.rows_of(bags._replace(ids=all_rows), len(weight))
            with self.up_to_date({"weight": all_rows}):
                self._apply_max_norm(all_rows)
                table, table_rows = self._table_seen_by(rows)
                resolved = bags._replace(ids=table_rows.reshape(bags.ids.shape), padding_idx=None, bounds="zero")
                bag_ops.look_up(table, resolved, result)
                self._counter.add({"weight": rows})
        return result if out is None else out, self._handle(ids, offsets, per_sample_weights, lengths)

    @own_floats
    def backward(
        self,
        dout: ArrayLike,
        ids: ArrayLike | None = None,
        offsets: ArrayLike | None = None,
        per_sample_weights: ArrayLike | None = None,
        *,
        lengths: ArrayLike | None = None,
        call: CallHandle | None = None,
        optimizer: Any = None,
    ) -> None:
        """Accumulate the gradient of a call, or take a step with it: see `Embedding.backward`.

        Parameters
        ----------
        dout : array_like of shape (B, D)
        ids, offsets, per_sample_weights, lengths
            The arguments of that call; by default those of the last call in train mode.
        call : CallHandle, optional
            The handle of that call, from `call`, instead of its arguments.
        """
        if ids is None and (offsets is not None or per_sample_weights is not None or lengths is not None):
            raise ValueError("offsets, lengths and per_sample_weights require ids, and none were given")
        bags = self._bags(*self._call_arguments(call, ids, offsets, per_sample_weights, lengths))
        rows = bag_ops.rows_of(bags, self.num_embeddings)
        gradients = _checks.rows("dout", dout, (len(bags.offsets) - 1, self.embedding_dim), self._arithmetic)
        with self.lock:
            dweights, commit = None, kernels.Commit()
            if self._mode == "max" or bags.weights is not None:
                with self.up_to_date({"weight": rows}):
                    table, table_rows = self._table_seen_by(rows)
                    dweights = bag_ops.weights_backward(gradients, table, bags, table_rows)
            commit.set_attribute(self, "per_sample_weights_grad", dweights)
            if self._mode != "max":
                batch = bag_ops.batch_backward(gradients, bags, rows, self.num_embeddings, self._scale_grad_by_freq)
                self._accumulate_or_step({"weight": batch}, optimizer, commit)
            elif optimizer is None:
                grad = bag_ops.max_backward(self._grads["weight"], gradients, table, bags, table_rows, rows)
                commit.set_attribute(self, "_grads", {"weight": grad})
                commit.run()
            else:
                zeros = RowGrad.zeros((self.num_embeddings, self.embedding_dim), self._arithmetic)
                grad = bag_ops.max_backward(zeros, gradients, table, bags, table_rows, rows)
                self._accumulate_or_step({"weight": plain_batch(grad.ids, grad.rows)}, optimizer, commit)

    def __repr__(self) -> str:
        options = self._options_repr() + (", include_last_offset=True" if self._include_last_offset else "")
        return f"EmbeddingBag({self.num_embeddings}, {self.embedding_dim}, mode={self._mode}, dtype={self.dtype}{options})"
