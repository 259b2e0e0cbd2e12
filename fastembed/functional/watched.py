"""Watched: what storage tells others of rows that change."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .._typing import Array
    from .search.index import SearchIndex


class Watcher(Protocol):
    """Who publishes the rows that change."""

    def mark(self, rows: Array | None) -> None:
        """Rows (checked int64; None: all) are about to change."""

    def publish_changes(self) -> None:
        """They have changed."""


class Watched:
    """Indexes are told which rows change, and who shares the table also when that is done."""

    publisher: Watcher | None = None

    def __init__(self) -> None:
        self._indexes: weakref.WeakSet[SearchIndex] = weakref.WeakSet()

    def watch(self, index: SearchIndex) -> None:
        """Tell an index from now on which rows change, as long as it is in use."""
        self._indexes.add(index)

    def mark_written(self, rows: Array | None) -> None:
        """Tell the indexes, and who shares the table, that rows (int64; None: all) change."""
        for index in self._indexes:
            index.mark(rows)
        if self.publisher is not None:
            self.publisher.mark(rows)

    def end_write(self) -> None:
        """Let the rows be published that have changed."""
        if self.publisher is not None:
            self.publisher.publish_changes()
