"""Publisher: who writes a shared table. It publishes the rows of a layer that have changed."""

from __future__ import annotations

import fcntl
import os
import time
import weakref
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ... import _checks
from ..._interactive.completion import without_internals
from ..._memory import memory_errors
from ..atomic import beside, inode_at
from ..status import is_there
from .segment import Segment, create, drop_unfinished, open_segment, path_of

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
    def __init__(self, owner: Any, table: str, name: str | os.PathLike[str], permissions: int) -> None:
        self._segment: Segment | None = None
        self._last: tuple[int | None, int] = None, 0  # inode and generation of the last segment
        self._owner, self._table, self._pid = weakref.ref(owner), table, os.getpid()
        self._changed, self._is_patient = _NO_ROWS, True
        self.path = path_of(name)
        self._permissions = _checks.integer("permissions", permissions)
        if not 0o400 <= self._permissions <= 0o777 or self._permissions & 0o002:
            shown = _checks.shown(self._permissions, oct)
            raise ValueError(f"permissions must be those of a file that not everybody may write, got {shown}")
        _sharing.add(self)

    @memory_errors()
    def begin(self, replace: bool) -> None:
        """Begin to share; interrupted, it has done so or not, which `is_closed` says."""
        if not _checks.flag("replace", replace) and is_there(self.path):
            how = "replace=True publishes this table in its place, unless a process that is running writes that one"
            raise FileExistsError(f"{self.path} is there already: {how}")
        owner: Any = self._owner()
        owner.apply_pending()
        table, old = owner.tables[self._table], None
        if is_there(self.path):
            old = open_segment(self.path, to_write=True)
            found, given = (old.layout.n_cols, old.layout.dtype), (table.shape[1], table.dtype.newbyteorder("="))
            if found != given:
                old.close()
                raise ValueError(
                    f"{self.path} has rows of {found[0]} {found[1]}, and this table of {given[0]} {given[1]}: remove it first"
                )
        self._publish_whole(table, old, self._permissions)

    def _publish_whole(self, table: Array, old: Segment | None, mode: int) -> None:
        """Publish a table, in the place of another if there is one; interrupted, it has or not.

        A signal may be taken within `_settle` too, and then that is called again.
        """
        new: Segment | None = None
        try:
            new = create(self.path, table, 1 if old is None else old.layout.generation + 1, mode)
            unfinished = beside(self.path, "new")
            if old is None:
                os.link(unfinished, self.path)  # fails if another process was faster
            else:
                old.rows.set_replaced(False)
                os.replace(unfinished, self.path)
            self._settle(table, old, new)
        except BaseException:
            self._settle(table, old, new)
            raise

    def _settle(self, table: Array, old: Segment | None, new: Segment | None) -> None:
        """Take a new segment over if it is in place, and otherwise drop it."""
        if new is not None and inode_at(self.path) == new.inode:
            self._segment, self._of, self._changed = new, table, _NO_ROWS
        if old is not None:
            old.rows.set_replaced(True)
            if self._segment is not old:
                old.close()
        drop_unfinished(self.path, new)
        if new is not None and self._segment is not new:
            new.close()

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
                self._publish_whole(table, self._segment, self._mode())
            elif len(self._changed):
                try:
                    self._wait_for_snapshot(self._segment)
                    self._segment.rows.publish(table, self._changed)
                finally:
                    fcntl.lockf(self._segment.file, fcntl.LOCK_UN)
                self._changed = _NO_ROWS
                self._segment.release()

    def _wait_for_snapshot(self, segment: Segment) -> None:
        """Let no snapshot begin that has to wait for a quiet moment: who copies one has the lock.

        Waits for such a snapshot, but once only for a process that never ends it.
        """
        end = time.monotonic() + segment.patience
        while True:
            try:
                fcntl.lockf(segment.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._is_patient = True
                return
            except (BlockingIOError, PermissionError):
                self._is_patient = self._is_patient and time.monotonic() < end
                if not self._is_patient:
                    return
                time.sleep(_WAIT)

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
            self._publish_whole(owner.tables[self._table], segment, self._mode())

    def close(self) -> None:
        """End sharing: the last rows stay for those who read, and another process may take over."""
        segment = self._let_go()
        if segment is not None:
            segment.close()

    def _let_go(self) -> Segment | None:
        segment = self._segment
        if segment is not None:
            self._last = segment.inode, segment.layout.generation
            self._segment = None
        return segment

    @memory_errors()
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

    def __dir__(self) -> list[str]:
        return without_internals(super().__dir__(), ("begin", "is_closed", "mark", "publish_changes"))

    def __repr__(self) -> str:
        state = "closed" if self._segment is None else f"generation {self._segment.layout.generation}"
        return f"Publisher({str(self.path)!r}, {state})"


def _close_in_child() -> None:
    """End sharing in a forked child: its copy of the layer is its own."""
    for publisher in list(_sharing):
        publisher.close()


os.register_at_fork(after_in_child=_close_in_child)
