"""Sharded: a table whose rows are those of several ranks; and the rows that a rank has of it.

V: rows of the whole table; D: columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .. import _checks
from .._kernels.floats import own_floats
from ..functional.lookup import gather
from ..functional.max_norm import rescaled_rows
from ..layers.differentiable import Differentiable
from ..tables.attribute import TableAttribute
from ..tables.storage import empty_table
from .exchange import Outgoing, fetch, push
from .partition import Partition, partition
from .ranks.group import Group
from .storage import ShardStorage

if TYPE_CHECKING:
    from .._typing import Array, ArrayLike, DTypeLike

_BLOCK = 4096  # rows that are drawn or copied at one time


class Sharded(Differentiable):
    """One table, ``weight``, with a rank's own rows and its options; the base of sharded layers.

    To optimisers it is a layer with the rows of this rank: gradients and state are where the rows
    are. What all ranks call together is said in `fastembed.distributed`.

    Attributes
    ----------
    group : Group
    partition : Partition
    rows : ndarray of int64
        The numbers of this rank's rows in the whole table, ascending.
    changed : ndarray of bool
        Which of these rows have changed since they were last saved.
    """

    group: Group
    partition: Partition
    rows: Array
    changed: Array

    def _set_up(
        self,
        group: Group,
        weight: Array,
        freeze: bool,
        trainable_rows: Any,
        *,
        of: Partition,
        exact: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        bounds: str = "raise",
    ) -> None:
        """Initialise the layer around this rank's rows; every constructor ends here."""
        self.group, self.partition, n_rows = group, of, of.n_rows
        self.rows = of.owned(group.rank)
        self.rows.flags.writeable = False
        self._exact = _checks.flag("exact", exact)
        self._padding_idx = _checks.padding_idx(padding_idx, n_rows)
        self._max_norm = None if max_norm is None else _checks.number("max_norm", max_norm, 0.0, math.inf)
        self._norm_type = _checks.number("norm_type", norm_type, 5e-324, math.inf)
        self._scale_grad_by_freq = _checks.flag("scale_grad_by_freq", scale_grad_by_freq)
        self._bounds = _checks.bounds(bounds)
        if self._scale_grad_by_freq and not self._exact:
            raise ValueError("scale_grad_by_freq requires exact=True: sums of one rank do not say how often a row occurs")
        own = None if trainable_rows is None else _checks.row_mask("trainable_rows", trainable_rows, n_rows)[self.rows]
        storage = ShardStorage(len(weight))
        self.changed = storage.changed  # the same array
        super().__init__({"weight": weight}, not _checks.flag("freeze", freeze), own, storage)

    @own_floats
    def _init_rows(
        self,
        group: Group,
        shape: tuple[int, int],
        kind: str,
        dtype: np.dtype[Any],
        rows_of: Callable[[Array], Array],
        freeze: bool,
        trainable_rows: Any,
        **options: Any,
    ) -> None:
        """Initialise the layer with rows of a function of their numbers in the whole table."""
        of = partition(kind, shape[0], group.size)
        owned = of.owned(group.rank)
        weight = empty_table((len(owned), shape[1]), dtype)
        for first in range(0, len(owned), _BLOCK):
            ids = owned[first : first + _BLOCK]
            weight[first : first + len(ids)] = _checks.rounded(np.asarray(rows_of(ids)), dtype)
        self._set_up(group, weight, freeze, trainable_rows, of=of, **options)

    @own_floats
    def _init_random(
        self,
        group: Group,
        num_embeddings: int,
        embedding_dim: int,
        kind: str,
        dtype: DTypeLike,
        std: float,
        seed: int | None,
        trainable_rows: Any,
        **options: Any,
    ) -> None:
        """Initialise the layer with normal random numbers, which depend on the seed and the row."""
        n_rows, n_cols = _checks.size("num_embeddings", num_embeddings), _checks.size("embedding_dim", embedding_dim)
        draw = _RandomRows(n_cols, _checks.number("std", std, 0.0, 3.4e38), common_seed(group, seed))
        padding = _checks.padding_idx(options.get("padding_idx"), n_rows)
        self._init_rows(group, (n_rows, n_cols), kind, _checks.dtype(dtype), draw, False, trainable_rows, **options)
        if padding is not None:
            self.tables["weight"][self.rows == padding] = 0

    @classmethod
    def from_pretrained(
        cls,
        group: Group,
        array: ArrayLike,
        freeze: bool = False,
        *,
        partition: str = "ranges",
        trainable_rows: Any = None,
        **options: Any,
    ) -> Self:
        """A layer with copies of the rows that this rank owns.

        Parameters
        ----------
        group : Group
        array : array_like of shape (V, D), of any float dtype
            The whole table, the same in all ranks; a mapped array is read where rows are needed.
        freeze : bool
            Whether optimisers leave the table unchanged.
        partition, trainable_rows, **options
            As in the constructor, except ``dtype``, ``std`` and ``rng``.
        """
        table = _checks.table("array", array)
        layer = cls.__new__(cls)
        native = table.dtype.newbyteorder("=")
        layer._init_rows(group, table.shape, partition, native, table.__getitem__, freeze, trainable_rows, **options)
        return layer

    # ---- the table ----

    weight = TableAttribute("The rows of this rank, shape (len(rows), D), up to date; writable.")

    @property
    def num_embeddings(self) -> int:
        """V, the number of rows of the whole table."""
        return self.partition.n_rows

    @property
    def embedding_dim(self) -> int:
        """D, the length of a row."""
        return self.tables["weight"].shape[1]

    @property
    def exact(self) -> bool:
        """Whether gradients are added in the order of one process."""
        return self._exact

    def to_array(self) -> Array:
        """The whole table, shape (V, D), in each rank. All ranks call it together."""
        counts = np.array([self.partition.n_owned(rank) for rank in range(self.group.size)])
        gathered = self.group.allgatherv(f"{self!r}.to_array", np.ascontiguousarray(self.weight), counts)
        result = np.empty_like(gathered)
        result[np.concatenate([self.partition.owned(rank) for rank in range(self.group.size)])] = gathered
        return result

    def read_owned(self, rows: Array, is_call: bool) -> Array:
        """Copies of some of this rank's rows, by their numbers here; of a call after `max_norm`."""
        weight = self.tables["weight"]
        with self.up_to_date({"weight": rows}):
            if is_call and self._max_norm is not None:
                above, values = rescaled_rows(weight, rows, self._max_norm, self._norm_type)
                self.storage.begin_write(above)
                weight[above] = _checks.rounded(values, weight.dtype)
            return gather(weight, rows)

    # ---- steps ----

    def _step(self, what: str) -> str:
        """The name of a step, in which ranks must agree."""
        return f"{what} of {self!r}"

    def _fetch(self, rows: Array, *, is_call: bool = True) -> tuple[Array, Array]:
        """The distinct rows among these, and which of them each is."""
        ((found, index),) = fetch(self.group, self._step("look-up"), [(self, rows)], is_call=is_call)
        return found, index

    @own_floats
    def _check_dout(self, dout: ArrayLike, shape: tuple[int, ...], optimizer: Any) -> Array:
        """The gradient of a result, checked like all that may fail before a backward."""
        self._check_can_step(optimizer)
        return _checks.rows("dout", dout, shape, self._arithmetic)

    def _push(self, rows: Array, gradients: Array, sources: Array | None, factors: Array | None, optimizer: Any) -> None:
        """Send the gradients of rows (-1 for none) to their owners; accumulate them, or step."""
        step = self._step("backward")
        (batch,) = push(self.group, step, [self.outgoing(rows, gradients, sources, factors)])
        with self.group.applying(step):
            self._accumulate_or_step({"weight": batch}, optimizer)

    @own_floats
    def outgoing(
        self, rows: Array, gradients: Array, sources: Array | None = None, factors: Array | None = None
    ) -> tuple[Partition, Outgoing, bool]:
        """What `push` takes of this layer, for gradients of rows (-1 for none)."""
        n_gradients = rows.size if sources is None else len(gradients)
        by_row = np.ascontiguousarray(gradients.reshape(n_gradients, self.embedding_dim))
        given = Outgoing(rows.reshape(-1), by_row, sources, factors)
        return self.partition, given.present() if self._exact else given.summed(self.num_embeddings), self._scale_grad_by_freq

    def _options_repr(self) -> str:
        shown = {
            "padding_idx": (self._padding_idx, None),
            "max_norm": (self._max_norm, None),
            "norm_type": (self._norm_type, 2.0),
            "scale_grad_by_freq": (self._scale_grad_by_freq, False),
            "bounds": (self._bounds, "raise"),
        }
        options = "".join(f", {name}={value}" for name, (value, default) in shown.items() if value != default)
        return f"dtype={self.dtype}, partition={self.partition.kind}, exact={self._exact}{options}"

    def __reduce__(self) -> Any:
        raise TypeError(f"{self!r} cannot be copied or pickled: Checkpoints saves its rows")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.num_embeddings}, {self.embedding_dim}, {self._options_repr()})"


class _RandomRows:
    """Rows of normal random numbers, in float64, by their numbers in a table.

    The blocks of the table have seeds of their own, so that a rank draws only those it needs.
    """

    def __init__(self, n_cols: int, std: float, seed: int) -> None:
        self._n_cols, self._std, self._seed = n_cols, std, seed

    def __call__(self, ids: Array) -> Array:
        result = np.empty((len(ids), self._n_cols))
        blocks, offsets = np.divmod(ids, _BLOCK)
        for block in np.unique(blocks).tolist():
            rows = np.random.default_rng([self._seed, block]).normal(0.0, self._std, (_BLOCK, self._n_cols))
            result[blocks == block] = rows[offsets[blocks == block]]
        return result


def common_seed(group: Group, seed: int | None) -> int:
    """A seed that all ranks have: theirs, or without one a number that rank 0 has drawn."""
    drawn = np.random.default_rng().integers(2**63) if seed is None else _checks.size("rng", seed)
    seeds = group.allgather("seed of a new table", np.array([drawn], np.int64))[:, 0]
    if seed is not None and (seeds != drawn).any():
        raise ValueError(f"rng must be the same seed in all ranks, got {_checks.shown(seeds.tolist())}")
    return int(seeds[0])
