"""TableGroup: the table layers of a collection by name, with one state and gradients of all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ... import _checks
from ..._kernels.backend import kernels
from ..._kernels.floats import own_floats
from ...functional.features import Features
from ...functional.row_grad import RowGrad
from ...functional.statistics import LOOKUPS
from ...tables.attribute import Declared
from ...tables.state_names import IncompatibleKeys, match_names
from ..bag import EmbeddingBag
from ..differentiable import Remembering
from ..quantized import QuantizedEmbedding

if TYPE_CHECKING:
    from ..._kernels.packing import Packing
    from ..._typing import Array, ArrayLike


class Version:
    """Whether what a group has prepared for its calls is still true: its number, compared."""

    def __init__(self) -> None:
        self.change()

    def change(self) -> None:
        """Let the tables have changed."""
        self.number = object()

    def __reduce__(self) -> tuple[Any, ...]:
        return Version, ()


class GroupedBag(EmbeddingBag):
    """A table of a group: a bag layer that says when something changes what a call does."""

    _version: Version | None = None

    def _choose_path(self) -> None:
        super()._choose_path()
        if self._version is not None:
            self._version.change()

    def _add_tables(self, commit: kernels.Commit, tables: dict[str, Array]) -> None:
        super()._add_tables(commit, tables)
        self._add_change(commit)

    def _add_counts(self, commit: kernels.Commit, counts: dict[str, Array]) -> None:
        super()._add_counts(commit, counts)
        self._add_change(commit)

    def _add_change(self, commit: kernels.Commit) -> None:
        if self._version is not None:
            commit.set_attribute(self._version, "number", object())


class Prepared(NamedTuple):
    """What calls of a collection need to know of its tables, made once for many calls.

    Attributes
    ----------
    number : object
        That of the version that this was made for.
    features : Features
    kernel : kernels.Features, or None
        The tables as C reads them, if it can read all of them in place with results of one dtype.
    only_reads : bool
        Whether a call only reads rows.
    """

    number: object
    features: Features
    kernel: kernels.Features | None
    only_reads: bool


class TableGroup(Remembering, Declared):
    """Named table layers. Iterating gives those of floats, which an optimiser can train."""

    tables: Mapping[str, GroupedBag | QuantizedEmbedding]  # which nobody can change

    def _trained(self) -> dict[str, GroupedBag]:
        """The tables of floats by name, in the order in which their locks are acquired."""
        found = {name: layer for name, layer in self.tables.items() if isinstance(layer, GroupedBag)}
        return dict(sorted(found.items(), key=lambda named: id(named[1])))

    def __iter__(self) -> Iterator[GroupedBag]:
        return (layer for layer in self.tables.values() if isinstance(layer, GroupedBag))

    def _arrays(self) -> dict[str, Array]:
        """The arrays of all tables by their names in the state."""
        return {
            f"{name}.packed" if isinstance(layer, QuantizedEmbedding) else f"{name}.weight": (
                layer.packed if isinstance(layer, QuantizedEmbedding) else layer.tables["weight"]
            )
            for name, layer in self.tables.items()
        }

    def _repr_html_(self) -> str:
        from ..._interactive import html  # notebooks alone need it

        return html.tables_of(repr(self), self._arrays())

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """A context in which no other thread changes tables of floats."""
        with contextlib.ExitStack() as held:
            for layer in self._trained().values():
                held.enter_context(layer.lock)
            yield

    def _apply_pending(self) -> None:
        for layer in self:
            layer.apply_pending()

    def parameters(self) -> list[Array]:
        """The arrays of all tables, in the order of `state_dict`, up to date."""
        self._apply_pending()
        return list(self._arrays().values())

    def state_dict(self, *, lookups: bool = False) -> dict[str, Array]:
        """The arrays of all tables, up to date and not copied: ``user.weight`` of the table user.

        Packed tables are ``user.packed``. ``lookups`` adds the counts of ``count_lookups`` of a
        table, as ``user.weight.lookups``.
        """
        self._apply_pending()
        state = self._arrays()
        if _checks.flag("lookups", lookups):
            for name, layer in self.tables.items():
                if isinstance(layer, GroupedBag):
                    state |= {f"{name}.weight{LOOKUPS}": counts for counts in layer._counter.counts.values()}
        return state

    @own_floats
    def load_state_dict(self, state: Mapping[str, ArrayLike], strict: bool = True) -> IncompatibleKeys:
        """Copy arrays into those of all tables: into all, or on an error into none.

        Names are as in `state_dict`, or those of TorchRec, ``embedding_bags.user.weight``. The rest
        is as for `Embedding.load_state_dict`.
        """
        arrays = self._arrays()
        aliases = {f"embedding_bags.{name}": name for name in arrays}
        known, counted, _, left_out = match_names(state, arrays, aliases, _checks.flag("strict", strict))
        pairs = []
        for key, value in known.items():
            name, kind = key.rsplit(".", 1)
            layer, prefix = self.tables[name], f"{_checks.shown(name, str)}."
            if isinstance(layer, QuantizedEmbedding):
                packed = _writable_packed(prefix + kind, layer.packed)
                pairs.append((packed, _packed_of(prefix + kind, value, packed)))
            else:
                pairs += layer._to_load({kind: value}, prefix)
        shown = _checks.shown
        counts = {key: _checks.counts(shown(key, str) + LOOKUPS, value, len(arrays[key])) for key, value in counted.items()}
        with self._locked():
            self._apply_pending()
            commit = kernels.Commit()
            for target, source in _checks.sources_for(pairs):
                commit.add_copy(target, source)
            for name, layer in self._trained().items():
                layer._add_loaded(commit, {"weight": counts[f"{name}.weight"]} if f"{name}.weight" in counts else {})
            commit.run()
            for layer in self:
                layer._choose_path()
                layer.storage.end_write()
        return left_out

    # ---- gradients ----

    def grads(self) -> dict[str, RowGrad]:
        """The accumulated gradient of each table of floats: ``user.weight`` of the table user."""
        return {f"{name}.weight": layer.grads()["weight"] for name, layer in self.tables.items() if isinstance(layer, GroupedBag)}

    def dense_grads(self) -> dict[str, Array]:
        """The accumulated gradients as dense arrays of the tables' shapes."""
        return {name: grad.to_dense() for name, grad in self.grads().items()}

    def zero_grad(self) -> None:
        """Drop the accumulated gradients."""
        for layer in self:
            layer.zero_grad()

    @property
    def has_grad(self) -> bool:
        """Whether there is an accumulated gradient, of any row of any table."""
        return any(layer.has_grad for layer in self)

    def flush(self) -> None:
        """Apply the pending updates of all rows of all tables."""
        for layer in self:
            layer.flush()


def _writable_packed(name: str, packed: Array) -> Array:
    """A packed table that is written in place."""
    if not packed.flags.writeable:
        raise ValueError(f"{name} is read-only")
    return packed


def _packed_of(name: str, value: Any, like: Array) -> Array:
    """Packed rows of the shape of a table."""
    array = _checks.packed_table(name, value, like.shape[1])
    if array.shape != like.shape:
        raise ValueError(f"{name} must have shape {like.shape}, got {array.shape}")
    return array


def dtype_of(layer: GroupedBag | QuantizedEmbedding) -> np.dtype[Any]:
    """The dtype of the rows of a table when they are looked up."""
    return np.dtype(np.float32) if isinstance(layer, QuantizedEmbedding) else layer.dtype


def described(layer: GroupedBag | QuantizedEmbedding) -> tuple[Array, int, Packing | None]:
    """The array of a table, its columns, and its packing if it has one."""
    if isinstance(layer, QuantizedEmbedding):
        return layer.packed, layer.embedding_dim, layer._packing
    return layer.tables["weight"], layer.embedding_dim, None
