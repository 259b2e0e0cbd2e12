"""A table in a mapped file, with its optimiser's state in files beside it, flushed by a journal.

The mapping is private: changed rows stay in memory until a flush writes them, so that the files
always hold the state of the last flush. docs/mapped.md describes what a kill at any moment leaves.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import _checks
from ..._kernels.backend import kernels
from ..._memory import memory_errors
from ..._messages import warn
from ...functional import lookup
from ...functional.watched import Watched
from ..atomic import beside, flush_folder, inode_at, writable_path
from ..errors import CheckpointError, ReplacedError
from ..formats import tensor_file
from ..formats.tensor_file import Fill, Place, fill_from, fill_with, new_file
from ..status import is_there
from . import journal, mapping
from . import record as records
from .file_lock import Locks, NoLocks, lock_and_recover, no_flush
from .mapping import File

if TYPE_CHECKING:
    from ..._typing import Array

_MIN_PREFETCH = 8  # fewer rows are not worth a prefetch
_open: weakref.WeakSet[MappedFiles] = weakref.WeakSet()


class MappedFiles(Watched):
    """The open files of one mapped table: a `fastembed.tables.storage.Storage`.

    Parameters
    ----------
    path : path-like
    mode : {"r", "r+"}
    name : str, optional
        The name of the tensor, if a safetensors file has several.
    is_snapshot : bool
        With mode "r": whether the table is copied into memory as of the last flush, also while
        another process has it open with "r+"; afterwards nothing is locked.

    Attributes
    ----------
    table : ndarray of shape (V, D)
        The mapping itself. Call `begin_write` before rows of it are written.
    name : str of its tensor, or "" in a .npy file
    """

    is_mapped, is_lost = True, False
    is_closed = True  # until the constructor is done

    @memory_errors()
    def __init__(self, path: str | os.PathLike[str], mode: str, name: str | None = None, is_snapshot: bool = False) -> None:
        super().__init__()
        self.path = Path(os.path.realpath(_checks.path("path", path)))
        self.mode = _checks.one_of("mode", mode, ("r", "r+"))
        self.loses_names = self.mode == "r+"
        if _checks.flag("snapshot", is_snapshot) and mode != "r":
            raise ValueError('a snapshot is read: open it with mode="r"')
        self._pid, self._has_changed_rows = os.getpid(), False
        self._replaced: dict[Path, int] = {}  # after a resize, until it is flushed: the old files' inodes
        self._owner: Any = lambda: None  # a weak reference to the optimiser that owns the state
        self._locks: Locks = NoLocks() if is_snapshot else lock_and_recover(self.path, mode)
        try:
            with no_flush(self.path) if is_snapshot else contextlib.nullcontext():
                self._load(name, mapping.in_memory if is_snapshot else mapping.mapped)
            self.is_closed = False
            _open.add(self)
        except BaseException:
            self.is_closed = True
            self._locks.close()
            raise

    def _load(self, name: str | None, array_of: Callable[[Path, Place], Array]) -> None:
        """Map the table as of the last flush, and read the record of its optimiser."""
        pending = journal.read(self.path) if self.mode == "r" else None
        moved = beside(self.path, "new")
        file = moved if pending and self.path.name in pending.renamed and is_there(moved) else self.path
        self._place = tensor_file.find(file, name)
        self.name = self._place.name
        self.table = array_of(file, self._place)
        if self.mode == "r+":
            _checks.writable_table(f'the table of {self.path}, of which mode="r" can look up rows,', self.table)
        if pending and pending.parts:
            self._apply(pending, file)
        self.table.flags.writeable = self.mode == "r+"
        self._changed_rows = self.zeros(len(self.table), np.dtype(bool))
        self._states: dict[str, File] = {}
        self._record = self._flushed_record = records.read(self.path) if self.mode == "r+" else records.NO_RECORD
        self._steps = np.array([self._record["step"]])
        if self.mode == "r+":
            records.check_table(self.path, self._record, self._place)
            # Remove unfinished files of killed processes.
            for file in (self.path, *(beside(self.path, name) for name in ("journal", "optimizer.json")), *self._state_files()):
                beside(file, "new").unlink(missing_ok=True)

    def _apply(self, pending: journal.Journal, file: Path) -> None:
        """Write the rows of a journal that nobody has replayed yet into the table in memory."""
        if pending.parts[0] != journal.part_of(self.path, self._place):
            raise CheckpointError(f"{pending.path} is not a journal of the table in {self.path}")
        pending.check_file(0, file)
        flat = self.table.reshape(-1).view(np.uint8)
        for offset, data in pending.changes(0):
            flat[offset : offset + len(data)] = data

    # ---- for layers ----

    def check_open(self) -> None:
        if self.is_closed:
            raise ValueError(f"the table of {self.path} is closed")

    def check_can_train(self, what: str) -> None:
        if self.mode == "r":
            raise ValueError(f"{what} is a table in a file, opened with mode 'r': only with 'r+' can it be trained")

    def check_can_copy(self) -> None:
        raise TypeError(f"the table of {self.path} is mapped: open it again, or take weight.copy() for a layer in memory")

    def is_at(self, path: str | os.PathLike[str]) -> bool:
        return os.path.realpath(_checks.path("path", path)) == str(self.path)

    def view(self, array: Array) -> Array:
        """A read-only view: a user's writes would not be recorded, and so never flushed."""
        self.check_open()
        view = array.view()
        view.flags.writeable = False
        return view

    def prefetch(self, ids: Any, bounds: str = "raise") -> None:
        """Read nonresident rows from the disk in parallel, before they are looked up."""
        self.check_open()
        # Contiguous int64 ids go to the kernel unchecked: it ignores those out of range.
        is_int64 = isinstance(ids, np.ndarray) and ids.dtype == np.int64 and ids.flags.c_contiguous
        rows = ids if is_int64 else lookup.resolve_ids(ids, len(self.table), bounds=bounds)
        if rows.size >= _MIN_PREFETCH:
            mapping.prefetch([self.table], rows.reshape(-1))

    def begin_write(self, rows: Array | None) -> None:
        """Record that rows (checked int64; None: all) or their state are about to change."""
        self.check_open()
        self._has_changed_rows = True
        self.mark_written(rows)
        if rows is None:
            self._changed_rows[:] = True
        else:
            self._changed_rows[rows] = True
            mapping.prefetch([self.table, *(array for *_, array in self._states.values())], rows.reshape(-1))

    def zeros(self, n: int, dtype: np.dtype[Any]) -> Array:
        return mapping.zeros(n, dtype)

    # ---- for optimisers ----

    def check_owner(self, optimizer: Any) -> None:
        """Raise if the state is of another kind of optimiser, or owned by another optimiser."""
        self.check_open()
        found = (self._record["optimizer"], self._record["tensor"])
        wanted = (type(optimizer).__name__, self._place.name)
        if self._record["states"] and found != wanted:
            files = ", ".join(map(str, (*self._state_files(), beside(self.path, "optimizer.json"))))
            found_text, wanted_text = (" ".join(filter(None, names)) for names in (found, wanted))
            raise ValueError(f"{self.path} has a state of {found_text} beside it, not of {wanted_text}: {files}")
        if self._owner() not in (None, optimizer):
            raise RuntimeError(f"another optimiser has been made for the table of {self.path}, and has taken its state over")

    @memory_errors()
    def states(
        self, optimizer: Any, options: Mapping[str, Any], specs: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, dict[str, Array]]:
        """The state arrays of an optimiser, which owns them from now on; missing files are created.

        optimizer None means a frozen table, which has no state: it may be larger than memory.
        """
        if optimizer is None:
            return {}
        self._check_writer()
        self._owner = lambda: None
        self.check_owner(optimizer)
        name, known = type(optimizer).__name__, self._record["states"]
        wanted = {kind: tuple(by_table.values()) for kind, by_table in specs.items()}
        step = self.step if self._record["optimizer"] == name else 0
        new = {kind: spec for kind, (spec,) in wanted.items() if kind not in known}
        states = known | {kind: spec.start for kind, spec in new.items()}
        record = {"optimizer": name, "step": step, "options": dict(options), "states": states}
        record |= {"tensor": self._place.name, "table": self._place.id}
        if new:
            self._create_states(new, record)
        self._record, self._steps = record, np.array([step])
        self._open_states()
        for kind, (spec,) in wanted.items():
            file, _, array = self._states[kind]
            if (array.shape, array.dtype) != (spec.shape, spec.dtype):
                found = f"{array.dtype} of shape {array.shape}"
                raise CheckpointError(f"{file} must be {spec.dtype} of shape {spec.shape}, got {found}")
        self._owner = weakref.ref(optimizer)
        return {kind: dict.fromkeys(by_table, self._states[kind][-1]) for kind, by_table in specs.items()}

    def _create_states(self, new: Mapping[str, Any], record: dict[str, Any]) -> None:
        """Create the files of new state arrays, and record them at the step of the last flush."""
        self._finish_flush()
        self._check_files()
        self._place = tensor_file.without_checksum(self.path, self._place)  # so that the record is known to be of this file
        name = record["optimizer"]
        for kind, spec in new.items():
            file = beside(self.path, f"{name}.{kind}")
            new_file(file, self.path, kind, spec.shape, spec.dtype, fill_with(spec.shape, spec.start))
        flushed = self._flushed_record["step"] if self._flushed_record["optimizer"] == name else 0
        on_disk = record | {"step": flushed}
        records.write(self.path, on_disk)
        flush_folder(self.path.parent)
        self._flushed_record = on_disk

    @property
    def step(self) -> int:
        """The number of steps that the optimiser has taken."""
        return int(self._steps[0])

    def track(self, optimizer: Any, steps: Array, options: Mapping[str, Any]) -> None:
        """Record the optimiser's options, and the number of steps in ``steps``, at each flush."""
        self._steps, self._owner = steps, weakref.ref(optimizer)
        self._record = self._record | {"optimizer": type(optimizer).__name__, "options": dict(options)}

    def _state_files(self) -> list[Path]:
        return [beside(self.path, f"{self._record['optimizer']}.{name}") for name in self._record["states"]]

    def _open_states(self) -> None:
        for file, name in zip(self._state_files(), self._record["states"], strict=True):
            if name not in self._states:
                place = tensor_file.find(file, name, n_axes=None)
                self._states[name] = file, place, mapping.mapped(file, place)

    # ---- flush, resize, close ----

    def _check_writer(self) -> None:
        self.check_open()
        if self.mode != "r+":
            raise ValueError(f'{self.path} is open with mode="r", and is not written')
        if os.getpid() != self._pid:
            raise RuntimeError(f"{self.path} was opened by process {self._pid}, which alone may write it")

    def _files(self) -> list[File]:
        return [(self.path, self._place, self.table), *self._states.values()]

    @property
    def _is_dirty(self) -> bool:
        is_changed = self._has_changed_rows or bool(self._replaced)
        return is_changed or records.as_json(self._current_record()) != records.as_json(self._flushed_record)

    @memory_errors()
    def flush(self) -> None:
        """Write all changed rows to the files: after a failure either all or none."""
        if self.mode == "r":
            return
        self._check_writer()
        self._check_files()
        self._replay_pending()
        if not self._is_dirty:
            return
        self._place = tensor_file.without_checksum(self.path, self._place)
        if renamed := self._check_files():
            self._locks.lock_next()
        rows, record = np.flatnonzero(self._changed_rows), self._current_record()
        pending = journal.write(self.path, self._files(), rows, self._record_to_write(), renamed)
        with self._locks.writing():
            pending.replay(self.path)
        self._locks.take_next()
        self._replaced, self._flushed_record = {}, record
        self._changed_rows[rows] = self._has_changed_rows = False
        for *_, array in self._files():
            kernels.release_pages(array, rows)

    def _check_files(self) -> list[str]:
        """The names of those files that a resize has made, and that are not in their place yet.

        OSError if a file is not the one that was opened: nothing of it may be overwritten.
        """
        moving = []
        for path, place, _ in self._files():
            found = inode_at(path)
            if self._replaced and found == self._replaced.get(path) and inode_at(beside(path, "new")) == place.inode:
                moving.append(path.name)
            elif found != place.inode:
                kept = "layer.state_dict() still has the rows"
                raise ReplacedError(f"{path} has been replaced or removed since it was opened, and nothing is written; {kept}")
        return moving

    def _record_to_write(self) -> dict[str, Any] | None:
        """The record of the optimiser for the next flush, or None if there is none."""
        return None if self._record["optimizer"] is None else self._current_record() | {"table": self._place.id}

    def _current_record(self) -> dict[str, Any]:
        return self._record | {"step": self.step}

    def _finish_flush(self) -> None:
        """Finish what a flush that failed has begun, so that all files are of the table's size."""
        self._replay_pending()
        if self._replaced:
            self.flush()

    def _replay_pending(self) -> None:
        """Replay the journal of a flush that failed, if there is one."""
        if (pending := journal.read(self.path)) is not None:
            with self._locks.writing():
                pending.replay(self.path)

    @memory_errors()
    def resized(self, commit: kernels.Commit, table: Array, n_rows: int, added: Array | None) -> tuple[Array, dict[str, Array]]:
        """The table and the states of its optimiser with ``n_rows``, in new files.

        Once the commit has run these are the storage's, and the next `flush` puts them in the place
        of the old ones.
        """
        self._check_writer()
        if not self._place.is_alone:
            raise ValueError(f"{self.path} holds other tensors too, or has names beside it: only a table alone can be resized")
        self._finish_flush()
        self._check_files()
        self._open_states()
        n_kept = min(n_rows, len(self.table))
        changed, made = np.flatnonzero(self._changed_rows[:n_kept]), []
        starts = self._record["states"]
        fills = [fill_with((n_rows, *array.shape[1:]), starts[kind]) for kind, (*_, array) in self._states.items()]
        try:
            for file, fill in zip(self._files(), [fill_from(added, n_kept), *fills], strict=True):
                made.append(mapping.resized(file, n_rows, fill, changed))
        except BaseException:
            for path, *_ in self._files():
                beside(path, "new").unlink(missing_ok=True)
            raise
        (_, place, new), *states = made
        arrays = dict(zip(self._states, states, strict=True))
        replaced = {path: place.inode for path, place, _ in self._files()}
        changes = {"_place": place, "table": new, "_states": arrays, "_replaced": replaced}
        changes |= {"_changed_rows": self.zeros(n_rows, np.dtype(bool)), "_has_changed_rows": False}
        for name, value in changes.items():
            commit.set_attribute(self, name, value)
        return new, {kind: array for kind, (*_, array) in arrays.items()}

    @memory_errors()
    def close(self) -> None:
        """Unlock the file; changes since the last flush are lost. Arrays handed out stay valid."""
        if not self.is_closed:
            self.is_closed = True
            if os.getpid() == self._pid:
                self._locks.close()

    def warn_of_loss(self) -> None:
        """Warn (not by a ResourceWarning, which Python hides) of steps that are lost."""
        if not (self.is_closed or self.is_lost) and self._is_dirty and os.getpid() == self._pid:
            warn(f"{self.path}: what was trained since the last flush is lost", RuntimeWarning)

    def __del__(self) -> None:
        try:
            self.warn_of_loss()
        finally:
            self.close()


@memory_errors()
def create(path: str | os.PathLike[str], name: str, shape: tuple[int, int], dtype: np.dtype[Any], fill: Fill) -> MappedFiles:
    """Write a new file with a table atomically, and open it for training."""
    target = writable_path(path)
    for file in (target, beside(target, "journal"), beside(target, "optimizer.json")):
        if is_there(file):
            raise FileExistsError(f"{file} is there already, and is not replaced")
    new_file(target, target, name, shape, dtype, fill)
    return MappedFiles(target, "r+")


def _unlock_in_child() -> None:
    """Release the locks in a forked child, which must not write the files."""
    for files in list(_open):
        if not files.is_closed and files._pid == os.getppid():
            files._locks.release()


def _close_at_exit() -> None:
    """Warn of layers that are still open when the interpreter ends, and unlock their files."""
    for files in list(_open):
        try:
            files.warn_of_loss()
        finally:
            files.close()


atexit.register(_close_at_exit)
os.register_at_fork(after_in_child=_unlock_in_child)
