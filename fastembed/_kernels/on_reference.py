"""The calls of `on_c`, answered by the pure-Python reference. Imported by `backend` alone."""

from __future__ import annotations

import contextlib
import functools
import math
import operator
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .. import _float_env, reference
from .._float_env import in_default_floats  # noqa: F401
from .disk_on_reference import DiskRows, HeldRows, disk_slot_size  # noqa: F401
from .lookups_on_reference import (  # noqa: F401
    PairLookup,
    SingleLookup,
    fast_bag,
    fast_gather,
    fast_gather_add,
    fast_gather_packed,
    fast_ngram_gather,
    hold,
)
from .losses_on_reference import cross_entropy, logistic  # noqa: F401
from .packing import Packing
from .rows_on_reference import below, code_bounds, costs, dots, dropout, norm_rows, packed_size, sum_powers  # noqa: F401
from .shared_on_reference import SharedMemory, SharedRows  # noqa: F401
from .text_on_reference import hash_string, parse_lines  # noqa: F401

Array = np.ndarray[Any, Any]


def build_info() -> dict[str, Any]:
    return {"isa": None, "isa_available": [], "compiler": None}


_num_threads = 1


def get_num_threads() -> int:
    return _num_threads


def set_num_threads(n: int) -> None:
    """Kept and told, and of no effect: the reference works on one thread."""
    global _num_threads
    _num_threads = n


def _lists(array: Array | None) -> Any:
    return None if array is None else array.tolist()


def _store(out: Array, result: Any) -> None:
    """A nested list into an array: zeros for rows of an empty table, which come without width."""
    values = np.array(result, dtype=out.dtype)
    out[...] = values.reshape(out.shape) if values.size == out.size else 0


def resolve_ids(ids: Array, n_rows: int, bounds: str, name: str) -> Array:
    rows = reference.resolve_ids(ids.tolist(), n_rows, bounds, name)
    return np.array([-1 if r is None else r for r in rows], dtype=np.int64).reshape(ids.shape)


class _Rows:
    """Lists that are made when they are first asked for: a call needs few rows of a cache."""

    def __init__(self, table: Array, n_cols: int, packing: Packing | None) -> None:
        self._table, self._n_cols, self._packing = table, n_cols, packing
        self._made: dict[int, list[float]] = {}

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, row: int) -> list[float]:
        if row not in self._made:
            self._made[row] = self._decoded(slice(row, row + 1))[0]
        return self._made[row]

    def _decoded(self, some: slice) -> Any:
        rows, packing = self._table[some].tolist(), self._packing
        if packing is None:
            return rows
        scales = None if packing.scales is None else packing.scales[some].tolist()
        return reference.formats.decode(rows, scales, *packing[:3], self._n_cols)


def _rows(table: Array, n_cols: int, packing: Packing | None) -> Any:
    """A table as lists: with `packing` a packed one, of that width."""
    return _Rows(table, n_cols, packing)


def gather(table: Array, ids: Array, out: Array, bounds: str, packing: Packing | None = None) -> None:
    _store(out, reference.gather(_rows(table, out.shape[-1], packing), ids.tolist(), bounds=bounds, dtype=str(out.dtype)))


def gather_add(
    wte: Array,
    token_ids: Array,
    wpe: Array,
    position_ids: Array | None,
    start: int,
    out: Array,
    bounds: str,
    packing: Packing | None = None,
) -> None:
    arguments = (_rows(wte, out.shape[-1], packing), token_ids.tolist(), wpe.tolist(), _lists(position_ids))
    _store(out, reference.gather_add(*arguments, start=start, bounds=bounds, dtype=str(out.dtype)))


def scatter_add(table: Array, ids: Array, values: Array, bounds: str) -> None:
    rows = table.tolist()
    if rows:
        reference.scatter_add(rows, ids.tolist(), values.tolist(), bounds=bounds, dtype=str(table.dtype))
        _store(table, rows)
    else:
        reference.resolve_ids(ids.tolist(), 0, bounds)


def gather_add_backward(
    dout: Array, token_ids: Array, dwte: Array, dwpe: Array, position_ids: Array | None, start: int, bounds: str
) -> None:
    token_rows, position_rows = dwte.tolist(), dwpe.tolist()
    arguments = (dout.tolist(), token_ids.tolist(), token_rows, position_rows, _lists(position_ids))
    reference.gather_add_backward(*arguments, start=start, bounds=bounds, dtype=str(dwte.dtype))
    _store(dwte, token_rows)
    _store(dwpe, position_rows)


N_SCALARS = 15
_SCALARS = ("lr", "beta1", "alpha1", "beta2", "alpha2", "correction", "eps", "l2", "decay", "nesterov", "number")


