"""Layer: what embedding layers share. Tables by name, a row-sparse gradient of each, and rows that may be behind."""

from __future__ import annotations

import contextlib
import math
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from .. import _checks
from ..functional.row_grad import Batch, RowGrad, batch_of
from ..functional.search import SearchedTables
from ..functional.statistics import LOOKUPS, CountedLookups
from .lazy_table import OwnRows, TrainedTable
from .vocabulary import NamedRows, Vocabulary

if TYPE_CHECKING:
    from .._typing import Array, ArrayLike, Rng
    from ..io.mapped import MappedFiles

_LINE = 64  # bytes
_CALLS = "dropout_calls"  # in states
_layers: weakref.WeakSet[Layer] = weakref.WeakSet()


def empty_table(shape: tuple[int, int], dtype: np.dtype[Any]) -> Array:
    """A new table that begins where a line of memory does: a row of whole lines then lies in no line more than it has to."""
    n_bytes = math.prod(shape) * dtype.itemsize
    memory = np.empty(n_bytes + _LINE, np.uint8)
    start = -memory.ctypes.data % _LINE
    return memory[start : start + n_bytes].view(dtype).reshape(shape)


def normal_rows(n_cols: int, std: float, rng: Rng) -> Callable[[int, int], Array]:
    """What draws rows first .. end - 1, one block after another: normal numbers in float64, row by row."""
    std, generator = _checks.number("std", std, 0.0, 3.4e38), _checks.generator(rng)
    return lambda first, end: generator.normal(0.0, std, (end - first, n_cols))


def normal(shape: tuple[int, int], std: float, rng: Rng, dtype: np.dtype[Any]) -> Array:
    """Normal numbers, drawn in float64 and rounded to ``dtype``: one seed gives one table in every dtype."""
    draw, table = normal_rows(shape[1], std, rng), empty_table(shape, dtype)
    n_block = 4096  # rows that are float64 at one time
    for first in range(0, shape[0], n_block):
        block = table[first : first + n_block]
        block[...] = draw(first, first + len(block))
    return table


