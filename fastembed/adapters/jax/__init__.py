"""Look-ups and bags for JAX on the CPU: ``take``, ``embedding``, ``embedding_bag``.

V: rows of the table; D: columns; S: the shape of the ids; B: bags. Ids that are out of range are
found when a compiled function runs, and end it with JAX's error of a failed computation.
"""

from __future__ import annotations

from typing import Any

try:
    import jax
except ImportError as error:
    raise ImportError("fastembed.adapters.jax needs jax: pip install 'microgpt-fastembed[jax]'") from error
import numpy as np
from jax import lax
from jax import numpy as jnp

from ... import _checks
from ..._interactive import completion
from ...functional.lookup import resolve_ids
from ._primitives import look_up, rows_of

__all__ = ["embedding", "embedding_bag", "take"]
__dir__ = completion.names_of(__all__)

_FLOATS = ("float32", "float64", "float16", "bfloat16")
_INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
_COPIED = (*_FLOATS, *_INTEGERS, "bool", "complex64", "complex128")


def _table(value: Any, dtypes: tuple[str, ...]) -> jax.Array:
    table = jnp.asarray(value)
    if table.dtype.name not in dtypes:
        raise TypeError(f"table must be one of {', '.join(dtypes)}; got {table.dtype}")
    if table.ndim != 2:
        raise ValueError(f"table must have 2 axes (rows, columns), got shape {table.shape}")
    return table


def _integers(name: str, array: jax.Array) -> jax.Array:
    if array.dtype.name not in _INTEGERS:
        raise TypeError(f"{name}s must be integers, got an array of {array.dtype}")
    return array


def _ids(value: Any, n_rows: int, bounds: str) -> jax.Array:
    """Ids as an array of JAX; those that it would cut to 32 bits become rows first."""
    if isinstance(value, jax.Array):
        return _integers("id", value)
    array = _checks.id_array("id", value, n_rows, bounds)
    if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
        array = resolve_ids(array, n_rows, bounds=bounds)
    return jnp.asarray(array)


def _offsets(value: Any, shape: tuple[int, ...]) -> tuple[jax.Array, ...]:
    """Where bags begin, or nothing; the values of an array of JAX are checked when it runs."""
    if not isinstance(value, jax.Array):
        ends = _checks.offsets(value, shape, False)
        return () if value is None else (jnp.asarray(ends[:-1]),)
    if len(shape) != 1:
        raise ValueError(f"offsets require ids of 1 axis, got ids of shape {shape}")
    if value.ndim != 1:
        raise ValueError(f"offsets must have 1 axis, got shape {value.shape}")
    return (_integers("offset", value),)


def take(table: Any, ids: Any, *, bounds: str = "raise") -> jax.Array:
    """Select rows of a table, as ``jnp.take(table, ids, axis=0)`` does.

    Parameters
    ----------
    table : array of shape (V, D)
        float32, float64, float16, bfloat16, complex, integers or bool.
    ids : array of integers, shape S
        Of any of the eight integer types. Negative ids do not count from the end.
    bounds : {"raise", "wrap", "clip", "zero"}
        The meaning of an id outside ``0 <= id < V``: an error; the id modulo V; the nearest valid
        id; a row of zeros that has no gradient.

    Returns
    -------
    jax.Array of shape S + (D,), of the table's dtype

    Raises
    ------
    jax.errors.JaxRuntimeError, or ValueError where JAX waits for a result that is under way
        An id is out of range, which is found when the computation runs: the first one in C order
        is named.
    IndexError
        Such an id does not fit JAX's integers.
    TypeError, ValueError
        An argument has an invalid dtype or shape.

    Notes
    -----
    The gradient of the table is dense. Each row is summed in the order of the ids, in float32 for
    float16 and bfloat16, which is rounded once. ``vmap`` over ids is one call, and so is its
    gradient; ``vmap`` over tables is one call for each.

    Examples
    --------
    >>> from jax import numpy as jnp
    >>> from fastembed.adapters.jax import take
    >>> take(jnp.array([[1.0, 2.0], [3.0, 4.0]], "float32"), jnp.array([1, 0, 1]))
    Array([[3., 4.],
           [1., 2.],
           [3., 4.]], dtype=float32)
    """
    bounds = _checks.bounds(bounds)
    table = _table(table, _COPIED)
    return look_up.bind(table, _ids(ids, table.shape[0], bounds), bounds=bounds, mode=None, padding=None)