class LazyTable:
    """A table, its state and its recorded steps, which rows take one by one."""

    def __init__(
        self,
        rule: str,
        table: Array,
        states: tuple[Array, ...],
        n_applied: Array,
        multipliers: Array | None,
        steps: Array,
        master: Array | None = None,
        seed: tuple[int, int] | None = None,
    ) -> None:
        self._rule, self._states, self._master, self._seed = reference.rules.RULES[rule], states, master, seed
        self._table, self._n_applied, self._multipliers, self._steps = table, n_applied, multipliers, steps
        self._dtype = reference.arithmetic(str(table.dtype))
        self._half = str(table.dtype) if reference.halves.is_half(str(table.dtype)) else None
        self.n_steps = 0

    def _take(self, row: int, step: Array, gradient: list[float]) -> None:
        k = 1.0 if self._multipliers is None else float(self._multipliers[row])
        if k != 0:
            w, states = self._wide(row), [state[row].tolist() for state in self._states]
            scalars = dict(zip(_SCALARS, step.tolist(), strict=False))
            self._rule(w, gradient, states, scalars, k, reference.rounding(self._dtype))
            if self._master is not None:
                self._master[row] = w
            self._table[row] = w if self._half is None else self._rounded(w, row, int(scalars["number"]))
            for state, values in zip(self._states, states, strict=True):
                state[row] = values

    def _wide(self, row: int) -> list[float]:
        """A row for arithmetic: its master, unless that does not round to it."""
        w: list[float] = self._table[row].astype(self._dtype).tolist()
        if self._master is None or self._half is None:
            return w
        master: list[float] = self._master[row].tolist()
        nearest, same_bits = reference.halves.nearest, reference.rules.same_bits
        return [m if same_bits(nearest(m, self._half), x) else x for m, x in zip(master, w, strict=True)]

    def _rounded(self, w: list[float], row: int, step: int) -> list[float]:
        halves, dtype = reference.halves, str(self._half)
        if self._seed is None:
            return [halves.nearest(x, dtype) for x in w]
        return [halves.at_random(x, dtype, halves.random_bits(*self._seed, step, row, col)) for col, x in enumerate(w)]

    def apply_pending(self, rows: Array) -> None:
        with _signals_deferred():
            for row in rows[rows >= 0].tolist():  # -1: no row
                for step in self._steps[self._n_applied[row] : self.n_steps]:
                    self._take(row, step, [0.0] * self._table.shape[1])
                self._n_applied[row] = self.n_steps

    def apply_all(self) -> None:
        with _signals_deferred():
            self.apply_pending(np.arange(len(self._table)))
            self._n_applied[:] = 0
            self.n_steps = 0

    def apply_step(
        self, step: Array, is_recorded: bool, rows: Array, order: Array | None, factors: Any, by_frequency: bool, grads: Array
    ) -> None:
        distinct, compact = np.unique(rows, return_inverse=True)
        sums = np.zeros((len(distinct), self._table.shape[1]), self._dtype)
        add_rows(sums, compact, order, factors, by_frequency, grads)
        self.apply_pending(distinct)
        for row, gradient in zip(distinct.tolist(), sums.tolist(), strict=True):
            self._take(row, step, gradient)
            self._n_applied[row] = self.n_steps + is_recorded
        if is_recorded:
            self._steps[self.n_steps] = step
            self.n_steps += 1


_SIGNALS = tuple(signal.valid_signals())  # a call makes enums of all, a tenth of a short step