class Layer(SearchedTables, NamedRows, CountedLookups):
    """Tables by name, a row-sparse gradient for each, the ids of the last call, and whoever trains the tables.

    Rows may be behind: an optimiser lets them take the steps that they missed when they are needed (`trained`). A lock of each
    layer keeps one thread from reading them while another does that.
    """

    training: bool
    _last_ids: tuple[Any, ...] | None
    _hold: Any  # from SingleLookup or PairLookup
    _is_behind: bool  # as well: whether look-ups have to let rows catch up first
    _is_plain: bool
    _aliases: ClassVar[dict[str, str]] = {}  # other names of the tables in checkpoints
    files: MappedFiles | None = None  # that the table lies in
    trainable_rows = OwnRows()
    _dropout = 0.0  # the probability that an element is 0, in train mode
    _dropout_seed = 0
    _n_calls = 0  # in train mode

    def __init__(self, tables: dict[str, Array], trainable: bool = True, trainable_rows: Any = None) -> None:
        self.tables = dict(tables)
        self._vocabulary = None
        self._hold(*tables.values())
        self._last_ids = None
        self.training = True
        self.trainable = trainable
        self.trainable_rows = trainable_rows
        self.zero_grad()
        self._trained: dict[str, TrainedTable] = {}
        self._is_behind = False
        self.lock = threading.RLock()
        self.optimizers: weakref.WeakSet[Any] = weakref.WeakSet()
        self._set_counts({})
        _layers.add(self)

    def _is_special(self) -> bool:
        """Whether a look-up is more than a look-up: then no call goes to C at once."""
        return False

    def _set_dropout(self, dropout: float, seed: int) -> None:
        self._dropout = _checks.number("dropout", dropout, 0.0, math.nextafter(1.0, 0.0))
        self._dropout_seed = _checks.size("dropout_seed", seed)

    @property
    def _only_reads(self) -> bool:
        """Whether a look-up does nothing but read rows: none is behind, and neither counts nor options add to it."""
        return not (self._is_behind or self._counts or self._is_special())

    def _set_counts(self, counts: dict[str, Array]) -> None:
        """Count look-ups into these arrays from now on; none for not at all."""
        self._counts = counts
        self._is_plain = not (counts or self.files is not None or self._is_special())

    @property
    def _arithmetic(self) -> np.dtype[Any]:
        """The dtype of gradients: float32 for tables of half precision."""
        return _checks.arithmetic(self.dtype)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The tables' dtype, in native byte order."""
        return next(iter(self.tables.values())).dtype.newbyteorder("=")

    def parameters(self) -> list[Array]:
        """The tables themselves, in the order of `state_dict`, up to date."""
        self.settle()
        return [self._shown(name) for name in self.tables]

    def state_dict(self, *, lookups: bool = False) -> dict[str, Array]:
        """The tables themselves by name, up to date: later training shows in them. Copy them to keep a state.

        With ``lookups`` what `count_lookups` has counted is among them, as ``weight.lookups`` for ``weight``. With dropout so is
        the number of calls in train mode so far, ``dropout_calls``: a run that is resumed with it drops what this one would.
        """
        self.settle()
        state = {name: self._shown(name) for name in self.tables}
        if _checks.flag("lookups", lookups):
            state |= {name + LOOKUPS: counts for name, counts in self._counts.items()}
        return state | {_CALLS: np.array(self._n_calls)} if self._dropout else state

    def _shown(self, name: str) -> Array:
        """A table as it is handed out: one in a mapped file is not to be written."""
        table = self.tables[name]
        return table if self.files is None else self.files.shown(table)

    def load_state_dict(self, state: Mapping[str, ArrayLike], strict: bool = True) -> None:
        """Copy tables into this layer's.

        Parameters
        ----------
        state : mapping of name to array_like
            Names as in `state_dict`, or as in GPT-2 checkpoints (``wte.weight``, ``transformer.wte.weight``). Counts of look-ups
            and the number of calls need not be there, ``strict`` or not; if they are, the layer goes on counting from them.
        strict : bool
            Whether a missing or an unexpected name is an error; otherwise such names are passed over.

        Raises
        ------
        KeyError
            A name is missing, unexpected, or there twice. No table is changed.
        ValueError, TypeError
            An array has another shape, or a dtype that does not convert. No table is changed.
        """
        if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
            raise TypeError(f"state must be a mapping of names to arrays, got {type(state).__name__}")
        known: dict[str, Any] = {}
        counted: dict[str, Any] = {}
        unexpected = []
        n_calls = _checks.size(_CALLS, state.get(_CALLS, self._n_calls))
        for key, value in state.items():
            plain = key.removeprefix("transformer.").removesuffix(LOOKUPS)
            name, found = self._aliases.get(plain, plain), counted if key.endswith(LOOKUPS) else known
            if key == _CALLS:
                continue
            if name not in self.tables:
                unexpected.append(key)
            elif name in found:
                raise KeyError(f"{name} is there twice in {sorted(state)}")
            else:
                found[name] = value
        missing = [name for name in self.tables if name not in known]
        if _checks.flag("strict", strict) and (missing or unexpected):
            raise KeyError(f"missing names {missing}, unexpected names {unexpected}; expected {list(self.tables)}")
        arrays = {name: _checks.like(name, value, self.tables[name].shape, self.dtype) for name, value in known.items()}
        counts = {name: _checks.counts(name + LOOKUPS, value, len(self.tables[name])) for name, value in counted.items()}
        pairs = [(_checks.writable_table(name, self.tables[name]), array) for name, array in arrays.items()]
        with self.lock:
            self.settle()
            self._will_write(None)
            _checks.copy_into(pairs)
            self._n_calls = n_calls
            if counts:
                self._set_counts(self._zero_counts() | self._counts | counts)

    def grads(self) -> dict[str, RowGrad]:
        """The accumulated gradient of each table, names as in `state_dict`; without rows before the first backward."""
        return dict(self._grads)

    def dense_grads(self) -> dict[str, Array]:
        """The same as whole arrays, of the tables' shapes: zeros where no batch touched a row."""
        return {name: grad.to_dense() for name, grad in self._grads.items()}

    def zero_grad(self) -> None:
        """Forget the accumulated gradients."""
        self._grads = {name: RowGrad.zeros(table.shape, self._arithmetic) for name, table in self.tables.items()}

    def train(self, mode: bool = True) -> Self:
        """Keep a reference to the ids of each call, for `backward`. The default."""
        self.training = _checks.flag("mode", mode)
        if not mode:
            self._last_ids = None
        return self

    def eval(self) -> Self:
        """Keep no ids of a call: `backward` then needs them as an argument."""
        return self.train(False)

    def _call_of(self, ids: ArrayLike | None, *others: Any) -> tuple[Any, ...]:
        """The arguments of the call that a backward is about: these, or without ids those of the last call in train mode."""
        if ids is not None:
            return ids, *others
        if self._last_ids is None:
            raise RuntimeError("backward needs ids: there was no call in train mode, and none were given")
        return self._last_ids

    def _backward(self, rows_by_name: dict[str, Array], dout: ArrayLike, optimizer: Any, by_frequency: bool = False) -> None:
        """Add ``dout`` to the gradient of every table, or let an optimiser take a step with it; all or nothing.

        The mapping is emptied: rows that have been sorted are let go, so that two tables take 36 bytes an id.
        """
        name = next(iter(rows_by_name))
        values = _checks.rows("dout", dout, (*rows_by_name[name].shape, self.tables[name].shape[1]), self._arithmetic)
        batches = {
            name: batch_of(rows_by_name.pop(name), len(self.tables[name]), values, by_frequency=by_frequency)
            for name in list(rows_by_name)
        }
        self._learn(batches, optimizer)

    def _learn(self, batches: dict[str, Batch], optimizer: Any) -> None:
        """Add the batches to the gradients, or let an optimiser take a step with them; all or nothing."""
        if optimizer is None:
            self._grads = self._grads | {name: self._grads[name].accumulate(batch) for name, batch in batches.items()}
            return
        if not callable(getattr(optimizer, "train", None)):
            raise TypeError(f"optimizer must be one of fastembed.optim, got {type(optimizer).__name__}")
        if any(len(grad) for grad in self._grads.values()):
            raise RuntimeError("an accumulated gradient is pending: step() or zero_grad() comes before backward(optimizer=)")
        optimizer.train(self, batches)

    # ---- rows that are behind ----

    @contextlib.contextmanager
    def trained_by(self, tables: dict[str, TrainedTable]) -> Iterator[None]:
        """While an optimiser takes a step: nobody else reads or writes the tables, or has steps left to do."""
        with self.lock:
            if any(self._trained.get(name) is not table for name, table in tables.items()):
                self.settle()
                self._trained = tables
            self._is_behind = True
            try:
                yield
            finally:
                self._is_behind = any(table.is_behind for table in tables.values())

    @contextlib.contextmanager
    def caught_up(self, rows_by_name: dict[str, Array]) -> Iterator[None]:
        """While these rows (checked int64) are read: they have taken all steps, and nobody trains them."""
        with self.lock:
            for name, table in self._trained.items():
                table.catch_up(rows_by_name[name])
            yield

    def flush(self) -> None:
        """Bring all rows up to date: each takes the steps of its optimiser that it has missed so far.

        What a mapped table has learned is then written into its file, wholly or not at all (docs/mapped.md).
        """
        with self.lock:
            self.settle()
            if self.files is not None:
                self.files.flush()

    def settle(self) -> None:
        """Bring all rows up to date, in memory."""
        if self.files is not None:
            self.files.check_open()
        if self._is_behind:
            with self.lock:
                for table in self._trained.values():
                    table.flush()
                self._is_behind = False

    def _will_write(self, rows: Array | None) -> None:
        """Rows (None: all) of a table are about to change."""
        if self.files is not None:
            self.files.about_to_write(rows)

    # ---- size ----

    def resize(self, n: int, *, table: str | None = None, new_rows: ArrayLike | None = None) -> None:
        """Give a table ``n`` rows. Rows that remain keep their values, and what every optimiser knows of them.

        The table becomes another array; accumulated gradients of rows that are gone are dropped, and so are their names; the ids
        of the last call are forgotten. A table whose rows have names grows by `add_tokens`. A mapped table becomes another file,
        and is flushed with that.

        Parameters
        ----------
        n : int
        table : str, optional
            Its name, as in `state_dict`; by default the first.
        new_rows : array_like, broadcast to (n - V, D)
            What rows that are added hold; by default zeros.

        Raises
        ------
        KeyError, ValueError, TypeError
            There is no such table, or the rows do not fit. Nothing is changed.

        Examples
        --------
        >>> import fastembed as fe
        >>> layer = fe.Embedding.from_pretrained([[1.0, 2.0]])
        >>> layer.resize(3, new_rows=[5.0, 6.0])
        >>> layer.weight
        array([[1., 2.],
               [5., 6.],
               [5., 6.]])
        """
        name = self._name_of(table)
        n = _checks.size("n", n)
        with self.lock:
            self._resize(name, n, new_rows, self._names_of(name, n))

    def _resize(self, name: str, n: int, new_rows: ArrayLike | None, vocabulary: Vocabulary | None) -> None:
        """Give a table ``n`` rows, and the layer a vocabulary; all or nothing."""
        self.settle()
        old = self.tables[name]
        n_added, n_kept = max(n - len(old), 0), min(n, len(old))
        added = _checks.rows(
            "new_rows", 0.0 if new_rows is None else new_rows, (n_added, old.shape[1]), self.dtype, broadcast=True
        )
        if self.files is not None:
            self.files.resize(n, None if new_rows is None else added)
            new = self.files.table
        else:
            new = empty_table((n, old.shape[1]), self.dtype)
            new[:n_kept], new[n_kept:] = old[:n_kept], added
        puts = [optimizer.resized(self, name, n) for optimizer in self.optimizers]
        self._grads[name] = self._grads[name].resized(n)
        if name in self._counts:
            self._counts[name] = np.append(self._counts[name][:n_kept], np.zeros(n_added, np.int64))
        self.tables[name] = new
        self._hold(*self.tables.values())
        self._last_ids = None
        self._trained = {}
        self._vocabulary = vocabulary
        for put in puts:
            put()

    def __reduce__(self) -> tuple[Any, ...]:
        if self.files is not None:
            raise TypeError(
                f"the table of {self.files.path} is mapped: open it again, or take weight.copy() for a layer in memory"
            )
        self.settle()
        own = ("lock", "_trained", "optimizers", "_last_ids", "_hidden")  # what a copy has of its own, or not at all
        return _restored, (type(self), {name: value for name, value in self.__dict__.items() if name not in own}, self.training)


def _new_locks() -> None:
    """A forked child has no thread that would ever open a lock that another thread held."""
    for layer in list(_layers):
        layer.lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_locks)


def _restored(cls: type[Layer], state: dict[str, Any], training: bool) -> Layer:
    """A layer from what `copy` or `pickle` kept of it: everything but the arguments of the last calls."""
    layer = cls.__new__(cls)
    layer.__dict__.update(state)
    Layer.__init__(layer, state["tables"], state["trainable"], state["trainable_rows"])
    layer._grads = dict(state["_grads"])
    layer._vocabulary = state["_vocabulary"]
    layer._set_counts({name: counts.copy() for name, counts in state["_counts"].items()})
    return layer.train(training)
