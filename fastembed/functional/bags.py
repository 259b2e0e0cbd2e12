"""embedding_bag and its gradient: each bag of ids becomes one row.

V: rows of the table; D: columns; N: ids; B: bags.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import _checks
from .._kernels.backend import kernels
from .._kernels.floats import own_floats
from . import lookup
from .batch import Batch, batch_of
from .row_grad import RowGrad

if TYPE_CHECKING:
    from .._kernels.packing import Packing
    from .._typing import Array, ArrayLike, DTypeLike


_FLOAT64 = np.dtype(np.float64)


class Bags(NamedTuple):
    """The checked arguments of a call; offsets include the end of the last bag."""

    ids: Array
    offsets: Array
    mode: str
    weights: Array | None
    padding_idx: int | None
    bounds: str = "raise"

    def with_weights(self, dtype: np.dtype[Any]) -> Bags:
        """The same with weights of another dtype."""
        return self if self.weights is None else self._replace(weights=_checks.rounded(self.weights, dtype))


@own_floats
def check_bags(
    ids: ArrayLike,
    offsets: ArrayLike | None,
    per_sample_weights: ArrayLike | None = None,
    *,
    n_rows: int,
    dtype: np.dtype[Any],
    mode: str = "mean",
    padding_idx: int | None = None,
    include_last_offset: bool = False,
    bounds: str = "raise",
    lengths: ArrayLike | None = None,
    takes_lengths: bool = True,
) -> Bags:
    """Check the arguments that define the bags; the caller may have none for lengths."""
    if offsets is not None and lengths is not None:
        raise ValueError("offsets and lengths exclude each other, got both")
    if offsets is None and lengths is None and (found := _checks.ragged(ids, per_sample_weights)) is not None:
        ids, per_sample_weights, lengths = found
    bounds = _checks.bounds(bounds)
    mode = _checks.mode(mode)
    padding = _checks.padding_idx(padding_idx, n_rows)
    id_array = _checks.id_array("id", ids, n_rows, bounds)
    has_last = _checks.flag("include_last_offset", include_last_offset)
    if lengths is None:
        ends = _checks.offsets(offsets, id_array.shape, has_last, ", or lengths," if takes_lengths else "")
    elif id_array.ndim == 1:
        ends = _checks.ends_of_lengths(lengths, len(id_array))
    else:
        raise ValueError(f"lengths require ids of 1 axis, got ids of shape {id_array.shape}")
    weights = _checks.sample_weights(per_sample_weights, id_array.shape, dtype, mode)
    return Bags(id_array, ends, mode, weights, padding, bounds)


def rows_of(bags: Bags, n_rows: int) -> Array:
    """The row of each id in C order; -1 for the padding row, and for ids that are in no bag."""
    rows = lookup.resolve_ids(bags.ids, n_rows, bounds=bags.bounds).reshape(-1)
    if bags.padding_idx is not None:
        rows[rows == bags.padding_idx] = -1
    rows[bags.offsets[-1] :] = -1
    return rows


def output_for(table: Array, bags: Bags, out: Array | None, out_dtype: DTypeLike | None = None) -> Array:
    """The array for the result, one row for each bag."""
    read = {"table": table, "ids": bags.ids, "per_sample_weights": bags.weights}
    to = _checks.result_dtype(out_dtype, table.dtype)
    return _checks.output(out, (len(bags.offsets) - 1, table.shape[1]), to, **read)


def look_up(table: Array, bags: Bags, result: Array, packing: Packing | None = None, *, is_new: bool = False) -> None:
    """Write one row for each bag into ``result``; ``packing`` says that the table is packed.

    If ``result`` is new, and so dropped on an error, ids are checked as their rows are summed.
    """
    ids, padding, bounds = bags.ids, -1 if bags.padding_idx is None else bags.padding_idx, bags.bounds
    native = _checks.native(table.dtype)
    if not (packing or _checks.is_readable_in_place(table, native)):
        table, ids = lookup.compact_table(table, rows_of(bags, len(table)), native)
        bounds, padding = "zero", -1
    kernels.embedding_bag(table, ids, bags.offsets, bags.mode, bags.weights, padding, result, bounds, None, packing, is_new)


def embedding_bag(
    table: ArrayLike,
    ids: ArrayLike,
    offsets: ArrayLike | None = None,
    *,
    mode: str = "mean",
    per_sample_weights: ArrayLike | None = None,
    padding_idx: int | None = None,
    include_last_offset: bool = False,
    lengths: ArrayLike | None = None,
    out: Array | None = None,
    bounds: str = "raise",
    out_dtype: DTypeLike | None = None,
) -> Array:
    """One row for each bag of ids: the sum, the mean or the maximum of its rows.

    Parameters
    ----------
    table : array_like of shape (V, D), of any float dtype
    ids : array_like of integers, shape (N,), or (B, n) for bags of one length, or a list of bags
    offsets : array_like of integers, shape (B,) or with include_last_offset (B + 1,), optional
        Where each bag begins in ``ids`` of one axis: from 0 on, not decreasing, at most N.
    mode : {"sum", "mean", "sqrtn", "max"}
        The sum of the rows; the sum divided by their number, or by the square root of it; or the
        maximum of each column, NaN if one of its elements is NaN.
    per_sample_weights : array_like of the shape of ``ids``, optional
        A factor for the row of each id; not with "max". Of a list of bags, also a list for each.
    padding_idx : int, optional
        A row that is skipped and not counted; a negative one counts from the end.
    include_last_offset : bool
        Whether the last of the ``offsets`` is the end of the last bag; otherwise that is N.
    lengths : array_like of integers, shape (B,), optional
        How many ids each bag has, instead of ``offsets``.
    out : ndarray of shape (B, D), optional
    bounds : {"raise", "wrap", "clip", "zero"}
        As in `gather`; under "zero" an id out of range is skipped and not counted.
    out_dtype : {None, "float32"}
        As in `gather`.

    Returns
    -------
    ndarray of shape (B, D)
        Zeros for a bag without rows. Rows are added to 0 in the order of the ids.

    Raises
    ------
    IndexError
        An id is out of range: the first one in C order is named. Nothing is written.
    TypeError, ValueError
        An argument has an invalid dtype, shape, layout or value. Nothing is written.

    Notes
    -----
    As torch.nn.functional.embedding_bag; "sqrtn" is a combiner of TensorFlow. "mean" divides by the
    number of rows, not by the sum of their weights.

    Examples
    --------
    >>> import numpy as np, fastembed as fe
    >>> table = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 7.0]])
    >>> fe.embedding_bag(table, [0, 1, 2, 1], [0, 2, 2])
    array([[2. , 3. ],
           [0. , 0. ],
           [4. , 5.5]])
    >>> fe.embedding_bag(table, [[0, 2], [1, 1]], mode="max")
    array([[5., 7.],
           [3., 4.]])
    >>> fe.embedding_bag(table, [[0, 1], [2]], mode="sum")
    array([[4., 6.],
           [5., 7.]])
    """
    if lengths is None and out_dtype is None and type(table) is np.ndarray:
        options = mode, padding_idx, include_last_offset, out
        result = kernels.fast_bag(table, None, 0, table.dtype, bounds, ids, offsets, per_sample_weights, *options)
        if result is not None:
            return result
    table = _checks.table("table", table)
    bags = check_bags(
        ids,
        offsets,
        per_sample_weights,
        n_rows=len(table),
        dtype=_checks.arithmetic_dtype(table.dtype),
        mode=mode,
        padding_idx=padding_idx,
        include_last_offset=include_last_offset,
        bounds=bounds,
        lengths=lengths,
    )
    result = output_for(table, bags, out, out_dtype)
    look_up(table, bags, result, is_new=out is None)
    return result if out is None else out


# Backward


def _bag_of_each(bags: Bags) -> Array:
    """The bag of each id as int32; 0 for ids that are in no bag."""
    bag_ids = np.zeros(bags.ids.size, np.int32)
    lengths = np.diff(bags.offsets)
    bag_ids[: bags.offsets[-1]] = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    return bag_ids


@own_floats
def _gradient_of_sums(dout: Array, bags: Bags, rows: Array) -> Array:
    """The gradient of each bag's sum, of which ``dout`` is that of the mode's result."""
    if bags.mode == "sum":
        return dout
    n_before = np.concatenate(([0], np.cumsum(rows >= 0)))
    counts = np.maximum(n_before[bags.offsets[1:]] - n_before[bags.offsets[:-1]], 1)
    divisors = counts if bags.mode == "mean" else np.sqrt(counts)
    return dout / divisors.astype(dout.dtype)[:, None]


def batch_backward(dout: Array, bags: Bags, rows: Array, n_rows: int, by_frequency: bool) -> Batch:
    """The gradient of each row of a sum, mean or sqrtn. ``rows`` is overwritten."""
    gradients, bag_ids, weights = gradient_of_each(dout, bags, rows)
    return batch_of(rows, n_rows, gradients, by_frequency=by_frequency, sources=bag_ids, factors=weights)


def gradient_of_each(dout: Array, bags: Bags, rows: Array) -> tuple[Array, Array, Array | None]:
    """The gradient of each id's row: those of the bags, the bag of each id, its factor or None."""
    weights = None if bags.weights is None else _checks.rounded(bags.weights.reshape(-1), _FLOAT64)
    return _gradient_of_sums(dout, bags, rows), _bag_of_each(bags), weights


