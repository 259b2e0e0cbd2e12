"""Differentiable: the base of layers with a call, the ids of the last call, and gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .. import _checks
from .._kernels.backend import kernels
from .._kernels.floats import own_floats
from ..functional.batch import Batch, batch_of
from ..functional.row_grad import RowGrad, add_scaled
from ..tables.lookup_counter import LookupCounter
from ..tables.storage import Storage
from ..tables.trainable import Trainable

if TYPE_CHECKING:
    from .._typing import Array, ArrayLike


class CallHandle:
    """One call of a layer, made by the layer's ``call``, for ``backward(dout, call=...)``.

    It keeps a reference to the arguments of the call, as a layer does to those of its last one:
    they must not change before the backward pass. Its dropout mask is drawn again, not kept.
    """

    __slots__ = ("_arguments", "_tables")

    def __init__(self, tables: dict[str, Array], arguments: tuple[Any, ...]) -> None:
        self._tables, self._arguments = tables, arguments

    def arguments_for(self, tables: dict[str, Array]) -> tuple[Any, ...]:
        """The arguments of the call, if it was a call with these tables."""
        if self._tables is not tables:
            raise ValueError("call must be a call of this layer, and the layer not resized since")
        return self._arguments


class Remembering:
    """What layers with calls share: train mode, the arguments of the last call, its handle."""

    training: bool
    tables: Any  # a handle of a call is of these
    _last_ids: tuple[Any, ...] | None
    _dropout = 0.0  # the probability that an element is 0, in train mode

    def train(self, mode: bool = True) -> Self:
        """Train mode, the default: keep a reference to the ids of each call for `backward`."""
        self.training = _checks.flag("mode", mode)
        if not mode:
            self._last_ids = None
        return self

    def eval(self) -> Self:
        """Evaluation mode: keep no ids of a call; `backward` then needs them as an argument."""
        return self.train(False)

    def _handle(self, *arguments: Any) -> CallHandle:
        """The handle of a call with these arguments, which train mode keeps as the last ones."""
        if self.training:
            self._last_ids = arguments
        return CallHandle(self.tables, arguments)

    def _call_arguments(self, call: CallHandle | None, ids: ArrayLike | None, *others: Any) -> tuple[Any, ...]:
        """The arguments of a call: of a handle, those given or, without both, those of the last."""
        if call is not None:
            if ids is not None:
                raise ValueError("ids and call exclude each other, got both")
            if not isinstance(call, CallHandle):
                raise TypeError(f"call must be what layer.call returns beside the result, got {_checks.shown(call)}")
            return call.arguments_for(self.tables)
        if ids is not None:
            if self._dropout and self.training:
                raise ValueError(
                    "ids do not say which dropout mask their call had: give call=, of layer.call, or neither for the last call; "
                    "ids alone are for calls without dropout, after eval()"
                )
            return ids, *others
        if self._last_ids is None:
            raise RuntimeError("backward needs ids: there was no call in train mode, and none were given")
        return self._last_ids


class Differentiable(Remembering, Trainable):
    """Named tables, a row-sparse gradient for each, and the ids of the last call."""

    by_rows = True
    _fast_path: bool  # whether C answers calls without Python: by these tables
    _held: Any
    _dropout_seed = 0

    def __init__(
        self, tables: dict[str, Array], trainable: bool = True, trainable_rows: Any = None, storage: Storage | None = None
    ) -> None:
        super().__init__(tables, trainable, trainable_rows, storage)
        self._counter = LookupCounter()
        self._held = kernels.hold(*self._fast_tables(self.tables))
        self._n_calls = 0  # in train mode so far
        self._last_ids = None
        self.training = True
        self.zero_grad()
        self._choose_path()

    @property
    def dtype(self) -> np.dtype[Any]:
        """The tables' dtype, in native byte order."""
        return _checks.native(self._first_table().dtype)

    @property
    def _arithmetic(self) -> np.dtype[Any]:
        """The dtype of gradients: float32 for tables of half precision."""
        return _checks.arithmetic_dtype(self.dtype)

    def _first_table(self) -> Array:
        return next(iter(self.tables.values()))

    # ---- calls ----

    def _fast_tables(self, tables: dict[str, Array]) -> tuple[Array, ...]:
        """The tables that calls read that go to C at once."""
        return ()

    def _changes_result(self) -> bool:
        """Whether options make the result differ from the rows looked up."""
        return False

    @property
    def _only_reads(self) -> bool:
        """Whether a look-up only reads rows."""
        return not (self._has_pending or self._counter.is_on or self._changes_result())

    def _choose_path(self) -> None:
        """Let C answer calls that only read rows; mapped tables need Python, for a prefetch."""
        self._fast_path = self._only_reads and not self.storage.is_mapped

    def _set_pending(self, has_pending: bool) -> None:
        super()._set_pending(has_pending)
        self._choose_path()

    def _set_dropout(self, dropout: float, seed: int) -> None:
        self._dropout = _checks.number("dropout", dropout, 0.0, math.nextafter(1.0, 0.0))
        self._dropout_seed = _checks.size("dropout_seed", seed)

    # ---- gradients ----

    def grads(self) -> dict[str, RowGrad]:
        """The accumulated gradient of each table by name; it has no rows before a backward."""
        return dict(self._grads)

    def dense_grads(self) -> dict[str, Array]:
        """The accumulated gradients as dense arrays of the tables' shapes."""
        return {name: grad.to_dense() for name, grad in self._grads.items()}

    def zero_grad(self) -> None:
        """Drop the accumulated gradients."""
        self._grads = {name: RowGrad.zeros(table.shape, self._arithmetic) for name, table in self.tables.items()}

    @property
    def has_grad(self) -> bool:
        return any(len(grad) for grad in self._grads.values())

    def batches(self) -> dict[str, list[Batch]]:
        return {name: [grad.checked(self.tables[name])] for name, grad in self._grads.items()}

    def gradient_arrays(self) -> list[Array]:
        return [grad.parts()[1] for grad in self._grads.values()]

    def add_scaled(self, commit: kernels.Commit, factor: float) -> None:
        for grad in self._grads.values():
            add_scaled(commit, grad, factor)

    @own_floats
    def _backward(self, rows_by_name: dict[str, Array], dout: ArrayLike, optimizer: Any, by_frequency: bool = False) -> None:
        """Add ``dout`` to the gradient of every table, or let an optimiser take a step with it.

        The mapping is emptied, to free rows once they are sorted: two tables take 36 bytes an id.
        """
        name = next(iter(rows_by_name))
        values = _checks.rows_for("dout", dout, (*rows_by_name[name].shape, self.tables[name].shape[1]), self.dtype)
        batches = {
            name: batch_of(rows_by_name.pop(name), len(self.tables[name]), values, by_frequency=by_frequency)
            for name in list(rows_by_name)
        }
        self._accumulate_or_step(batches, optimizer)

    def _accumulate_or_step(self, batches: dict[str, Batch], optimizer: Any, commit: kernels.Commit | None = None) -> None:
        """Add batches to the gradients, or let an optimiser step; an error changes nothing.

        What a commit has already is written together with that.
        """
        self._check_can_step(optimizer)
        commit = kernels.Commit() if commit is None else commit
        if optimizer is None:
            grads = self._grads | {name: self._grads[name].accumulate(batch) for name, batch in batches.items()}
            commit.set_attribute(self, "_grads", grads)
            commit.run()
        else:
            optimizer.train(self, batches, commit)

    def _check_can_step(self, optimizer: Any) -> None:
        """TypeError or RuntimeError if a backward cannot let this take a step; None accumulates."""
        if optimizer is None:
            return
        if not callable(getattr(optimizer, "train", None)):
            raise TypeError(f"optimizer must be one of fastembed.optim, got {type(optimizer).__name__}")
        if self.has_grad:
            raise RuntimeError("an accumulated gradient is pending: step() or zero_grad() comes before backward(optimizer=)")


def accumulate_or_step(
    given: Sequence[tuple[Differentiable, dict[str, Batch]]], optimizer: Any, commit: kernels.Commit | None = None
) -> None:
    """Add batches to the gradients of several layers, or let optimisers step; all or none.

    ``optimizer`` is one, a sequence of which one holds each layer, or None. What a commit has
    already is written together with that.
    """
    commit = kernels.Commit() if commit is None else commit
    if optimizer is None:
        for layer, batches in given:
            grads = {name: layer._grads[name].accumulate(batch) for name, batch in batches.items()}
            commit.set_attribute(layer, "_grads", layer._grads | grads)
        commit.run()
        return
    optimizers = list(optimizer) if isinstance(optimizer, Sequence) else [optimizer]
    for one in optimizers or [None]:
        if not callable(getattr(one, "train_together", None)):
            found = type(one).__name__ if optimizers else f"an empty one, {_checks.shown(optimizer)}"
            raise TypeError(f"optimizer must be one of fastembed.optim, or a sequence of them, got {found}")
    for layer, _ in given:
        layer._check_can_step(optimizers[0])
    optimizers[0].train_together(given, optimizers[1:], commit)
