"""What readers of files raise: CheckpointError; regular files, tensors by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from .._messages import first_few, shown
from .status import is_other_than_file

T = TypeVar("T")


class CheckpointError(ValueError):
    """A file is not a checkpoint, is damaged, or has unexpected names, shapes or dtypes."""


class ReplacedError(OSError):
    """A mapped file is not the one that was opened, or is gone."""


def need_regular_file(path: Path) -> None:
    """OSError if a path is that of something else: to open a pipe might wait for ever."""
    if is_other_than_file(path):
        raise OSError(f"{path} is not a regular file{', but a directory' if path.is_dir() else ''}")


def tensor_of(tensors: Mapping[str, T], name: str) -> T:
    """The tensor of that name; KeyError with some of the names there are."""
    if name not in tensors:
        known = first_few(sorted(other or "one without a name" for other in tensors)) or "none at all"
        raise KeyError(f"there is no tensor {shown(name)}, but there is {known}")
    return tensors[name]
