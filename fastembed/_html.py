"""Tables of HTML, as notebooks show objects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from ._messages import printable

_STYLE = "text-align:left;padding:2px 12px 2px 0"


def table(title: str, lines: Iterable[Sequence[object]], heads: Sequence[str] = ()) -> str:
    """A title and lines of cells, each shown as its text."""
    parts = [f"<strong>{_cell(title)}</strong>", "<table>"]
    if heads:
        parts.append("<tr>" + "".join(f'<th style="{_STYLE}">{_cell(head)}</th>' for head in heads) + "</tr>")
    parts += ["<tr>" + "".join(f'<td style="{_STYLE}">{_cell(cell)}</td>' for cell in line) + "</tr>" for line in lines]
    return "".join([*parts, "</table>"])


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
