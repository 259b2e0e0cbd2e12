"""Rows and names as the TSV files that the TensorBoard projector loads."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from ..io.atomic import replacing
from ..plots.source import Source

_ALL_ROWS = 2**62
_ESCAPES = str.maketrans({"\t": "\\t", "\n": "\\n", "\r": "\\r"})


def save_vectors(path: str | os.PathLike[str], source: Any, *, table: str | None = None) -> None:
    """Write each row as a line of numbers, with all the digits that they need.

    Parameters
    ----------
    path : path-like
    source, table
        As in `save`; all rows are written.

    Raises
    ------
    TypeError, ValueError, KeyError, OSError
        As in `save`.

    Examples
    --------
    >>> import tempfile, pathlib, fastembed as fe
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fe.explorer.save_vectors(f"{folder}/v.tsv", [[1.5, 2.0], [0.1, 3.0]])
    ...     pathlib.Path(f"{folder}/v.tsv").read_text().split()
    ['1.5', '2.0', '0.1', '3.0']
    """
    shown = Source.of(source, table=table, max_rows=_ALL_ROWS)
    with replacing(path) as new, open(new, "w", encoding="ascii", newline="\n") as file:
        file.writelines("\t".join(map(repr, row)) + "\n" for row in shown.rows.tolist())


def save_metadata(
    path: str | os.PathLike[str],
    source: Any,
    names: Iterable[str] | None = None,
    *,
    table: str | None = None,
    lookups: Any = None,
) -> None:
    """Write the name of each row as a line, for the vectors of `save_vectors`.

    With counts of look-ups there are two columns and a line of headings, as the projector expects.
    Tabs and line breaks in names are escaped.

    Parameters
    ----------
    path : path-like
    source, names, table, lookups
        As in `save`.

    Raises
    ------
    TypeError, ValueError, KeyError, OSError
        As in `save`.

    Examples
    --------
    >>> import tempfile, pathlib, fastembed as fe
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fe.explorer.save_metadata(f"{folder}/m.tsv", [[1.5], [0.1]], ["a", "b"], lookups=[7, 0])
    ...     pathlib.Path(f"{folder}/m.tsv").read_text().split("\\n")
    ['name\\tlookups', 'a\\t7', 'b\\t0', '']
    """
    shown = Source.of(source, names, table=table, lookups=lookups, max_rows=_ALL_ROWS)
    lines = [name.encode("utf-8", "backslashreplace").decode().translate(_ESCAPES) for name in shown.names]
    if shown.counts is not None:
        lines = ["name\tlookups", *(f"{name}\t{count}" for name, count in zip(lines, shown.counts.tolist(), strict=True))]
    with replacing(path) as new, open(new, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)
