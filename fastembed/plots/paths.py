"""The files that pictures are written to."""

from __future__ import annotations

import os

from .. import _checks

SUFFIXES = (".png", ".svg", ".pdf")


def check_path(option: str, path: str | os.PathLike[str], suffixes: tuple[str, ...] = SUFFIXES) -> str:
    """Check, before anything is drawn, that a picture can be, and return its format.

    Raises
    ------
    ValueError
        The suffix of the file's name says no format that is known.
    ImportError
        matplotlib is not installed.
    """
    suffix = _checks.path(option, path).suffix.lower()
    if suffix not in suffixes:
        raise ValueError(f"{option} must name a {' or '.join(suffixes)} file, got {_checks.shown(os.fspath(path))}")
    from . import figure  # noqa: F401

    return suffix[1:]
