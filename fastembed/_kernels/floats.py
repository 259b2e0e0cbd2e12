"""The surroundings of arithmetic in Python and NumPy: the floating-point environment of kernels."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np

from .._memory import raise_if_lost
from .backend import kernels

P = ParamSpec("P")
R = TypeVar("R")


class own_floats:
    """Round to nearest, keep subnormals and raise nothing, whatever the caller has set.

    Another library may have set another rounding mode or flush-to-zero, and `np.seterr` may turn
    an overflow into an exception. Where NumPy has no memory and says so by a SystemError, a
    MemoryError is raised.
    """

    def __enter__(self) -> None:
        self._errstate = np.errstate(all="ignore")
        self._errstate.__enter__()
        self._before = kernels.enter_default_floats()

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        kernels.restore_floats(self._before)
        self._errstate.__exit__(kind, error, traceback)
        raise_if_lost(error)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
            with own_floats():
                return function(*args, **kwargs)

        return wrapped
