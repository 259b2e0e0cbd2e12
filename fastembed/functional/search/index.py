"""SearchIndex: rows of a table in 8 bits, with certified bounds of what that changes.

V: rows of the table; D: columns. A row x is scale * codes + r, and a query y is unit * numbers + s,
with codes and numbers integers, so that by Cauchy and Schwarz

    |x y - scale unit (codes numbers)| <= |r| |y| + (|x| + |r|) |s|.

From this follows an interval for the cost of each row, wide enough for the rounding of all numbers
it is computed from. Rows whose interval begins beyond the k-th smallest end of all cannot be among
the nearest; the others are scored exactly (`search`).
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import _checks
from ..._interactive.completion import without_internals
from ..._kernels.backend import kernels
from ..._kernels.floats import own_floats

if TYPE_CHECKING:
    from ..._typing import Array

_ROW_UNIT = 32  # columns: codes of a row fill whole vectors of each instruction set
_BLOCK_BYTES = 1 << 20  # of rows that are converted at one time
_LARGEST_CODE = 127
_LARGEST_NUMBER = 32_000
_RANGE = 1e-10, 1e10  # of the largest magnitude of a vector, so that no square leaves float32
_FEW = 16  # with more candidates than this part of the rows, a pass over all is faster
_GROUP = 16  # rows whose smallest end stands for all of them while the k-th smallest is sought


def arithmetic_rows(table: Array, place: Any) -> Array:
    """Some rows of a table (a slice, or their ids), contiguous and in its arithmetic dtype."""
    return _checks.contiguous(table[place], _checks.arithmetic_dtype(table.dtype))


def kth_smallest(numbers: Array, k: int) -> Array:
    """At least the k-th smallest of the last axis, and near to it where there are many more; NaN
    counts as the largest.

    Groups of numbers are each as small as their smallest, so that k groups have k such numbers.
    """
    n_groups = numbers.shape[-1] // _GROUP
    if n_groups >= 4 * k:
        grouped = numbers[..., : n_groups * _GROUP].reshape(*numbers.shape[:-1], _GROUP, n_groups)
        numbers = np.fmin.reduce(grouped, axis=-2)
    return np.partition(numbers, k - 1, axis=-1)[..., k - 1]


class SearchIndex:
    """Codes of 8 bits of the rows of a table, for `nearest`; made by ``layer.build_index``.

    It takes D + 17 bytes for each row (D rounded up to a multiple of 32), and 16 more for each
    metric that is searched by. Rows that the layer writes (steps of an optimiser, ``set_rows``,
    ``load_state_dict``, ``resize`` ...) are converted again by the next search.

    Attributes
    ----------
    table : str
        The name of the table, as in ``state_dict``.
    nbytes : int
        The bytes of its arrays.
    """

    def __init__(self, owner: Any, table: str) -> None:
        self.table = table
        self._owner = weakref.ref(owner)
        self._of: Array | None = None  # the array that the codes are of
        self._is_all_old = self._has_old = False

    def __dir__(self) -> list[str]:
        internal = ("candidates", "check_unwritten", "is_of", "mark", "rows_at", "squares", "update")
        return without_internals(super().__dir__(), internal)

    def __repr__(self) -> str:
        return f"SearchIndex(table={self.table!r}, {0 if self._of is None else len(self._codes)} rows)"

    @property
    def nbytes(self) -> int:
        arrays = (self._codes, self._scales, self._errors, self.squares, self._is_old, *self._terms.values())
        return sum(array.nbytes for array in arrays)

    def is_of(self, owner: Any, table: str) -> bool:
        """Whether this is an index of that table of that layer."""
        return self._owner() is owner and self.table == table

    def rebuild(self) -> None:
        """Convert all rows again at the next search: after a write past the layer."""
        self.mark(None)

    def mark(self, rows: Array | None) -> None:
        """Convert the given rows (int64; None: all) again before the next search."""
        if rows is None or self._of is None:
            self._is_all_old = True
        else:
            self._is_old[rows[rows < len(self._is_old)]] = True
            self._has_old = True

    def update(self, table: Array) -> None:
        """Convert the rows that have been written, or all those of a new array."""
        if self._of is not table or self._is_all_old or self._has_old:
            self._update(table)

    @own_floats  # of rows with infinities and NaN
    def _update(self, table: Array) -> None:
        if self._of is not table:
            n_rows, width = table.shape
            self._codes = np.zeros((n_rows, -(-width // _ROW_UNIT) * _ROW_UNIT), np.int8)
            self._scales, self._errors = np.empty((2, n_rows), np.float32)
            self.squares = np.empty(n_rows)  # of the lengths, as the scores have them
            self._is_old = np.zeros(n_rows, bool)
            self._of, self._is_all_old = table, True
        self._terms: dict[str, Array] = {}
        n_block = max(_BLOCK_BYTES // max(table.shape[1] * 4, 1), 1)
        rows = None if self._is_all_old else np.flatnonzero(self._is_old)
        for first in range(0, len(table) if rows is None else len(rows), n_block):
            place = slice(first, min(first + n_block, len(table))) if rows is None else rows[first : first + n_block]
            self._convert(place, arithmetic_rows(table, place))
        self._is_old[:] = False
        self._is_all_old = self._has_old = False

    def rows_at(self, ids: Array) -> Array:
        """The rows of the table themselves, in its arithmetic dtype."""
        assert self._of is not None
        return arithmetic_rows(self._of, ids)

    def check_unwritten(self, ids: Array, squares: Array) -> None:
        """RuntimeError if rows, by the squares of their lengths, are no longer what they were."""
        is_changed = squares.view(np.int64) != self.squares[ids].view(np.int64)
        if is_changed.any():
            raise RuntimeError(
                f"row {ids[is_changed.argmax()]} of {self.table} was written since the index was built, through an array"
                " and not by the layer: call rebuild() of the index after such writes"
            )

    def _convert(self, place: Any, rows: Array) -> None:
        self.squares[place] = kernels.sum_powers(rows, 2.0)
        largest = np.abs(rows).max(-1, initial=0.0)
        is_in_range = (largest >= _RANGE[0]) & (largest <= _RANGE[1])
        rows = np.where(is_in_range[:, None], rows, 0)
        scales = np.where(is_in_range, largest / _LARGEST_CODE, 1).astype(np.float32)
        codes = np.rint(rows / scales[:, None].astype(rows.dtype))
        np.clip(codes, -_LARGEST_CODE, _LARGEST_CODE, out=codes)
        self._codes[place, : rows.shape[1]] = codes
        codes *= scales[:, None].astype(rows.dtype)
        rest = rows - codes
        errors = np.sqrt(np.vecdot(rest, rest)) * (1 + self._slack) + np.sqrt(np.vecdot(rows, rows)) * 2.0**-21
        self._scales[place] = np.where(is_in_range, scales, 0)
        self._errors[place] = np.where(is_in_range, errors, np.where(largest == 0, 0, np.inf))

    @property
    def _slack(self) -> float:
        """A bound of the relative error of sums over a row, and of a few operations, in float32."""
        return float((self._codes.shape[1] + 64) * 2.0**-23)

    def _terms_of(self, metric: str) -> Array:
        """Scales, errors, lengths and offsets of the rows for a metric, float32 (4, V)."""
        if metric not in self._terms:
            lengths = np.where(np.isfinite(self._errors), np.sqrt(self.squares), 0).astype(np.float32)
            terms = np.stack([self._scales, self._errors, lengths, np.zeros_like(lengths)])
            if metric == "cosine":
                terms[:3] *= np.divide(1, lengths, where=lengths > 0, out=np.ones_like(lengths))
            elif metric == "l2":
                terms[3] = lengths * lengths
            self._terms[metric] = terms
        return self._terms[metric]

    def _factors(self, vector: Array, metric: str) -> tuple[Array, tuple[float, float, float, float]] | None:
        """A query's numbers, and the factors of the rows' terms; None if it is out of range."""
        magnitudes = np.abs(vector)
        largest = float(magnitudes.max(initial=0.0))
        if not _RANGE[0] <= largest <= _RANGE[1]:
            return None
        room = 2.0**31 - 1 - _LARGEST_CODE * (len(vector) + 1)
        unit = float(np.float32(max(largest / _LARGEST_NUMBER, _LARGEST_CODE * float(magnitudes.sum()) / max(room, 1.0))))
        numbers = np.zeros(self._codes.shape[1], np.int16)
        numbers[: len(vector)] = np.rint(vector / unit)
        rest = vector - unit * numbers[: len(vector)]
        length, error = float(np.sqrt(vector @ vector)), float(np.sqrt(rest @ rest))
        of_all = {"dot": 1.0, "cosine": 1 / length, "l2": 2.0}[metric]
        of_lengths = error * (1 + self._slack) + 4 * self._slack * length
        factors = -unit, (length + error) * (1 + self._slack), of_lengths, 4 * self._slack
        return numbers, (factors[0] * of_all, factors[1] * of_all, factors[2] * of_all, factors[3])

    def candidates(self, vector: Array, k: int, metric: str) -> Array | None:
        """The rows that can be among the k nearest to a vector; None if the codes cannot tell."""
        found = self._factors(vector, metric)
        if found is None:
            return None
        lower, upper = kernels.code_bounds(self._codes, self._terms_of(metric), *found)
        limit = float(kth_smallest(upper, k))
        if metric == "l2":  # what a distance itself is rounded by
            limit += float(vector @ vector) * (len(vector) + 64) * 2.0**-52
        rows = np.flatnonzero(lower <= np.nextafter(np.float32(limit), np.float32(np.inf)))
        return rows if len(rows) <= k + len(lower) // _FEW else None