def weights_backward(dout: Array, table: Array, bags: Bags, rows: Array) -> Array | None:
    """The gradient of the per-sample weights, of the shape of the ids; None without weights."""
    if bags.weights is None:
        return None
    gradients = _gradient_of_sums(dout, bags, rows)
    if len(gradients) == 0:
        return np.zeros(bags.ids.shape, dout.dtype)
    table, rows = lookup.readable_rows(table, rows, dout.dtype)
    return kernels.dots(table, rows, _bag_of_each(bags), gradients).reshape(bags.ids.shape)


def max_backward(grad: RowGrad, dout: Array, table: Array, bags: Bags, table_rows: Array, rows: Array) -> RowGrad:
    """``grad`` plus the gradient of maxima: each goes to the first row that holds the maximum.

    ``table_rows`` has the row of each id in ``table``, ``rows`` that in the gradient.
    """
    table, table_rows = lookup.readable_rows(table, table_rows, dout.dtype)
    winners = np.full(dout.shape, -1, np.int64)
    largest = np.empty(dout.shape, dout.dtype)
    for output in (None, winners):  # the second call compares rows with the maxima of the first
        kernels.embedding_bag(table, table_rows, bags.offsets, "max", None, -1, largest, "zero", output)
    is_won = winners >= 0
    return grad.accumulate_elements(rows[winners[is_won]], np.nonzero(is_won)[1], dout[is_won])


