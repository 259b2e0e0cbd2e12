"""A table in a mapped file, with the files of its optimiser beside it: locked, marked row by row, flushed through a journal.

The mapping is private: what is trained stays in memory until a flush writes it, so that the files hold the state of a flush.
docs/mapped.md says what may happen when.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
import warnings
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _checks
from .._kernels.backend import kernels
from ..functional import lookup
from . import journal, tensor_file
from .checkpoint import CheckpointError, flush_folder, writable_path
from .file_lock import locked, recovered
from .journal import beside, open_new
from .tensor_file import Fill, Place

if TYPE_CHECKING:
    from .._typing import Array

_NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)  # else 40 GB are refused
_PRIVATE: dict[str, Any] = {"flags": mmap.MAP_PRIVATE | _NO_RESERVE, "prot": mmap.PROT_READ | mmap.PROT_WRITE}
_FEW = 8  # rows that are not worth a prefetch
_open: weakref.WeakSet[MappedFiles] = weakref.WeakSet()


class MappedFiles:
    """The files of one mapped table, open: what `fastembed.tables.storage.Storage` asks for.

    Parameters
    ----------
    path : path-like
    mode : {"r", "r+"}
    name : str, optional
        Of the tensor, where a safetensors file has several.

    Attributes
    ----------
    table : ndarray of shape (V, D)
        The mapping itself: whoever writes rows of it says so first (`begin_write`).
    step : int
        How many steps the optimiser has taken.
    """

    is_mapped = True
    is_closed = True  # until it is open: then it may be used

    def __init__(self, path: str | os.PathLike[str], mode: str, name: str | None = None) -> None:
        self.path = Path(os.path.realpath(os.fsdecode(path)))
        self.mode = _checks.one_of("mode", mode, ("r", "r+"))
        self._pid, self._is_marked = os.getpid(), False
        self._owner: Any = lambda: None  # the optimiser that holds the state
        self._lock = recovered(self.path, mode)
        try:
            self._load(name)
        except BaseException:
            os.close(self._lock)
            raise
        self.is_closed = False
        _open.add(self)

    def _load(self, name: str | None) -> None:
        """Map the table as the last flush left it, and read what that says of an optimiser."""
        pending = journal.read(self.path) if self.mode == "r" else None
        moved = beside(self.path, "new")
        file = moved if pending and self.path.name in pending.renamed and moved.exists() else self.path
        self._place = tensor_file.find(file, name)
        self.table = _mapped(file, self._place)
        if self.mode == "r+":
            _checks.writable_table(f'the table of {self.path}, of which mode="r" can look up rows,', self.table)
        if pending and pending.parts:
            if pending.parts[0] != journal.part_of(self.path, self._place):
                raise CheckpointError(f"{pending.path} is not a journal of the table in {self.path}")
            flat = self.table.reshape(-1).view(np.uint8)
            for offset, data in pending.changes(0):
                flat[offset : offset + len(data)] = data
        self.table.flags.writeable = self.mode == "r+"
        self._marks = self.zeros(len(self.table), np.dtype(bool))
        self._states: dict[str, tuple[Path, Place, Array]] = {}
        self._record = self._recorded = journal.read_record(self.path) if self.mode == "r+" else journal.NO_RECORD
        self.step = self._record["step"]
        if self.mode == "r+":  # what killed processes left
            for left in (self.path, *(beside(self.path, name) for name in ("journal", "optimizer.json")), *self._state_files()):
                beside(left, "new").unlink(missing_ok=True)

    # ---- what a layer asks for ----

    def check_open(self) -> None:
        if self.is_closed:
            raise ValueError(f"the table of {self.path} is closed")

    def check_can_train(self, what: str) -> None:
        if self.mode == "r":
            raise ValueError(f"{what} is a table in a file, opened with mode 'r': only with 'r+' can it be trained")

    def check_can_copy(self) -> None:
        raise TypeError(f"the table of {self.path} is mapped: open it again, or take weight.copy() for a layer in memory")

    def view(self, array: Array) -> Array:
        """An array as it is handed out: what somebody wrote into it would be noticed by nobody."""
        self.check_open()
        view = array.view()
        view.flags.writeable = False
        return view

    def prefetch(self, ids: Any) -> None:
        """Rows will be looked up: those that are not in memory are read side by side."""
        self.check_open()
        is_plain = (
            isinstance(ids, np.ndarray) and ids.dtype == np.int64 and ids.flags.c_contiguous
        )  # what is no row is passed over
        rows = ids if is_plain else lookup.resolve_ids(ids, len(self.table))
        if rows.size >= _FEW:
            _prefetch([self.table], rows.reshape(-1))

    def begin_write(self, rows: Array | None) -> None:
        """Rows (checked int64; None for all) of the table, or of its state, are about to change."""
        self.check_open()
        self._is_marked = True
        if rows is None:
            self._marks[:] = True
        else:
            self._marks[rows] = True
            _prefetch([self.table, *(array for *_, array in self._states.values())], rows.reshape(-1))

    def zeros(self, n: int, dtype: np.dtype[Any]) -> Array:
        """Zeros that take memory where they are used, one page at a time: NumPy's take two megabytes at a time."""
        if n * dtype.itemsize < 1 << 20:
            return np.zeros(n, dtype)
        memory = mmap.mmap(-1, n * dtype.itemsize, **{**_PRIVATE, "flags": _PRIVATE["flags"] | mmap.MAP_ANONYMOUS})
        if hasattr(mmap, "MADV_NOHUGEPAGE"):
            memory.madvise(mmap.MADV_NOHUGEPAGE)
        return np.frombuffer(memory, dtype)

    # ---- what an optimiser asks for ----

    def check_owner(self, optimizer: Any) -> None:
        """An error if the state is one of another kind of optimiser, or another optimiser has taken it over."""
        self.check_open()
        found = (self._record["optimizer"], self._record["tensor"])
        wanted = (type(optimizer).__name__, self._place.name)
        if self._record["states"] and found != wanted:
            files = ", ".join(map(str, (*self._state_files(), beside(self.path, "optimizer.json"))))
            beside_it, other = (" ".join(filter(None, names)) for names in (found, wanted))
            raise ValueError(f"{self.path} has a state of {beside_it} beside it, not of {other}: {files}")
        if self._owner() not in (None, optimizer):
            raise RuntimeError(f"another optimiser has been made for the table of {self.path}, and has taken its state over")

    def states(
        self, optimizer: Any, options: Mapping[str, Any], specs: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, dict[str, Array]]:
        """The state arrays of an optimiser, which owns them from now on, in files that are made where they are not there yet.

        A frozen table may be larger than memory: it has none.
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
        record = {"tensor": self._place.name, "optimizer": name, "step": step, "options": dict(options), "states": states}
        if new:
            self._finish()
            for kind, spec in new.items():
                file = beside(self.path, f"{name}.{kind}")
                _new_file(file, self.path, kind, spec.shape, spec.dtype, _constant(spec.shape, spec.start))
            flushed = self._recorded["step"] if self._recorded["optimizer"] == name else 0
            journal.put_record(self.path, record | {"step": flushed})
            flush_folder(self.path.parent)
            self._recorded = record | {"step": flushed}
        self._record, self.step = record, step
        self._open_states()
        for kind, (spec,) in wanted.items():
            file, _, array = self._states[kind]
            if (array.shape, array.dtype) != (spec.shape, spec.dtype):
                raise CheckpointError(
                    f"{file} must be {spec.dtype} of shape {spec.shape}, got {array.dtype} of shape {array.shape}"
                )
        self._owner = weakref.ref(optimizer)
        return {kind: dict.fromkeys(by_table, self._states[kind][-1]) for kind, by_table in specs.items()}

    def record_step(self, optimizer: Any, step: int, options: Mapping[str, Any]) -> None:
        """The optimiser has come so far."""
        self.step, self._owner = step, weakref.ref(optimizer)
        self._record = self._record | {"optimizer": type(optimizer).__name__, "step": step, "options": dict(options)}

    def _state_files(self) -> list[Path]:
        return [beside(self.path, f"{self._record['optimizer']}.{name}") for name in self._record["states"]]

    def _open_states(self) -> None:
        for file, name in zip(self._state_files(), self._record["states"], strict=True):
            if name not in self._states:
                place = tensor_file.find(file, name, n_axes=None)
                self._states[name] = file, place, _mapped(file, place)

    # ---- flush, resize, close ----

    def _check_writer(self) -> None:
        self.check_open()
        if self.mode != "r+":
            raise ValueError(f'{self.path} is open with mode="r", and is not written')
        if os.getpid() != self._pid:
            raise RuntimeError(f"{self.path} was opened by process {self._pid}, which alone may write it")

    def _parts(self) -> list[tuple[journal.Part, Array]]:
        files = [(self.path, self._place, self.table), *self._states.values()]
        return [(journal.part_of(path, place), array) for path, place, array in files]

    @property
    def _is_dirty(self) -> bool:
        return self._is_marked or _encoded(self._record) != _encoded(self._recorded)

    def flush(self) -> None:
        """Let the files hold what has been trained: all of it, or after a failure what they held."""
        if self.mode == "r":
            return
        self._check_writer()
        self._finish()
        if not self._is_dirty:
            return
        rows, record = np.flatnonzero(self._marks), self._record
        journal.write(self.path, self._parts(), rows, self._told()).carry_out(self.path)
        self._recorded = record
        self._marks[rows] = self._is_marked = False
        for _, array in self._parts():
            kernels.release_pages(array, rows)

    def _told(self) -> dict[str, Any] | None:
        """What a flush says of the optimiser, if there has been one."""
        return None if self._record["optimizer"] is None else self._record

    def _finish(self) -> None:
        """Carry out what a flush that failed has left."""
        pending = journal.read(self.path)
        if pending is not None:
            pending.carry_out(self.path)

    def resized_state(self, kind: str, old: Array, spec: Any) -> Array:
        return self._states[kind][-1]

    def resized(self, table: Array, n_rows: int, added: Array | None) -> Array:
        """Put files with as many rows in the place of these, and flush; the state arrays are others afterwards too."""
        self._check_writer()
        if not self._place.is_alone:
            raise ValueError(f"{self.path} holds other tensors too: only a table that is alone in its file can be resized")
        self._finish()
        self._open_states()
        n_kept, parts, lock, is_decided = min(n_rows, len(self.table)), [], None, False
        files = {"": (self.path, self._place, self.table), **self._states}
        try:
            for name, (path, place, array) in files.items():
                new = place._replace(shape=(n_rows, *place.shape[1:]))
                fill = _constant(new.shape, self._record["states"][name]) if name else _slices(added, n_kept)
                with open_new(path, path) as file:
                    made = tensor_file.write(file, new, fill, n_kept, (path, place))
                parts.append((journal.part_of(path, made), array[:n_kept]))
            lock, rows = locked(beside(self.path, "new"), "r+"), np.flatnonzero(self._marks[:n_kept])
            change = journal.write(self.path, parts, rows, self._told(), [part.file for part, _ in parts])
            is_decided = True
            change.carry_out(self.path)
            self._load(self._place.name or None)
            self._open_states()
        except BaseException:
            if lock is not None:
                os.close(lock)
            if is_decided or beside(self.path, "journal").exists():
                self.close()  # other files are there, or will be: who opens them sees a state that is whole
            else:
                for path, *_ in files.values():
                    beside(path, "new").unlink(missing_ok=True)
            raise
        os.close(self._lock)
        self._lock, self._is_marked = lock, False
        return self.table

    def close(self) -> None:
        """Unlock the file; what has not been flushed is gone. Arrays that were handed out stay as they are."""
        if not self.is_closed:
            self.is_closed = True
            if os.getpid() == self._pid:
                os.close(self._lock)

    def __del__(self) -> None:
        if self.is_closed:
            return
        if self._is_dirty and os.getpid() == self._pid:
            warnings.warn(f"{self.path}: what was trained since the last flush is lost", ResourceWarning, stacklevel=2)
        self.close()


def create(path: str | os.PathLike[str], name: str, shape: tuple[int, int], dtype: np.dtype[Any], fill: Fill) -> MappedFiles:
    """A new file with a table, whole or not at all, open for training."""
    target = writable_path(path)
    for there in (target, beside(target, "journal"), beside(target, "optimizer.json")):
        if there.exists():
            raise FileExistsError(f"{there} is there already, and is not replaced")
    _new_file(target, target, name, shape, dtype, fill)
    return MappedFiles(target, "r+")


def _new_file(path: Path, like: Path, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], fill: Fill) -> None:
    place = tensor_file.new_place(path, name, shape, dtype)
    try:
        with open_new(path, like) as file:
            tensor_file.write(file, place, fill)
        os.replace(beside(path, "new"), path)
    finally:
        beside(path, "new").unlink(missing_ok=True)
    flush_folder(path.parent)


def _constant(shape: tuple[int, ...], value: float) -> Fill:
    """Rows of one number; none at all for 0, which a hole reads as."""
    return lambda first, end: None if str(float(value)) == "0.0" else np.full((end - first, *shape[1:]), value)


def _slices(new_rows: Array | None, n_kept: int) -> Fill:
    return lambda first, end: None if new_rows is None else new_rows[first - n_kept : end - n_kept]


def _mapped(path: Path, place: Place) -> Array:
    with open(path, "rb") as file:
        memory = mmap.mmap(file.fileno(), 0, **_PRIVATE)
    memory.madvise(mmap.MADV_RANDOM)
    return np.ndarray(place.shape, place.dtype, memory, place.start)


def _prefetch(arrays: list[Array], rows: Array) -> None:
    """Let the disk read rows that are absent side by side, not one after the other as they are touched."""
    in_order = None
    for array in arrays:
        if kernels.any_nonresident(array, rows):
            in_order = np.sort(rows) if in_order is None else in_order
            kernels.prefetch_pages(array, in_order)


def _encoded(record: Any) -> str:
    return json.dumps(record, sort_keys=True)


def _unlock_in_child() -> None:
    """A forked child, which may not write the files, does not keep them locked either."""
    for files in list(_open):
        if not files.is_closed and files._pid == os.getppid():
            os.close(files._lock)


os.register_at_fork(after_in_child=_unlock_in_child)
