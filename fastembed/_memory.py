"""MemoryErrors that Python or NumPy lose: what they raise in their place."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

# Of a TypeError where a path cannot be looked at, or where NumPy cannot remember which loop serves
# some dtypes; of a RuntimeError where a lock cannot be made; of OpenSSL's ValueError in a hash.
_WITHOUT_MEMORY = (
    f"not {type(Path()).__name__}", "loop/promoter has already been registered", "can't allocate", "digital envelope routines",
)  # fmt: skip


class memory_errors(contextlib.ContextDecorator):
    """A context that raises MemoryError where Python or NumPy raise something else for want of it.

    Python's calls of files say then that a Path is no path, or that a lock cannot be allocated; and
    a function of NumPy may fail without an exception, which is a SystemError.
    """

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        raise_if_lost(error)


def raise_if_lost(error: BaseException | None) -> None:
    """MemoryError for an error that stands for one."""
    is_lost = isinstance(error, TypeError | RuntimeError | ValueError) and any(text in str(error) for text in _WITHOUT_MEMORY)
    if is_lost or isinstance(error, SystemError):
        raise MemoryError(f"no memory: {error}") from error
