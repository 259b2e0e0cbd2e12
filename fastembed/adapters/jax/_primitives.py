"""Look-ups, and sums of gradients, as primitives of JAX: types, derivatives, vmap, custom calls.

S: the shape of the ids; V: rows of the table; D: columns. `look_up` has the arguments
(table, ids[, offsets]) and `add` (gradients, ids[, offsets]), of shape S + (D,), or (B, D) in a
mode of bags: then a bag is a part of the flat ids between offsets, or without offsets the last axis
of the ids. Each is the transpose of the other.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from ..._checks.options import BOUNDS, MODES
from ..._kernels import backend

__all__ = ["add", "look_up", "rows_of"]

INT32_MAX = 2**31 - 1


def _register_handlers() -> None:
    handlers = backend.kernels.xla_handlers()
    if not handlers:
        raise ImportError(f"fastembed.adapters.jax needs the C backend, but FASTEMBED_BACKEND={backend.name}")
    for handler, capsule in handlers.items():
        jax.ffi.register_ffi_target(f"fastembed_{handler}", capsule, platform="cpu")


_register_handlers()


def _custom_call(handler: str, shape: tuple[int, ...], dtype: Any, *args: Any, **attrs: int) -> Any:
    call = jax.ffi.ffi_call(f"fastembed_{handler}", jax.ShapeDtypeStruct(shape, dtype))
    return call(*args, **{name: np.int64(value) for name, value in attrs.items()})


def _numbers(bounds: str, mode: str | None, padding: int | None) -> dict[str, int]:
    """The options of a custom call: -1 for no bags, and for no padding row."""
    return {
        "bounds": BOUNDS.index(bounds),
        "mode": -1 if mode is None else MODES.index(mode),
        "padding": -1 if padding is None else padding,
    }


def arithmetic_dtype(dtype: Any) -> Any:
    """The dtype in which rows are added: float32 for half precision, else the dtype itself."""
    return jnp.dtype(dtype) if jnp.dtype(dtype) in ("float32", "float64", "complex64", "complex128") else jnp.dtype("float32")


def _shape_of_result(ids: Any, offsets: tuple[Any, ...], mode: str | None) -> tuple[int, ...]:
    """The shape of what is looked up, without the columns."""
    if mode is None:
        return tuple(ids.shape)
    return tuple(offsets[0].shape) if offsets else tuple(ids.shape[:-1])


# Custom calls


def _call_look_up(table: Any, ids: Any, *offsets: Any, bounds: str, mode: str | None, padding: int | None) -> Any:
    shape = (*_shape_of_result(ids, offsets, mode), table.shape[-1])
    if mode is None:
        return _custom_call("take", shape, table.dtype, table, ids, bounds=BOUNDS.index(bounds))
    dtype = arithmetic_dtype(table.dtype)
    if table.dtype == dtype:
        return _custom_call("bag", shape, dtype, table, ids, *offsets, **_numbers(bounds, mode, padding))
    rows = _call_rows(
        ids, n_rows=table.shape[0], bounds=bounds, padding=padding
    )  # bags of half precision: only rows that are looked up are converted
    items = jnp.where(rows < 0, -1, jnp.arange(math.prod(ids.shape), dtype=jnp.int32).reshape(ids.shape))
    values = _call_look_up(table, rows.reshape(-1), bounds="zero", mode=None, padding=None).astype(dtype)
    return _call_look_up(values, items, *offsets, bounds="zero", mode=mode, padding=None).astype(table.dtype)


def _call_rows(ids: Any, *, n_rows: int, bounds: str, padding: int | None = None) -> Any:
    """The row of each id, -1 for none."""
    if n_rows > INT32_MAX:
        raise ValueError(f"padding_idx, maxima and bags of half precision require at most 2**31 - 1 rows, got {n_rows}")
    return _custom_call("rows", ids.shape, np.int32, ids, n_rows=n_rows, **_numbers(bounds, None, padding))


def _call_add(grads: Any, ids: Any, *offsets: Any, n_rows: int, bounds: str, mode: str | None, padding: int | None) -> Any:
    return _custom_call("add", (n_rows, grads.shape[-1]), grads.dtype, grads, ids, *offsets, **_numbers(bounds, mode, padding))


def _call_winners(table: Any, ids: Any, maxima: Any, *offsets: Any, **options: Any) -> Any:
    """The item of a bag that has each maximum, the first of several; -1 in a bag without rows."""
    return _custom_call("winners", maxima.shape, np.int32, table, ids, maxima, *offsets, **_numbers(**options))


# Primitives


@functools.partial(jax.jit, static_argnums=(0, 1))
def _compiled(primitive: Primitive, params: tuple[tuple[str, Any], ...], *args: Any) -> Any:
    return primitive.bind(*args, **dict(params))


def _primitive(name: str, call: Callable[..., Any], abstract: Callable[..., Any], batch: Callable[..., Any]) -> Primitive:
    primitive = Primitive(f"fastembed_{name}")
    primitive.def_impl(lambda *args, **params: _compiled(primitive, tuple(params.items()), *args))
    primitive.def_abstract_eval(abstract)
    mlir.register_lowering(primitive, mlir.lower_fun(call, multiple_results=False), platform="cpu")
    batching.primitive_batchers[primitive] = batch
    return primitive


def _one_by_one(primitive: Primitive, args: Any, axes: Any, params: Any) -> tuple[Any, int]:
    """What vmap does where a call cannot take all of them at once."""
    mapped = [jnp.moveaxis(arg, axis, 0) for arg, axis in zip(args, axes, strict=True) if axis is not None]

    def one(mapped: Any) -> Any:
        rest = iter(mapped)
        return primitive.bind(*(arg if axis is None else next(rest) for arg, axis in zip(args, axes, strict=True)), **params)

    return lax.map(one, mapped), 0


def _look_up_type(table: Any, ids: Any, *offsets: Any, bounds: str, mode: str | None, padding: int | None) -> Any:
    return jax.core.ShapedArray((*_shape_of_result(ids, offsets, mode), table.shape[-1]), table.dtype)


def _look_up_batch(args: Any, axes: Any, **params: Any) -> tuple[Any, int]:
    """More ids of one table are one call; their gradient is one table, too."""
    if axes[0] is None and len(args) == 2:
        return look_up.bind(args[0], jnp.moveaxis(args[1], axes[1], 0), **params), 0
    return _one_by_one(look_up, args, axes, params)


def _add_type(grads: Any, ids: Any, *offsets: Any, n_rows: int, **params: Any) -> Any:
    return jax.core.ShapedArray((n_rows, grads.shape[-1]), grads.dtype)


look_up: Primitive = _primitive("look_up", _call_look_up, _look_up_type, _look_up_batch)
add: Primitive = _primitive("add", _call_add, _add_type, lambda args, axes, **params: _one_by_one(add, args, axes, params))

winners: Primitive = _primitive(
    "winners",
    _call_winners,
    lambda table, ids, maxima, *offsets, **options: jax.core.ShapedArray(maxima.shape, np.dtype(np.int32)),
    lambda args, axes, **params: _one_by_one(winners, args, axes, params),
)
rows_of: Primitive = _primitive(
    "rows",
    _call_rows,
    lambda ids, **options: jax.core.ShapedArray(ids.shape, np.dtype(np.int32)),
    lambda args, axes, **params: (rows_of.bind(*args, **params), axes[0]),
)


# Derivatives: both are linear in their first argument, apart from the maximum


def _tangent_of_maxima(tangent: Any, maxima: Any, table: Any, ids: Any, *offsets: Any, **options: Any) -> Any:
    """Each element is that of the first row that has the maximum; its transpose adds in float32."""
    values, largest = (lax.stop_gradient(x).astype(arithmetic_dtype(x.dtype)) for x in (table, maxima))
    items = winners.bind(values, ids, largest, *offsets, **options)
    rows = rows_of.bind(ids, n_rows=table.shape[0], bounds=options["bounds"]).reshape(-1)
    won = tangent.astype(values.dtype)[rows[items], jnp.arange(table.shape[1])]
    return jnp.where(items < 0, jnp.zeros((), won.dtype), won).astype(tangent.dtype)


def _look_up_jvp(primals: Any, tangents: Any, **params: Any) -> tuple[Any, Any]:
    result = look_up.bind(*primals, **params)
    if type(tangents[0]) is ad.Zero:
        return result, ad.Zero.from_primal_value(result)
    if params["mode"] == "max":
        return result, _tangent_of_maxima(tangents[0], result, *primals, **params)
    return result, look_up.bind(tangents[0], *primals[1:], **params)


def _look_up_transpose(grads: Any, table: Any, ids: Any, *offsets: Any, **params: Any) -> list[Any]:
    (n_rows, _), dtype = table.aval.shape, table.aval.dtype
    if type(grads) is ad.Zero:
        return [ad.Zero(table.aval), None, *(None for _ in offsets)]
    sums = add.bind(grads.astype(arithmetic_dtype(dtype)), ids, *offsets, n_rows=n_rows, **params)
    return [sums.astype(dtype), None, *(None for _ in offsets)]


def _add_jvp(primals: Any, tangents: Any, **params: Any) -> tuple[Any, Any]:
    result = add.bind(*primals, **params)
    if type(tangents[0]) is ad.Zero:
        return result, ad.Zero.from_primal_value(result)
    return result, add.bind(tangents[0], *primals[1:], **params)


def _add_transpose(sums: Any, grads: Any, ids: Any, *offsets: Any, n_rows: int, **params: Any) -> list[Any]:
    if type(sums) is ad.Zero:
        return [ad.Zero(grads.aval), None, *(None for _ in offsets)]
    return [look_up.bind(sums, ids, *offsets, **params), None, *(None for _ in offsets)]


ad.primitive_jvps[look_up], ad.primitive_transposes[look_up] = _look_up_jvp, _look_up_transpose
ad.primitive_jvps[add], ad.primitive_transposes[add] = _add_jvp, _add_transpose
