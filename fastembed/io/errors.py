"""What readers of files raise: CheckpointError, and MemoryErrors that Python or NumPy lost."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from .._messages import first_few, shown

T = TypeVar("T")

# Of a TypeError where a path cannot be looked at, and of a RuntimeError where a file has no lock.
_WITHOUT_MEMORY = (f"not {type(Path()).__name__}", "can't allocate")


class CheckpointError(ValueError):
    """A file is not a checkpoint, is damaged, or has unexpected names, shapes or dtypes."""


@contextlib.contextmanager
def memory_errors() -> Iterator[None]:
    """Raise MemoryError where Python or NumPy raise something else for want of memory.

    Python's calls of files say then that a Path is no path, or that a lock cannot be allocated; and
    a function of NumPy may fail without an exception, which is a SystemError.
    """
    try:
        yield
    except (TypeError, RuntimeError, SystemError) as error:
        if isinstance(error, SystemError) or any(text in str(error) for text in _WITHOUT_MEMORY):
            raise MemoryError(f"no memory: {error}") from error
        raise


def need_regular_file(path: Path) -> None:
    """OSError if a path is that of something else: to open a pipe might wait for ever."""
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is not a regular file")


def tensor_of(tensors: Mapping[str, T], name: str) -> T:
    """The tensor of that name; KeyError with some of the names there are."""
    if name not in tensors:
        raise KeyError(f"no tensor {shown(name)}, but {first_few(sorted(tensors))}")
    return tensors[name]