@contextlib.contextmanager
def _signals_deferred() -> Iterator[None]:
    """Run signal handlers afterwards; only the main thread runs any."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[tuple[int, Any]] = []
    every: dict[int, Any] = {number: signal.getsignal(number) for number in _SIGNALS}
    handlers = {number: handler for number, handler in every.items() if callable(handler)}
    try:
        for number in handlers:
            signal.signal(number, lambda *given: caught.append(given))
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for number, frame in caught:
        handlers[number](number, frame)


class Commit:
    """Writes that happen together: handlers of signals run before the first or after the last."""

    def __init__(self) -> None:
        self._writes: list[Callable[[], object]] = []

    def add_step(self, table: LazyTable, *step: Any) -> None:
        self._writes.append(functools.partial(table.apply_step, *step))

    def add_gradients(self, table: Array, *batch: Any) -> None:
        self._writes.append(functools.partial(add_rows, table, *batch))

    def add_copy(self, target: Array, source: Array) -> None:
        self._writes.append(functools.partial(np.copyto, target, source))

    def add_counts(self, counts: Array, rows: Array) -> None:
        self._writes.append(functools.partial(np.add.at, counts, rows[rows >= 0], 1))

    def set_attribute(self, owner: object, name: str, value: object) -> None:
        self._writes.append(functools.partial(setattr, owner, name, value))

    def set_item(self, container: Any, key: Any, value: object) -> None:
        self._writes.append(functools.partial(operator.setitem, container, key, value))

    def run(self) -> None:
        with _signals_deferred():
            for write in self._writes:
                write()


def add_rows(sums: Array, rows: Array, order: Array | None, factors: Array | None, by_frequency: bool, grads: Array) -> None:
    width = sums.shape[1]
    gradients = grads.reshape(math.prod(grads.shape[:-1]), width)
    values = gradients[: len(rows)] if order is None else gradients[order]
    table = sums.tolist()
    reference.accumulate(table, rows.tolist(), values.reshape(-1).tolist(), str(sums.dtype), _lists(factors), by_frequency)
    _store(sums, table)


def sort_rows(rows: Array, n_rows: int) -> tuple[Array, Array]:
    order = sorted(range(rows.size), key=rows.reshape(-1).tolist().__getitem__)
    return rows.reshape(-1)[order], np.array(order, np.int32)


def use_large_pages(array: Array) -> bool:
    return False


def any_nonresident(table: Array, rows: Array) -> bool:
    return False


def prefetch_pages(table: Array, rows: Array) -> None:
    """Advice about memory changes no value: none is given."""


def release_pages(table: Array, rows: Array) -> None:
    """As `prefetch_pages`."""


def embedding_bag(
    table: Array,
    ids: Array,
    offsets: Array,
    mode: str,
    factors: Array | None,
    padding_row: int,
    out: Array,
    bounds: str,
    winners: Array | None,
    packing: Packing | None = None,
    is_new: bool = False,
) -> None:
    flat_ids, dtype = ids.reshape(-1).tolist(), str(out.dtype)
    options: dict[str, Any] = {
        "mode": mode,
        "padding_idx": None if padding_row < 0 else padding_row,
        "include_last_offset": True,
        "dtype": dtype,
    }
    weights = None if factors is None else factors.reshape(-1).tolist()
    reference.resolve_ids(ids.tolist(), len(table), bounds)  # for the position in an error
    rows = _rows(table, out.shape[-1], packing)
    result = reference.embedding_bag(rows, flat_ids, offsets.tolist(), per_sample_weights=weights, bounds=bounds, **options)
    if winners is None:
        _store(out, result)
        return
    for bag, d in np.ndindex(winners.shape):
        for item in range(int(offsets[bag]), int(offsets[bag + 1])):
            (row,) = reference.resolve_ids([flat_ids[item]], len(table), bounds)
            x, y = math.nan if row is None else rows[row][d], float(out[bag, d])
            if row is not None and winners[bag, d] < 0 and reference.rules.same(x, y):
                winners[bag, d] = item


class Features:
    """The tables of the features of a collection, in the order of their columns."""

    def __init__(self, tables: list[tuple[Array, int, Packing | None]]) -> None:
        self.tables = tables

    def is_apart(self, out: Any) -> bool:
        return False  # look at each table


def embedding_bags(
    tables: Features, ids: Array, offsets: Array, mode: str, factors: Array | None, out: Array, bounds: str
) -> bool:
    rows = [_rows(*table) for table in tables.tables]
    widths = [n_cols for _, n_cols, _ in tables.tables]
    options: dict[str, Any] = {"mode": mode, "per_sample_weights": _lists(factors), "bounds": bounds, "dtype": str(out.dtype)}
    with contextlib.suppress(IndexError):
        result = reference.embedding_bags(rows, ids.tolist(), offsets.tolist(), **options)
        has_rows = np.repeat([len(table) > 0 for table in rows], widths)  # of each column: rows of an empty table have no width
        out[...] = 0
        out[:, has_rows] = np.array(result, dtype=out.dtype).reshape(len(out), has_rows.sum())
        return True
    return False


def hash_rows(ids: Array, seed: int, n_rows: int) -> Array:
    return np.array(reference.hash_ids(ids.tolist(), n_rows, seed=seed), np.int64).reshape(*ids.shape, 4)


def hash_parts(ids: Array, seed: int) -> Array:
    return np.array(reference.murmur_hash(ids.tolist(), seed=seed), np.uint32).reshape(*ids.shape, 4)


def ngram_mixes(tokens: Array, starts: Array, history: Array | None, hash: tuple[Any, ...]) -> Array:
    multipliers, token_map, n_tokens, *cuts = hash
    for position, token in np.ndenumerate(tokens):
        if not 0 <= token < n_tokens:
            raise IndexError(f"token id {token} at position {position} is out of range for a vocabulary of {n_tokens} tokens")
    arguments = (tokens.reshape(-1).tolist(), starts.tolist(), _lists(history), multipliers.tolist(), _lists(token_map))
    mixed = reference.hashed.mixes(*arguments, cuts[0], cuts[1].tolist(), cuts[2])
    return np.array(mixed, np.uint64).reshape(tokens.size, len(multipliers) - 1)


def ngram_rows(mixes: Array, heads: Array) -> Array:
    mixed = mixes.reshape(-1, mixes.shape[-1]).tolist()
    rows = reference.hashed.rows_of_mixes(mixed, heads[:, 0].tolist(), heads[:, 2].tolist())
    return np.array(rows, np.int64).reshape(*mixes.shape[:-1], len(heads))


def ngram_gather(layers: list[tuple[Any, ...]], tokens: Array, starts: Array) -> None:
    mixes = [ngram_mixes(tokens, starts, layer[2], layer[0]) for layer in layers]
    for mixed, (_, heads, _, table, packing, out) in zip(mixes, layers, strict=True):
        gather(table, ngram_rows(mixed, heads).reshape(out.shape[:-1]), out, "raise", packing)


def xla_handlers() -> dict[str, object]:
    return {}  # the reference is no compiled code


_float_env.protect(__name__, __package__)
