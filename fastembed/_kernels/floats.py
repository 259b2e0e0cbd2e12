"""The surroundings of arithmetic in Python and NumPy: the floating-point environment of kernels."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from .._float_env import errors_ignored
from .._memory import raise_if_lost
from .backend import kernels

if TYPE_CHECKING:
    from .._typing import Array

P = ParamSpec("P")
R = TypeVar("R")


def own_floats(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function round to nearest, keep subnormals and raise no floating-point errors.

    Another library may have set another rounding mode or flush-to-zero, and `np.seterr` may turn
    an overflow into an exception. What the caller has set is back when the function ends, whatever
    signal comes meanwhile. Where NumPy has no memory and says so by a SystemError, a MemoryError
    is raised.
    """
    quiet = errors_ignored(function)

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return kernels.in_default_floats(quiet, args, kwargs)
        except (TypeError, RuntimeError, SystemError) as error:
            raise_if_lost(error)
            raise

    return wrapped


@own_floats
def assign(target: Array, values: Array) -> None:
    """``target[...] = values``, rounded."""
    target[...] = values
