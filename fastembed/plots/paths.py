"""The files that pictures are written to."""

from __future__ import annotations

from pathlib import Path

from .._messages import shown

SUFFIXES = (".png", ".svg", ".pdf")


def check_path(option: str, path: str, suffixes: tuple[str, ...] = SUFFIXES) -> None:
    """Check, before anything is drawn, that a picture can be.

    Raises
    ------
    ValueError
        The suffix of the file's name says no format that is known.
    ImportError
        matplotlib is not installed.
    """
    if Path(path).suffix.lower() not in suffixes:
        raise ValueError(f"{option} must name a {' or '.join(suffixes)} file, got {shown(path)}")
    from . import figure  # noqa: F401
