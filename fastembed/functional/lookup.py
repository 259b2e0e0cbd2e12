"""gather, gather_add, scatter_add and gather_add_backward, for tables of every dtype and layout.

V, P: rows of the tables; D: columns; S: the shape of the ids, any number of axes.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import _checks
from .._kernels.backend import kernels
from .._kernels.floats import assign, own_floats
from .batch import batch_of

if TYPE_CHECKING:
    from .._kernels.packing import Packing
    from .._typing import Array, ArrayLike, DTypeLike


def resolve_ids(ids: ArrayLike, n_rows: int, *, bounds: str = "raise", name: str = "id") -> Array:
    """The row of each id in a table of ``n_rows``, int64 of shape S; -1 for none with "zero"."""
    return kernels.resolve_ids(_checks.id_array(name, ids, n_rows, bounds), n_rows, bounds, name)


def resolve_pair(
    token_ids: ArrayLike, vocab_size: int, position_ids: ArrayLike | None, start: int, block_size: int, *, bounds: str = "raise"
) -> tuple[Array, Array]:
    """The rows of a look-up in two tables, each int64 of the shape of ``token_ids``."""
    token_ids, position_ids, start = checked_ids(token_ids, vocab_size, position_ids, start, block_size, bounds)
    if position_ids is None:
        n_positions = token_ids.shape[-1] if token_ids.ndim else 1
        arange = np.arange(start, start + n_positions)
        position_ids = np.broadcast_to(arange if token_ids.ndim else arange[0], token_ids.shape)
    token_rows = resolve_ids(token_ids, vocab_size, bounds=bounds, name="token id")
    return token_rows, resolve_ids(position_ids, block_size, bounds=bounds, name="position id")


def checked_ids(
    token_ids: ArrayLike, vocab_size: int, position_ids: ArrayLike | None, start: int, block_size: int, bounds: str
) -> tuple[Array, Array | None, int]:
    """Check the ids of a look-up in two tables."""
    token_ids = _checks.id_array("token id", token_ids, vocab_size, bounds)
    start = _checks.start(start, token_ids.shape[-1] if token_ids.ndim else 1)
    try:
        return token_ids, _checks.position_ids(position_ids, start, token_ids.shape, block_size, bounds), start
    except IndexError:
        resolve_ids(token_ids, vocab_size, bounds=bounds, name="token id")  # an invalid token id is reported first
        raise


def compact_table(table: Array, rows: Array, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """A contiguous table of only the rows that occur in ``rows``, and ids into it (-1 for none).

    Rows that kernels cannot read in place (another dtype or byte order, strided elements) are
    converted like this, so that the whole table never is.
    """
    distinct, inverse = np.unique(rows, return_inverse=True)
    n_missing = int(distinct.size > 0 and distinct[0] < 0)
    compact_ids = inverse.reshape(rows.shape)
    compact_ids -= n_missing
    return _checks.contiguous(table[distinct[n_missing:]], dtype), compact_ids


def readable_rows(table: Array, rows: Array, arithmetic: np.dtype[Any]) -> tuple[Array, Array]:
    """A table for arithmetic of that dtype that kernels can read in place, and ids into it.

    These, or a `compact_table`.
    """
    native = _checks.native(table.dtype)
    dtype = native if _checks.arithmetic_dtype(native) == arithmetic else arithmetic
    return (table, rows) if _checks.is_readable_in_place(table, dtype) else compact_table(table, rows, dtype)


@contextlib.contextmanager
def packed_buffer(result: Array, packing: Packing | None) -> Iterator[Array]:
    """An output array for a kernel: ``result``, or float32 that is rounded into it on exit.

    Kernels decode packed rows into float32; of other tables they write halves too.
    """
    if packing is None or not _checks.is_half(result.dtype):
        yield result
        return
    buffer = np.empty(result.shape, np.float32)
    yield buffer
    assign(result, buffer)


@contextlib.contextmanager
def matrix_buffer(result: Array) -> Iterator[Array]:
    """``result`` as a contiguous matrix (n, D) in the arithmetic dtype.

    It is a view where that is possible, else a new array that is rounded into ``result`` on exit.
    """
    shape, dtype = (math.prod(result.shape[:-1]), result.shape[-1]), _checks.arithmetic_dtype(result.dtype)
    if result.flags.c_contiguous and result.dtype == dtype:
        yield result.reshape(shape)
        return
    rows = np.empty(shape, dtype)
    yield rows
    assign(result, rows.reshape(result.shape))


def gather(
    table: ArrayLike, ids: ArrayLike, *, out: Array | None = None, bounds: str = "raise", out_dtype: DTypeLike | None = None
) -> Array:
    """Select rows of a table: ``out[i] = table[ids[i]]``.

    Parameters
    ----------
    table : array_like of shape (V, D), of any float dtype
        Read in place, at any alignment and row stride. If it has another byte order or strided
        elements, only the rows that are looked up are copied.
    ids : array_like of integers, shape S
        Any of the eight integer types, read without a copy.
    out : ndarray of shape S + (D,), optional
        The array for the result: native, aligned, of the dtype of the result, with contiguous rows,
        no overlap with the inputs.
    bounds : {"raise", "wrap", "clip", "zero"}
        The meaning of an id outside ``0 <= id < V``: an error; the id modulo V; the nearest valid
        id; a row of zeros.
    out_dtype : {None, "float32"}
        The dtype of the result: by default that of the table. float32 for a table of float16 or
        bfloat16, whose results are then not rounded.

    Returns
    -------
    ndarray of shape S + (D,)
        ``out`` if it was given.

    Raises
    ------
    IndexError
        An id is out of range: the first one in C order is named. Nothing is written.
    TypeError, ValueError
        An argument has an invalid dtype, shape or layout. Nothing is written.

    Examples
    --------
    >>> import numpy as np, fastembed as fe
    >>> fe.gather(np.array([[1.0, 2.0], [3.0, 4.0]]), [1, 0, 1])
    array([[3., 4.],
           [1., 2.],
           [3., 4.]])
    """
    if out_dtype is None:
        result = kernels.fast_gather(table, ids, out, bounds)
        if result is not None:
            return result
    bounds = _checks.bounds(bounds)
    table = _checks.table("table", table)
    ids = _checks.id_array("id", ids, len(table), bounds)
    native = _checks.native(table.dtype)
    to = _checks.result_dtype(out_dtype, table.dtype)
    result = _checks.output(out, (*ids.shape, table.shape[1]), to, table=table, ids=ids)
    if not _checks.is_readable_in_place(table, native):
        table, ids = compact_table(table, resolve_ids(ids, len(table), bounds=bounds), native)
        bounds = "zero"
    kernels.gather(table, ids, result, bounds)
    return result if out is None else out


def gather_add(
    wte: ArrayLike,
    token_ids: ArrayLike,
    wpe: ArrayLike,
    position_ids: ArrayLike | None = None,
    *,
    start: int = 0,
    out: Array | None = None,
    bounds: str = "raise",
    out_dtype: DTypeLike | None = None,
) -> Array:
    """Token row plus position row: ``out[i] = wte[token_ids[i]] + wpe[position_ids[i]]``.

    Parameters
    ----------
    wte : array_like of shape (V, D), of any float dtype
        The token table.
    token_ids : array_like of integers, shape S
    wpe : array_like of shape (P, D)
        The position table. Of another float dtype, the rows that are looked up are converted: to
        that of ``wte``, or where that is float16 or bfloat16 to float32.
    position_ids : array_like of integers, optional
        Broadcast to S. Without it the positions are ``start, start + 1, ...`` along the last axis
        of ``token_ids``.
    start : int
        The first position, when ``position_ids`` is not given.
    out, bounds, out_dtype
        As in `gather`; ``bounds`` applies to both tables. Under "zero" a missing row counts as
        zeros.

    Returns
    -------
    ndarray of shape S + (D,), of the dtype of ``wte`` or ``out_dtype``

    Raises
    ------
    IndexError
        An id is out of range: the first token id in C order, else the first position id. Nothing is
        written.
    TypeError, ValueError
        An argument has an invalid dtype, shape or layout. Nothing is written.

    Notes
    -----
    The embedding stage of microgpt (``tok_emb + pos_emb``) and of GPT-2 (llm.c,
    ``encoder_forward``).

    Examples
    --------
    >>> import numpy as np, fastembed as fe
    >>> wte, wpe = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[0.5, 0.5], [0.25, 0.25]])
    >>> fe.gather_add(wte, [1, 0], wpe)
    array([[3.5 , 4.5 ],
           [1.25, 2.25]])
    """
    if out_dtype is None:
        result = kernels.fast_gather_add(wte, token_ids, wpe, position_ids, start, out, bounds)
        if result is not None:
            return result
    wte = _checks.table("wte", wte)
    to = _checks.result_dtype(out_dtype, wte.dtype)
    pairs = check_pairs(wte.shape, to, token_ids, wpe, position_ids, start, out, bounds, wte=wte)
    add_pairs(wte, pairs)
    return pairs.result if out is None else out


class Pairs(NamedTuple):
    """The checked arguments of a look-up in two tables, and the array for its result."""

    token_ids: Array
    wpe: Array
    position_ids: Array | None
    start: int
    bounds: str
    result: Array

    def rows(self, vocab_size: int) -> tuple[Array, Array]:
        """The rows of the ids in each table, -1 for none."""
        return resolve_pair(self.token_ids, vocab_size, self.position_ids, self.start, len(self.wpe), bounds=self.bounds)

    def with_rows(self, token_rows: Array, position_rows: Array) -> Pairs:
        """The same with rows, -1 for none, for ids."""
        return self._replace(token_ids=token_rows, position_ids=position_rows, start=0, bounds="zero")


@own_floats
def check_pairs(
    shape: tuple[int, int],
    to: np.dtype[Any],
    token_ids: ArrayLike,
    wpe: ArrayLike,
    position_ids: ArrayLike | None,
    start: int,
    out: Array | None,
    bounds: str,
    **read: Any,
) -> Pairs:
    """Check the arguments of `gather_add`; ``shape`` and ``read`` are those of the token table."""
    bounds = _checks.bounds(bounds)
    wpe = _checks.convertible_table("wpe", wpe, _checks.arithmetic_dtype(to), shape[1])
    token_ids, position_ids, start = checked_ids(token_ids, shape[0], position_ids, start, len(wpe), bounds)
    read |= {"wpe": wpe, "token_ids": token_ids, "position_ids": position_ids}
    return Pairs(token_ids, wpe, position_ids, start, bounds, _checks.output(out, (*token_ids.shape, shape[1]), to, **read))


@own_floats
def add_pairs(wte: Array, pairs: Pairs, packing: Packing | None = None) -> None:
    """Write the sums of rows into the result; ``packing`` says that the token table is packed."""
    native, dtype, wpe = _checks.native(wte.dtype), _checks.arithmetic_dtype(pairs.result.dtype), pairs.wpe
    wpe_dtype = native if wpe.dtype == native and not packing else dtype
    if not ((packing or _checks.is_readable_in_place(wte, native)) and _checks.is_readable_in_place(wpe, wpe_dtype)):
        token_rows, position_rows = pairs.rows(len(wte))
        wte, token_rows = (wte, token_rows) if packing else compact_table(wte, token_rows, native)
        wpe, position_rows = compact_table(wpe, position_rows, wpe_dtype)
        pairs = pairs.with_rows(token_rows, position_rows)
    with packed_buffer(pairs.result, packing) as buffer:
        kernels.gather_add(wte, pairs.token_ids, wpe, pairs.position_ids, pairs.start, buffer, pairs.bounds, packing)


@own_floats
def scatter_add(table: Array, ids: ArrayLike, values: ArrayLike, *, bounds: str = "raise") -> None:
    """Add rows to a table in place: ``table[ids[i]] += values[i]``, as ``np.add.at`` does.

    Parameters
    ----------
    table : ndarray of shape (V, D), of any float dtype
        Written in place: native, aligned, with contiguous rows, no overlap with the inputs.
    ids : array_like of integers, shape S
        Rows may repeat; every element is summed in C order of ``ids``.
    values : array_like, broadcast to S + (D,)
        Another float dtype is converted to the table's, or where that is float16 or bfloat16 to
        float32.
    bounds : {"raise", "wrap", "clip", "zero"}
        As in `gather`; under "zero" an id out of range is ignored.

    Raises
    ------
    IndexError
        An id is out of range: the first one in C order is named. The table is unchanged.
    TypeError, ValueError
        An argument has an invalid dtype, shape or layout. The table is unchanged.

    Examples
    --------
    >>> import numpy as np, fastembed as fe
    >>> table = np.zeros((3, 2))
    >>> fe.scatter_add(table, [2, 0, 2], [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])
    >>> table
    array([[2., 2.],
           [0., 0.],
           [4., 4.]])
    """
    bounds = _checks.bounds(bounds)
    table = _checks.writable_table("table", table)
    ids = _checks.id_array("id", ids, len(table), bounds)
    values = _checks.rows_for("values", values, (*ids.shape, table.shape[1]), table.dtype, broadcast=True)
    _checks.check_no_overlap("table", table, ids=ids, values=values)
    if _checks.is_half(table.dtype):  # a sum of several values is rounded once: they are added row by row
        kernels.add_rows(table, *batch_of(resolve_ids(ids, len(table), bounds=bounds), len(table), values))
    else:
        kernels.scatter_add(table, ids, values, bounds)


@own_floats
def gather_add_backward(
    dout: ArrayLike,
    token_ids: ArrayLike,
    dwte: Array,
    dwpe: Array,
    position_ids: ArrayLike | None = None,
    *,
    start: int = 0,
    bounds: str = "raise",
) -> None:
    """Accumulate the gradient of `gather_add` into both tables' gradients.

    ``dwte[token_ids[i]] += dout[i]`` and ``dwpe[position_ids[i]] += dout[i]``, each element in C
    order of the ids.

    Parameters
    ----------
    dout : array_like of shape S + (D,)
        The gradient of the sum. Another float dtype is converted to that of ``dwte``, or where that
        is float16 or bfloat16 to float32.
    token_ids, position_ids, start, bounds
        As in `gather_add`; under "zero" an id out of range is ignored.
    dwte : ndarray of shape (V, D), of any float dtype
    dwpe : ndarray of shape (P, D), of the dtype of ``dwte``
        Both are written in place: native, aligned, with contiguous rows, no overlap with each other
        and the inputs. They are not zeroed first.

    Raises
    ------
    IndexError
        An id is out of range: the first token id in C order, else the first position id. Both
        tables are unchanged.
    TypeError, ValueError
        An argument has an invalid dtype, shape or layout. Both tables are unchanged.

    Notes
    -----
    llm.c, ``encoder_backward``.

    Examples
    --------
    >>> import numpy as np, fastembed as fe
    >>> dwte, dwpe = np.zeros((3, 2)), np.zeros((2, 2))
    >>> fe.gather_add_backward([[1.0, 2.0], [3.0, 4.0]], [2, 2], dwte, dwpe)
    >>> dwte[2], dwpe[0]
    (array([4., 6.]), array([1., 2.]))
    """
    bounds = _checks.bounds(bounds)
    dwte = _checks.writable_table("dwte", dwte)
    dwpe = _checks.writable_table("dwpe", dwpe, dwte.dtype, dwte.shape[1])
    token_ids, position_ids, start = checked_ids(token_ids, len(dwte), position_ids, start, len(dwpe), bounds)
    dout = _checks.rows_for("dout", dout, (*token_ids.shape, dwte.shape[1]), dwte.dtype)
    _checks.check_no_overlap("dwte", dwte, dwpe=dwpe, dout=dout, token_ids=token_ids, position_ids=position_ids)
    _checks.check_no_overlap("dwpe", dwpe, dout=dout, token_ids=token_ids, position_ids=position_ids)
    if _checks.is_half(dwte.dtype):
        token_rows, position_rows = resolve_pair(token_ids, len(dwte), position_ids, start, len(dwpe), bounds=bounds)
        commit = kernels.Commit()
        commit.add_gradients(dwte, *batch_of(token_rows, len(dwte), dout))
        commit.add_gradients(dwpe, *batch_of(position_rows, len(dwpe), dout))
        commit.run()
    else:
        kernels.gather_add_backward(dout, token_ids, dwte, dwpe, position_ids, start, bounds)
