"""SplitTable: rows of one table that several tables hold.

V: rows of all of them; D: columns; S: the shape of the ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .. import _checks
from ..functional import lookup
from .attribute import Declared
from .packed import PackedTable

if TYPE_CHECKING:
    from .._typing import Array, ArrayLike
    from ..io.formats.shards import Shards


class SplitTable(Declared):
    """Tables whose rows follow one another, looked up as one.

    Parameters
    ----------
    parts : iterable of PackedTable
        At least one; all of the same ``embedding_dim`` and ``dtype``. They may have different
        formats.

    Raises
    ------
    TypeError, ValueError
        There is no part, one is no `PackedTable`, or two do not belong together.

    Examples
    --------
    >>> import numpy as np, fastembed as fe
    >>> parts = [fe.PackedTable(np.full((n, 2), n, "f2"), 2, format="float16") for n in (3, 1)]
    >>> fe.SplitTable(parts)([0, 3])
    array([[3., 3.],
           [1., 1.]], dtype=float32)
    """

    def __init__(self, parts: Iterable[PackedTable]) -> None:
        self._parts: tuple[PackedTable, ...] = tuple(parts)
        if not self._parts:
            raise ValueError("parts must be at least 1 table, got none")
        for k, part in enumerate(self._parts):
            if not isinstance(part, PackedTable):
                raise TypeError(f"parts must be PackedTable, got {_checks.shown(part)} at position {k}")
            if (part.embedding_dim, part.dtype) != (self.embedding_dim, self.dtype):
                raise ValueError(
                    f"parts must have one embedding_dim and dtype, got {part.embedding_dim} and {part.dtype} at position {k} "
                    f"after {self.embedding_dim} and {self.dtype}"
                )
        self._starts = np.cumsum([0, *(part.num_embeddings for part in self._parts)])

    @classmethod
    def from_shards(
        cls, shards: Shards, rows: Sequence[str], embedding_dim: int, *, scales: Sequence[str] | None = None, **options: Any
    ) -> Self:
        """A table of several tensors of `open_shards`, in their mappings: no copy.

        Parameters
        ----------
        shards : Shards
        rows : sequence of str
            The names of the tensors, in the order of their rows.
        embedding_dim, **options
            As in `PackedTable`.
        scales : sequence of str, optional
            The names of the tensors of their scales.
        """
        if scales is not None and len(scales) != len(rows):
            raise ValueError(f"scales must be {len(rows)} names, as many as rows, got {len(scales)}")
        of_parts = [None] * len(rows) if scales is None else [shards.array(name) for name in scales]
        return cls(
            PackedTable(shards.array(name), embedding_dim, scales=of_part, **options)
            for name, of_part in zip(rows, of_parts, strict=True)
        )

    @property
    def parts(self) -> tuple[PackedTable, ...]:
        """The tables."""
        return self._parts

    @property
    def num_embeddings(self) -> int:
        """V, the number of rows of all parts."""
        return int(self._starts[-1])

    @property
    def embedding_dim(self) -> int:
        """D, the number of elements of a row."""
        return self._parts[0].embedding_dim

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of results."""
        return self._parts[0].dtype

    def __call__(self, ids: ArrayLike, *, out: Array | None = None, bounds: str = "raise") -> Array:
        """The rows of ``ids``, shape S + (D,). See `fastembed.gather`."""
        rows = lookup.resolve_ids(ids, self.num_embeddings, bounds=_checks.bounds(bounds))
        read = {f"part {k}": part.packed for k, part in enumerate(self._parts)}
        read |= {f"the scales of part {k}": part.scales for k, part in enumerate(self._parts) if part.scales is not None}
        result = _checks.output(out, (*rows.shape, self.embedding_dim), self.dtype, ids=ids, **read)
        part_of = np.searchsorted(self._starts, rows, side="right") - 1
        for k, part in enumerate(self._parts):
            places = part_of == k
            result[places] = part(rows[places] - self._starts[k])
        result[part_of < 0] = 0
        return result if out is None else out

    def __repr__(self) -> str:
        return f"SplitTable({self.num_embeddings}, {self.embedding_dim}, {len(self._parts)} parts, dtype='{self.dtype}')"
