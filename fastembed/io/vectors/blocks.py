"""What readers of vectors give: blocks of names and rows; and what becomes of faulty lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..._messages import shown, warn
from ..errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    from ..._typing import Array

Progress = Callable[[int, int], object]  # bytes that are done, and all


class Block(NamedTuple):
    """Some rows of a file.

    Attributes
    ----------
    names : list of str or None
    rows : ndarray of shape (n, D)
    place : callable of int
        Where the row of that number lies in the file, for errors: "line 7".
    """

    names: list[str] | None
    rows: Array
    place: Callable[[int], str]


def places(unit: str, numbers: Sequence[int] | Array) -> Callable[[int], str]:
    """The places of the rows of a block, by the numbers of their lines."""
    return lambda i: f"{unit} {numbers[i]}"


class Vectors(NamedTuple):
    """The rows of a file, to be read once: their length, their dtype, and they in blocks."""

    n_cols: int
    dtype: np.dtype[Any]
    blocks: Iterator[Block]


class Faults:
    """What is wrong with single lines or rows of a file: an error, or left out and counted.

    Attributes
    ----------
    n : int
        How many were left out.
    """

    def __init__(self, path: Path, errors: str) -> None:
        self._path, self._skips = path, errors == "skip"
        self.n, self._first = 0, ""

    def add(self, place: str, what: str) -> None:
        if not self._skips:
            raise CheckpointError(f"{self._path}, {place}: {what}")
        self._first = self._first or f"{place}: {what}"
        self.n += 1

    def warn(self) -> None:
        """A UserWarning with the count and the first of those that were left out."""
        if self.n:
            text = f"{self._path}: {self.n} {'line was' if self.n == 1 else 'lines were'} left out"
            warn(f"{text}; the first, {self._first}")


class Names:
    """The names of the rows that have been read, each with its id.

    Attributes
    ----------
    ids : dict of str to int, or None
        None if the rows have no names.
    """

    def __init__(self) -> None:
        self.ids: dict[str, int] | None = {}

    def add(self, block: Block, faults: Faults) -> Array:
        """The rows of a block with new names; a row whose name was there before is a fault."""
        if block.names is None or self.ids is None:
            self.ids = None
            return block.rows
        ids, new = self.ids, dict.fromkeys(block.names)
        if len(new) == len(block.names) and ids.keys().isdisjoint(new):
            ids.update(zip(new, range(len(ids), len(ids) + len(new)), strict=True))
            return block.rows
        kept: list[int] = []
        for i, name in enumerate(block.names):
            if name in ids:
                faults.add(block.place(i), f"the name {shown(name)} is there twice")
            else:
                ids[name] = len(ids)
                kept.append(i)
        return block.rows[kept]
