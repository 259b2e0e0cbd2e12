"""Nested lists as arrays: their shape, their items in C order, and rounding to a dtype."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from ctypes import c_float
from typing import Any

from .._messages import shown
from .halves import is_half, nearest


def rounding(dtype: str) -> Callable[[float], float]:
    """The function that rounds a float64 result to ``dtype``.

    Rounding the float64 result of +, -, *, / or sqrt of float32 numbers gives the bits of the
    float32 operation, because 53 >= 2 * 24 + 2 (Figueroa, "When is double rounding innocuous?",
    1995). Half precision is a storage format: arithmetic is in float32, so that a number is rounded
    to float32 first and to half precision when it is stored.
    """
    roundings: dict[str, Callable[[float], float]] = {"float64": float, "float32": lambda x: c_float(x).value}
    if is_half(dtype):
        return lambda x: nearest(c_float(x).value, dtype)
    if dtype not in roundings:
        raise TypeError(f"dtype must be float64, float32, float16 or bfloat16, got {shown(dtype)}")
    return roundings[dtype]


def arithmetic(dtype: str) -> str:
    """The dtype of sums over tables of ``dtype``, of their gradients and of optimiser states."""
    return "float32" if is_half(dtype) else dtype


def is_list(nested: Any) -> bool:
    return isinstance(nested, list | tuple | range)


def shape(nested: Any) -> tuple[int, ...]:
    """The shape of a nested list; () for a number. A ragged list is a ValueError."""
    if not is_list(nested):
        return ()
    inner = {shape(item) for item in nested}
    if len(inner) > 1:
        raise ValueError("a nested list must not be ragged")
    return (len(nested), *(inner.pop() if inner else ()))


def flat(nested: Any) -> Iterator[Any]:
    """The numbers of a nested list in C order."""
    if not is_list(nested):
        yield nested
        return
    for item in nested:
        yield from flat(item)


def nest(items: Iterable[Any], of_shape: tuple[int, ...]) -> Any:
    """The inverse of `flat`: items in C order as nested lists of that shape."""
    iterator = iter(items)

    def build(rest: tuple[int, ...]) -> Any:
        return [build(rest[1:]) for _ in range(rest[0])] if rest else next(iterator)

    return build(of_shape)


def unravel(index: int, of_shape: tuple[int, ...]) -> tuple[int, ...]:
    """The position of the index-th item in C order."""
    position: list[int] = []
    for length in reversed(of_shape):
        index, k = divmod(index, length)
        position.insert(0, k)
    return tuple(position)


def broadcast(nested: Any, to_shape: tuple[int, ...]) -> list[Any]:
    """The items of `nested`, in C order, after NumPy's broadcasting to that shape."""
    from_shape = shape(nested)
    aligned = (1,) * (len(to_shape) - len(from_shape)) + from_shape
    if len(aligned) != len(to_shape) or any(a not in (1, t) for a, t in zip(aligned, to_shape, strict=True)):
        raise ValueError(f"shape {from_shape} does not broadcast to {to_shape}")
    items = list(flat(nested))
    broadcast_items = []
    for index in range(math.prod(to_shape)):
        source = 0
        for length, k in zip(aligned, unravel(index, to_shape), strict=True):
            source = source * length + (k if length > 1 else 0)
        broadcast_items.append(items[source])
    return broadcast_items
