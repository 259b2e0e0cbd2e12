"""Publisher: who writes a shared table. It publishes the rows of a layer that have changed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ... import _checks
from ..._memory import memory_errors
from ..atomic import beside, inode_at
from .segment import Segment, create, open_segment, path_of

if TYPE_CHECKING:
    from ..._typing import Array

_NO_ROWS = np.empty(0, np.int64)
_WAIT = 0.001  # seconds between two looks at whether a snapshot is done
_sharing: weakref.WeakSet[Publisher] = weakref.WeakSet()


class Publisher:
    """A layer's table that other processes look rows up in; made by ``layer.share(name)``.

    The rows that a step changes are published when it is done. As a context it ends sharing, and
    the table stays for those who read it.

    Attributes
    ----------
    path : Path
        The file of the shared memory.
    generation : int
        How often a whole table has been published under the name.
    """

    @memory_errors()
    def __init__(self, owner: Any, table: str, name: str | os.PathLike[str], replace: bool, permissions: int) -> None:
        self._segment: Segment | None = None
        self._owner, self._table, self._pid = weakref.ref(owner), table, os.getpid()
        self._changed, self._is_patient = _NO_ROWS, True
        self.path = path_of(name)
        mode = _checks.whole_number("permissions", permissions)
        if not 0o400 <= mode <= 0o777 or mode & 0o002:
            raise ValueError(f"permissions must be those of a file that not everybody may write, got {mode:#o}")
        if not _checks.flag("replace", replace) and self.path.exists():
            how = "replace=True publishes this table in its place, unless a process that is running writes that one"
            raise FileExistsError(f"{self.path} is there already: {how}")
        with owner.lock:
            owner.apply_pending()
            self._publish_first(owner.tables[table], mode)
        _sharing.add(self)

    def _publish_first(self, table: Array, mode: int) -> None:
        if not self.path.exists():
            made = create(self.path, table, 1, mode)
            try:
                os.link(beside(self.path, "new"), self.path)  # fails if another process was faster
            finally:
                beside(self.path, "new").unlink(missing_ok=True)
            self._segment, self._of = made, table
            return
        old = open_segment(self.path, to_write=True)
        found, given = (old.layout.n_cols, old.layout.dtype), (table.shape[1], table.dtype.newbyteorder("="))
        if found != given:
            old.close()
            raise ValueError(
                f"{self.path} has rows of {found[0]} {found[1]}, and this table of {given[0]} {given[1]}: remove it first"
            )
        self._put_in_place_of(old, table, mode)

    def _put_in_place_of(self, old: Segment, table: Array, mode: int) -> None:
        """Publish a whole table under the name of another; interrupted, it has done so or not."""
        new = create(self.path, table, old.layout.generation + 1, mode)
        old.rows.set_replaced(False)
        try:
            os.replace(beside(self.path, "new"), self.path)
        finally:
            if inode_at(self.path) == new.inode:
                self._segment, self._of = new, table
                self._changed = _NO_ROWS
            old.rows.set_replaced(True)
            if self._segment is not old:
                old.close()
                beside(self.path, "new").unlink(missing_ok=True)

    # ---- for layers ----

    def mark(self, rows: Array | None) -> None:
        """Rows (checked int64; None: all) are about to change.

        All that publishing them takes is allocated here, so that it fails before they change.
        """
        if self._segment is not None:
            n_rows = self._segment.layout.n_rows
            changed = np.arange(n_rows) if rows is None else np.sort(np.concatenate((self._changed, rows.reshape(-1))))
            self._segment.reserve(len(changed))
            self._changed = changed if len(changed) <= n_rows else np.unique(changed)

    def publish_changes(self) -> None:
        """Publish the rows that have been marked, or the whole table if it is another array now."""
        owner = self._owner()
        if self._segment is None or owner is None:
            return
        with owner.lock:
            table = owner.tables[self._table]
            if table is not self._of:
                self._put_in_place_of(self._segment, table, self._mode())
            elif len(self._changed):
                with self._no_snapshot(self._segment):
                    self._segment.rows.publish(table, self._changed)
                self._changed = _NO_ROWS
                self._segment.release()

    @contextlib.contextmanager
    def _no_snapshot(self, segment: Segment) -> Iterator[None]:
        """A context in which nobody begins a snapshot that has to wait for a quiet moment.

        Waits for such a snapshot, but once only for a process that never ends it.
        """
        is_free, end = False, time.monotonic() + segment.patience
        while not is_free:
            try:
                fcntl.lockf(segment.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_free = self._is_patient = True
            except (BlockingIOError, PermissionError):
                self._is_patient = self._is_patient and time.monotonic() < end
                if not self._is_patient:
                    break
                time.sleep(_WAIT)
        try:
            yield
        finally:
            if is_free:
                fcntl.lockf(segment.file, fcntl.LOCK_UN)

    # ---- for users ----

    @property
    def generation(self) -> int:
        return self._open_segment().layout.generation

    @property
    def is_closed(self) -> bool:
        """Whether sharing has ended."""
        return self._segment is None

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise RuntimeError(f"{self.path} is shared by process {self._pid}, which alone may write it")

    def _open_segment(self) -> Segment:
        self._check_process()
        if self._segment is None:
            raise ValueError(f"sharing of {self.path} has ended")
        return self._segment

    def _mode(self) -> int:
        return os.fstat(self._open_segment().file.fileno()).st_mode & 0o777

    @memory_errors()
    def publish(self) -> None:
        """Publish the whole table, as a new generation: in memory of its own, put in place at once.

        Readers change over between two of their calls. For writes past the layer
        (``layer.weight[3] = 0``), which no step announces.

        Raises
        ------
        OSError
            There is no space for a second table; readers keep the first.
        """
        segment, owner = self._open_segment(), self._owner()
        if owner is None:
            raise ValueError(f"the layer of {self.path} is gone")
        with owner.lock:
            owner.apply_pending()
            self._put_in_place_of(segment, owner.tables[self._table], self._mode())

    def close(self) -> None:
        """End sharing: the last rows stay for those who read, and another process may take over."""
        segment = self._let_go()
        if segment is not None:
            segment.close()

    def _let_go(self) -> Segment | None:
        segment, self._segment = self._segment, None
        if segment is not None:
            self._last = segment.inode, segment.layout.generation
        return segment

    def remove(self) -> None:
        """End sharing and remove the name; who reads the table keeps its last rows.

        After `close` too, unless the name stands for another table by then.

        Raises
        ------
        BlockingIOError
            After `close`: a process that is running writes the table.
        """
        self._check_process()
        segment = self._let_go()
        if segment is None and inode_at(self.path) == self._last[0]:
            segment = open_segment(self.path, to_write=True)
            if (segment.inode, segment.layout.generation) != self._last:
                segment.close()
                return
        if segment is not None:
            segment.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._segment is None else f"generation {self._segment.layout.generation}"
        return f"Publisher({str(self.path)!r}, {state})"


def _close_in_child() -> None:
    """End sharing in a forked child: its copy of the layer is its own."""
    for publisher in list(_sharing):
        publisher.close()


os.register_at_fork(after_in_child=_close_in_child)