def embedding(table: Any, ids: Any, *, padding_idx: int | None = None, bounds: str = "raise") -> jax.Array:
    """Select rows of a table; ``padding_idx`` is a row that gets no gradient.

    Parameters
    ----------
    table, ids, bounds
        As in `take`; the table holds floats.
    padding_idx : int, optional
        A negative one counts from the end.

    Returns
    -------
    jax.Array of shape S + (D,), of the table's dtype

    Raises
    ------
    jax.errors.JaxRuntimeError, IndexError, TypeError, ValueError
        As in `take`.

    Notes
    -----
    As torch.nn.functional.embedding.

    Examples
    --------
    >>> import jax
    >>> from fastembed.adapters.jax import embedding
    >>> loss = lambda table: embedding(table, [0, 1], padding_idx=0).sum()
    >>> jax.grad(loss)(jax.numpy.ones((2, 2), "float32"))
    Array([[0., 0.],
           [1., 1.]], dtype=float32)
    """
    bounds = _checks.bounds(bounds)
    table = _table(table, _FLOATS)
    n_rows = table.shape[0]
    padding = _checks.padding_idx(padding_idx, n_rows)
    ids = _ids(ids, n_rows, bounds)
    rows = look_up.bind(table, ids, bounds=bounds, mode=None, padding=None)
    if padding is None:
        return rows
    is_padding = rows_of.bind(ids, n_rows=n_rows, bounds=bounds) == np.int32(padding)
    return jnp.where(is_padding[..., None], lax.stop_gradient(rows), rows)


def embedding_bag(
    table: Any, ids: Any, offsets: Any = None, *, mode: str = "mean", padding_idx: int | None = None, bounds: str = "raise"
) -> jax.Array:
    """One row for each bag of ids: the sum, the mean or the maximum of its rows.

    Parameters
    ----------
    table : array of shape (V, D)
        float32, float64, float16 or bfloat16.
    ids : array of integers, shape (N,), or (B, n) for bags of one length
    offsets : array of integers, shape (B,), optional
        Where each bag begins in ``ids`` of one axis: from 0 on, not decreasing, at most N.
    mode : {"sum", "mean", "sqrtn", "max"}
        The sum of the rows; the sum divided by their number, or by the square root of it; or the
        maximum of each column, NaN if one of its elements is NaN.
    padding_idx : int, optional
        A row that is skipped and not counted; a negative one counts from the end.
    bounds : {"raise", "wrap", "clip", "zero"}
        As in `take`; under "zero" an id out of range is skipped and not counted.

    Returns
    -------
    jax.Array of shape (B, D), of the table's dtype
        Zeros for a bag without rows. Rows are added to 0 in the order of the ids.

    Raises
    ------
    jax.errors.JaxRuntimeError
        An id is out of range, or offsets are invalid, which is found when the computation runs.
    IndexError, TypeError, ValueError
        As in `take`; offsets that are no array of JAX are checked at once.

    Notes
    -----
    As `fastembed.embedding_bag`. The gradient of a maximum goes to the first row that has it.

    Examples
    --------
    >>> from jax import numpy as jnp
    >>> from fastembed.adapters.jax import embedding_bag
    >>> table = jnp.array([[1.0, 2.0], [3.0, 4.0]], "float32")
    >>> embedding_bag(table, [0, 1, 1], [0, 2, 2], mode="sum")
    Array([[4., 6.],
           [0., 0.],
           [3., 4.]], dtype=float32)
    """
    mode, bounds = _checks.mode(mode), _checks.bounds(bounds)
    table = _table(table, _FLOATS)
    padding = _checks.padding_idx(padding_idx, table.shape[0])
    ids = _ids(ids, table.shape[0], bounds)
    return look_up.bind(table, ids, *_offsets(offsets, ids.shape), bounds=bounds, mode=mode, padding=padding)
