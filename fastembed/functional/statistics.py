"""Statistics of a table, read block by block: norms, rows of zeros or NaN, counts of look-ups.

V: rows of the table; D: columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import _checks
from .._kernels.backend import kernels
from .._kernels.floats import own_floats

if TYPE_CHECKING:
    from .._typing import Array, ArrayLike

LOOKUPS = ".lookups"  # suffix of the name of a table's counts in states and checkpoints
_BLOCK = 1 << 18  # elements of a block, which fits in the cache
_N_MOST = 5


class TableStatistics(NamedTuple):
    """The result of `table_statistics`; ``str()`` gives a text, ``_asdict()`` a dict.

    Attributes
    ----------
    rows, columns : int
    dtype : str
    nbytes : int
        The size of the table's elements.
    min_norm, mean_norm, max_norm : float or None
        Over the Euclidean norms, in float64, of the rows without NaN and infinity; None if there is
        no such row.
    zero_rows, nonfinite_rows : int
        The number of rows that are all zeros, and of rows with a NaN or an infinity.
    lookups, never_looked_up : int or None
        The sum of the counts, and the number of zeros among them; None without counts.
    most_frequent : tuple of (row, count), or None
        The five highest counts above 0, in descending order; of equal counts the lower row comes
        first.

    Examples
    --------
    >>> import fastembed as fe
    >>> print(fe.table_statistics([[3.0, 4.0], [0.0, 0.0]], lookups=[7, 0]))
    2 x 2 float64, 32 bytes
    norms of rows: 0 to 5, mean 2.5
    rows of zeros: 1; rows with NaN or infinity: 0
    look-ups: 7; rows never looked up: 1
    most frequent: 0 (7 times)
    """

    rows: int
    columns: int
    dtype: str
    nbytes: int
    min_norm: float | None
    mean_norm: float | None
    max_norm: float | None
    zero_rows: int
    nonfinite_rows: int
    lookups: int | None = None
    never_looked_up: int | None = None
    most_frequent: tuple[tuple[int, int], ...] | None = None

    def _repr_html_(self) -> str:
        from .._interactive import html  # notebooks alone need it

        title, *lines = str(self).split("\n")
        return html.table(title, [part.split(": ", 1) for line in lines for part in line.split("; ")])

    def __str__(self) -> str:
        lines = [f"{self.rows:,} x {self.columns:,} {self.dtype}, {self.nbytes:,} bytes"]
        if self.mean_norm is not None:
            lines.append(f"norms of rows: {self.min_norm:.6g} to {self.max_norm:.6g}, mean {self.mean_norm:.6g}")
        lines.append(f"rows of zeros: {self.zero_rows:,}; rows with NaN or infinity: {self.nonfinite_rows:,}")
        if self.lookups is not None:
            lines.append(f"look-ups: {self.lookups:,}; rows never looked up: {self.never_looked_up:,}")
        if self.most_frequent:
            lines.append("most frequent: " + ", ".join(f"{row} ({n:,} times)" for row, n in self.most_frequent))
        return "\n".join(lines)


def table_statistics(table: ArrayLike, lookups: ArrayLike | None = None) -> TableStatistics:
    """Statistics of a table, read once in blocks of rows: a mapped one may be larger than memory.

    Parameters
    ----------
    table : array_like of shape (V, D), of any float dtype
    lookups : array_like of integers, shape (V,), optional
        How often each row was looked up, as from `Embedding.lookup_counts`.

    Returns
    -------
    TableStatistics

    Raises
    ------
    TypeError, ValueError
        An argument has an invalid dtype, shape or value.

    Examples
    --------
    >>> import numpy as np, fastembed as fe
    >>> table = np.array([[3.0, 4.0], [0.0, 0.0], [np.nan, 1.0]])
    >>> found = fe.table_statistics(table, lookups=[7, 0, 2])
    >>> found.max_norm, found.zero_rows, found.nonfinite_rows, found.never_looked_up
    (5.0, 1, 1, 1)
    """
    array = _checks.table("table", table)
    counts = None if lookups is None else _checks.counts("lookups", lookups, len(array))
    return block_statistics(array.shape, array.dtype, array.__getitem__, counts)


@own_floats
def block_statistics(
    shape: tuple[int, ...], dtype: np.dtype[Any], read: Callable[[slice], Array], counts: Array | None
) -> TableStatistics:
    """Statistics of a table whose rows ``read(slice(first, end))`` returns."""
    n_rows, n_cols = shape
    n_zero, n_finite, lowest, highest = 0, 0, math.inf, 0.0

    def norms() -> Iterator[float]:
        nonlocal n_zero, n_finite, lowest, highest
        step = max(_BLOCK // n_cols, 1)
        for first in range(0, n_rows, step):
            block = _checks.contiguous(read(slice(first, min(first + step, n_rows))), _checks.arithmetic_dtype(dtype))
            n_zero += int(np.count_nonzero(~block.any(axis=1)))
            is_finite = np.isfinite(block).all(axis=1)
            found = np.sqrt(kernels.sum_powers(block if is_finite.all() else block[is_finite], 2.0))
            if len(found):
                n_finite += len(found)
                lowest, highest = min(lowest, float(found.min())), max(highest, float(found.max()))
            yield from found.tolist()

    if n_cols == 0:  # no loop over rows: the header of a small file can claim any number of empty ones
        total, n_zero, n_finite, lowest = 0.0, n_rows, n_rows, 0.0
    else:
        total = math.fsum(norms())  # exact, so that the mean does not depend on the blocks
    n_bytes = n_rows * n_cols * dtype.itemsize
    found = TableStatistics(n_rows, n_cols, dtype.name, n_bytes, None, None, None, n_zero, n_rows - n_finite)
    if n_finite:
        found = found._replace(min_norm=lowest, mean_norm=total / n_finite, max_norm=highest)
    return found if counts is None else found._replace(**_count_statistics(counts))


def _count_statistics(counts: Array) -> dict[str, Any]:
    """The sum of the counts, the number of zeros, and the highest with their rows."""
    total = (int((counts >> 32).sum()) << 32) + int((counts & 2**32 - 1).sum())  # may exceed 64 bits
    n_most = min(_N_MOST, len(counts))
    candidates = np.flatnonzero(counts)
    if len(candidates) > n_most:
        candidates = candidates[counts[candidates] >= np.partition(counts, -n_most)[-n_most]]
    highest = candidates[np.argsort(-counts[candidates], kind="stable")][:n_most]
    pairs = tuple((int(row), int(counts[row])) for row in highest)
    return {"lookups": total, "never_looked_up": int(np.count_nonzero(counts == 0)), "most_frequent": pairs}
