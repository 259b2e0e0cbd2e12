"""Statistics of a table: norms of rows, zero and nonfinite rows, and counts of look-ups."""

from __future__ import annotations

import math
from typing import Any

from .ops import Table
from .rules import norm

N_MOST = 5


def count(lookups: list[int], rows: list[int | None]) -> None:
    """Add to `lookups`, a count per row, the rows of one call."""
    for row in rows:
        if row is not None:
            lookups[row] += 1


def table_statistics(table: Table, lookups: list[int] | None = None) -> dict[str, Any]:
    """Norms are of rows without NaN and infinity; None if there is no such row."""
    finite = [row for row in table if all(map(math.isfinite, row))]
    norms = [norm(row, 2.0) for row in finite]
    found: dict[str, Any] = {
        "rows": len(table),
        "columns": len(table[0]) if table else 0,
        "min_norm": min(norms, default=None),
        "mean_norm": math.fsum(norms) / len(norms) if norms else None,
        "max_norm": max(norms, default=None),
        "zero_rows": sum(not any(row) for row in table),
        "nonfinite_rows": len(table) - len(finite),
        "lookups": None,
        "never_looked_up": None,
        "most_frequent": None,
    }
    if lookups is not None:
        most = sorted(((row, n) for row, n in enumerate(lookups) if n > 0), key=lambda pair: (-pair[1], pair[0]))
        found |= {"lookups": sum(lookups), "never_looked_up": lookups.count(0), "most_frequent": tuple(most[:N_MOST])}
    return found
