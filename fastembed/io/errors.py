"""CheckpointError, and values as errors show them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .. import _checks


class CheckpointError(ValueError):
    """A file is not a checkpoint, is damaged, or has unexpected names, shapes or dtypes."""


def shown(value: Any) -> str:
    """A value as an error shows it: at most about 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def few(names: Iterable[str]) -> str:
    """The first names in order, each cut to about 80 characters, and how many more there are."""
    return _checks.first_few([name if len(name) <= 80 else f"{name[:77]}..." for name in sorted(names)])
