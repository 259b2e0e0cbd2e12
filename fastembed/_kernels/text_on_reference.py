"""What `on_reference` answers of lines of text, and of strings."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..reference import hashed
from ..reference.formats import text

Array = np.ndarray[Any, Any]


def hash_string(string: str) -> int:
    return hashed.hash_string(string)


def parse_lines(
    data: bytes, at: int, n_cols: int, numbers_in_names: bool, rows: Array, spans: Array
) -> tuple[int, int, int, int, int, int]:
    n_rows = n_lines = 0
    while at < len(data) and n_rows < len(rows):
        begins, ends = at, data.find(b"\n", at)
        ends = len(data) if ends < 0 else ends
        at, n_lines = ends + 1, n_lines + 1
        try:
            found = text.parse_line(data[begins:ends], n_cols, numbers_in_names)
        except text.LineFault as fault:
            is_span = fault.kind != text.TOO_FEW
            first, end = (begins + fault.first, begins + fault.end) if is_span else (0, fault.end)
            return min(at, len(data)), n_rows, n_lines, fault.kind, first, end
        if found is not None:
            spans[n_rows], rows[n_rows] = (begins, begins + found[0], n_lines - 1), found[1]
            n_rows += 1
    return min(at, len(data)), n_rows, n_lines, 0, 0, 0
