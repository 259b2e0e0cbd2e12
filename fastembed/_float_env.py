"""The floating-point environment of arithmetic in Python, whatever its caller has set.

Another library may have set another rounding mode or flush-to-zero. Python's floats have no control
of it, but C's library has: its fesetenv is called here, except on Windows, where the reference
computes in the environment of its caller.
"""

from __future__ import annotations

import contextlib
import contextvars
import ctypes
import functools
import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any, ParamSpec, TypeVar

import numpy as np

P = ParamSpec("P")
R = TypeVar("R")
_MOST_BYTES = 64  # more than C's fenv_t has anywhere


class _Library:
    """The calls of C's library, and what stands for the default environment there."""

    def __init__(self) -> None:
        names = ctypes.PyDLL(None)
        self.get, self.set = names.fegetenv, names.fesetenv
        is_object = sys.platform == "darwin"  # elsewhere it is the address -1
        self.default = ctypes.byref(ctypes.c_char.in_dll(names, "_FE_DFL_ENV")) if is_object else ctypes.c_void_p(-1)


_library = None if sys.platform == "win32" else _Library()
_thread = threading.local()


def in_default_floats(function: Callable[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
    """A call in the default environment.

    Handlers of signals run behind calls: none can run between the function's end and that of
    `finally`, which sets the environment that was there.
    """
    if _library is None:
        return function(*args, **kwargs)
    before = ctypes.create_string_buffer(_MOST_BYTES)
    _library.get(before)
    try:
        _library.set(_library.default)
        return function(*args, **kwargs)
    finally:
        _library.set(before)


@contextlib.contextmanager
def default_floats() -> Iterator[None]:
    """A context of imports: Python reads the decimals of a module when it compiles it.

    Rounded up, 1e-7 is another number. A signal can come before the end of a context, but the
    import that it interrupts has failed anyway.
    """
    with contextlib.ExitStack() as stack:
        if _library is not None:
            before = ctypes.create_string_buffer(_MOST_BYTES)
            _library.get(before)
            stack.callback(_library.set, before)
            _library.set(_library.default)
        yield


def errors_ignored(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function ignore NumPy's floating-point errors, whatever its caller's `np.seterr` says.

    It runs in a context of its own, of which the end is not Python's code: with `np.errstate` a
    signal can come before the caller's setting is back, which is then lost.
    """
    quiet = np.errstate(all="ignore")(function)

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        return contextvars.copy_context().run(quiet, *args, **kwargs)

    return wrapped


def _protected(function: Callable[P, R]) -> Callable[P, R]:
    """The function, in the default environment; what it calls is in it already."""

    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            _thread.is_inside = True
            return function(*args, **kwargs)
        finally:
            _thread.is_inside = False

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        if getattr(_thread, "is_inside", False):
            return function(*args, **kwargs)
        return in_default_floats(inside, args, kwargs)

    return wrapped


def _protect_member(owner: Any, name: str, value: Any) -> None:
    kind = type(value)
    function = value.__func__ if kind in (classmethod, staticmethod) else value
    if isinstance(function, FunctionType) and not inspect.isgeneratorfunction(function):
        setattr(owner, name, _protected(function) if kind is FunctionType else kind(_protected(function)))


def protect(module: str, package: str) -> None:
    """Let functions, and methods of classes, compute in the default environment.

    They are those that a module has of its package by names without an underscore in front, and
    the methods that Python calls.
    """
    loaded = sys.modules[module]
    for name, value in list(vars(loaded).items()):
        if name.startswith("_") or not str(getattr(value, "__module__", "")).startswith(package):
            continue
        if isinstance(value, type):
            for member, of_class in list(vars(value).items()):
                if member in ("__init__", "__call__", "__add__") or not member.startswith("_"):
                    _protect_member(value, member, of_class)
        else:
            _protect_member(loaded, name, value)
