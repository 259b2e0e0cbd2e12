"""The page: a template with the style, the scripts and the table in it."""

from __future__ import annotations

import base64
import html
import json
import os
import re
from collections.abc import Iterable
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _checks
from .._kernels.floats import own_floats
from .._messages import printable
from ..io.atomic import replacing
from ..plots.source import MAX_ROWS, Source

if TYPE_CHECKING:
    from .._typing import Array

SCRIPTS = ("data.js", "labels.js", "map.js", "rows.js", "page.js")
_MAX_HALVES = 4_000_000  # elements up to which they are float16, above it int8


def save(
    path: str | os.PathLike[str],
    source: Any,
    names: Iterable[str] | None = None,
    *,
    table: str | None = None,
    lookups: Any = None,
    max_rows: int = MAX_ROWS,
    title: str | None = None,
) -> None:
    """Write an HTML page that shows the rows of a table as a map and as a list.

    The page finds rows by name and the nearest rows of each by cosine. It is one file and loads
    nothing else. Rows are in it as float16, or in 8 bits if there are more than 4 million elements:
    cosines then differ from those of `Embedding.nearest` by less than 0.01.

    Parameters
    ----------
    path : path-like
    source : layer, packed table, or array_like of shape (V, D)
    names : iterable of str, optional
        Those of the rows; by default the layer's vocabulary, or the numbers of the rows. Control
        and other invisible characters are shown as escapes.
    table : str, optional
        Which of a layer's tables; by default the first.
    lookups : array_like of integers, shape (V,), optional
        By default the layer's counts, if it counts.
    max_rows : int
        The most rows, the first ones of the table; 50,000 at most.
    title : str, optional

    Raises
    ------
    TypeError, ValueError, KeyError
        An argument has an invalid type, shape or value.
    OSError
        The file cannot be written.

    Examples
    --------
    >>> import tempfile, fastembed as fe
    >>> layer = fe.Embedding(26, 8, rng=0)
    >>> layer.vocabulary = list("abcdefghijklmnopqrstuvwxyz")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fe.explorer.save(f"{folder}/letters.html", layer)
    """
    n = _checks.size("max_rows", max_rows)
    if n > MAX_ROWS:
        raise ValueError(f"max_rows must be at most {MAX_ROWS}, got {_checks.shown(max_rows)}")
    shown = Source.of(source, names, table=table, lookups=lookups, max_rows=n)
    text = page(shown, printable(title or "fastembed explorer"))
    with replacing(path) as new:
        new.write_text(text, encoding="utf-8")


def page(shown: Source, title: str) -> str:
    """The text of the page."""
    parts = {
        "title": html.escape(title),
        "style": _part("page.css"),
        "scripts": "\n".join(map(_part, SCRIPTS)),
        "data": _json(_data(shown, title)),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _part("page.html"))


def _part(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _json(value: Any) -> str:
    """JSON that can stand in a page: no name ends the element that it is in."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


@own_floats
def _data(shown: Source, title: str) -> dict[str, Any]:
    components = shown.components()
    points = components.coordinates(shown.rows)
    is_finite = np.isfinite(points).all(axis=1)
    kind, values = _encoded(np.where(is_finite[:, None], shown.rows, 0.0))
    return {
        "title": title,
        "about": str(shown),
        "rows": len(shown.rows),
        "columns": shown.rows.shape[1],
        "names": [*map(printable, shown.names)] if shown.is_named else None,
        "counts": None if shown.counts is None else shown.counts.tolist(),
        "shares": components.shares.tolist(),
        "kind": kind,
        "values": _base64(values),
        "points": _base64((points / (np.abs(points[is_finite]).max(initial=0.0) or 1.0)).astype("<f4")),
        "norms": _base64(shown.norms.astype("<f8")),
    }


@own_floats
def _encoded(rows: Array) -> tuple[str, Array]:
    """Each row by its largest element in size, since only directions matter, in 16 or 8 bits."""
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)
    scaled = rows / np.where(largest == 0, 1.0, largest)
    if rows.size <= _MAX_HALVES:
        return "float16", scaled.astype("<f2")
    return "int8", np.rint(scaled * 127).astype(np.int8)


def _base64(array: Array) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
