"""Tables of HTML, as notebooks show objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from types import MappingProxyType
from typing import Any

from .._messages import printable

_STYLE = "text-align:left;padding:2px 12px 2px 0"


def table(title: str, lines: Iterable[Sequence[object]], heads: Sequence[str] = ()) -> str:
    """A title and lines of cells, each shown as its text."""
    parts = [f"<strong>{_cell(title)}</strong>", "<table>"]
    if heads:
        parts.append("<tr>" + "".join(f'<th style="{_STYLE}">{_cell(head)}</th>' for head in heads) + "</tr>")
    parts += ["<tr>" + "".join(f'<td style="{_STYLE}">{_cell(cell)}</td>' for cell in line) + "</tr>" for line in lines]
    return "".join([*parts, "</table>"])


def tables_of(title: str, arrays: Mapping[str, Any], more: Mapping[str, str] = MappingProxyType({})) -> str:
    """Arrays by name with shape, dtype and size; and other lines."""
    lines = [(name, " x ".join(f"{n:,}" for n in a.shape), a.dtype, size(a.nbytes)) for name, a in arrays.items()]
    return table(title, [*lines, *((name, text, "", "") for name, text in more.items())], ("table", "shape", "dtype", "size"))


def size(n_bytes: int) -> str:
    """A number of bytes with a unit."""
    amount, unit = float(n_bytes), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.3g} {unit}"


def _cell(value: object) -> str:
    return escape(printable(str(value)))