@own_floats
def embedding_bag_backward(
    dout: ArrayLike,
    ids: ArrayLike,
    dtable: Array,
    offsets: ArrayLike | None = None,
    *,
    mode: str = "mean",
    per_sample_weights: ArrayLike | None = None,
    padding_idx: int | None = None,
    include_last_offset: bool = False,
    lengths: ArrayLike | None = None,
    scale_grad_by_freq: bool = False,
    table: ArrayLike | None = None,
    bounds: str = "raise",
) -> Array | None:
    """Accumulate the gradient of `embedding_bag` into the table's gradient.

    Parameters
    ----------
    dout : array_like of shape (B, D)
        The gradient of the bags' rows.
    ids, offsets, mode, per_sample_weights, padding_idx, include_last_offset, lengths, bounds
        As in `embedding_bag`.
    dtable : ndarray of shape (V, D), of any float dtype
        Written in place: native, aligned, with contiguous rows, no overlap with the inputs. It is
        not zeroed first.
    scale_grad_by_freq : bool
        Whether the gradient of a row is divided by how often the row occurs in the batch; not with
        "max".
    table : array_like of shape (V, D), optional
        The table of the call: needed with "max", and for the gradient of ``per_sample_weights``.

    Returns
    -------
    ndarray of the shape of ``ids``, or None
        The gradient of ``per_sample_weights``, if they and ``table`` were given; 0 where a row was
        skipped. Of a list of bags, the shape is (N,).

    Raises
    ------
    IndexError, TypeError, ValueError
        As in `embedding_bag`. The gradient is unchanged.

    Notes
    -----
    The gradient of a maximum goes to the first row that holds it, as in
    torch.nn.functional.embedding_bag; that of NaN to the first row that has NaN there.

    Examples
    --------
    >>> import numpy as np, fastembed as fe
    >>> dtable = np.zeros((3, 2))
    >>> fe.embedding_bag_backward([[2.0, 4.0]], [0, 2], dtable, [0], mode="mean")
    >>> dtable
    array([[1., 2.],
           [0., 0.],
           [1., 2.]])
    """
    dtable = _checks.writable_table("dtable", dtable)
    dtype = _checks.arithmetic_dtype(dtable.dtype)
    by_frequency = _checks.flag("scale_grad_by_freq", scale_grad_by_freq)
    bags = check_bags(
        ids,
        offsets,
        per_sample_weights,
        n_rows=len(dtable),
        dtype=dtype,
        mode=mode,
        padding_idx=padding_idx,
        include_last_offset=include_last_offset,
        bounds=bounds,
        lengths=lengths,
    )
    values = None if table is None else _checks.convertible_array("table", table, dtable.shape, dtable.dtype)
    if bags.mode == "max" and by_frequency:
        raise ValueError("scale_grad_by_freq requires mode sum, mean or sqrtn, got max")
    if bags.mode == "max" and values is None:
        raise ValueError("table must be given with mode max: it says which rows the maxima are from")
    gradients = _checks.rows("dout", dout, (len(bags.offsets) - 1, dtable.shape[1]), dtype)
    _checks.check_no_overlap("dtable", dtable, dout=gradients, ids=bags.ids, per_sample_weights=bags.weights, table=values)
    rows = rows_of(bags, len(dtable))
    dweights = None if values is None else weights_backward(gradients, values, bags, rows)
    if values is not None and bags.mode == "max":
        distinct = np.unique(rows[rows >= 0])
        grad = RowGrad(distinct, _checks.rounded(dtable[distinct], dtype), dtable.shape)
        total = max_backward(grad, gradients, values, bags, rows, rows)
        dtable[total.ids] = _checks.rounded(total.rows, dtable.dtype)
    else:
        kernels.add_rows(dtable, *batch_backward(gradients, bags, rows, len(dtable), by_frequency))
    return dweights
