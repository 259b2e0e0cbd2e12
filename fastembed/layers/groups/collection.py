"""EmbeddingCollection: bags of many features in many tables, in one call.

V: rows of a table; D: its columns; F: features; B: samples; N: ids of all features.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import _checks
from ..._kernels.backend import kernels
from ..._kernels.floats import own_floats
from ..._messages import counted
from ...functional import bags as bag_ops
from ...functional.batch import Batch
from ...functional.features import FeatureBatch, Features
from ...tables.init import normal
from ..differentiable import CallHandle, accumulate_or_step
from ..quantized import QuantizedEmbedding
from .saving import SavingGroup
from .table_group import GroupedBag, Prepared, Version, described, dtype_of

if TYPE_CHECKING:
    from ..._typing import Array, ArrayLike, DTypeLike, Rng

_MODES = ("sum", "mean", "sqrtn")
_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


class EmbeddingCollection(SavingGroup):
    """Many tables and features: for each sample the bags of all features, side by side.

    Parameters
    ----------
    tables : mapping of name to table
        A table is its shape (V, D), for normal random numbers; or an array of that shape, which is
        not copied; or a `QuantizedEmbedding`, which cannot be trained.
    features : mapping of feature to table name, optional
        In the order of their columns in the result; several may share a table. By default each
        table has one feature of its name.
    mode : {"sum", "mean", "sqrtn"}
        As in `fastembed.embedding_bag`.
    bounds : {"raise", "wrap", "clip", "zero"}
        As in `fastembed.gather`; under "zero" an id outside its table is skipped and not counted.
    dtype : dtype, or mapping of table name to dtype
        Of new tables.
    std : float
        The standard deviation of new tables.
    rng : numpy.random.Generator or int, optional

    Attributes
    ----------
    tables : mapping of name to EmbeddingBag or QuantizedEmbedding
        The table layers. Iterating over the collection gives those that can be trained, so that an
        optimiser takes the collection itself, or groups of its tables.
    per_sample_weights_grad : ndarray of shape (N,), or None
        The gradient of the ``per_sample_weights`` of the last backward, if it had any.

    Raises
    ------
    KeyError, TypeError, ValueError
        A feature has no such table, or another argument is invalid.

    Notes
    -----
    As torchrec.EmbeddingBagCollection. All ids are checked before anything is written.

    Examples
    --------
    >>> import fastembed as fe
    >>> tables = {"user": [[1.0, 2.0], [3.0, 4.0]], "item": [[5.0], [6.0], [7.0]]}
    >>> layer = fe.EmbeddingCollection(tables, {"id": "user", "clicked": "item", "bought": "item"})
    >>> layer([0, 1, 0, 1, 2, 2, 0], lengths=[1, 1, 2, 1, 1, 1])
    array([[ 1.,  2., 11.,  7.],
           [ 3.,  4.,  7.,  5.]])
    >>> layer({"id": [0, 1], "clicked": ([0, 1, 2], [0, 2, 3]), "bought": [[2], [0]]})
    array([[ 1.,  2., 11.,  7.],
           [ 3.,  4.,  7.,  5.]])
    """

    per_sample_weights_grad: Array | None

    def __init__(
        self,
        tables: Mapping[str, Any],
        features: Mapping[str, str] | None = None,
        *,
        mode: str = "sum",
        bounds: str = "raise",
        dtype: DTypeLike | Mapping[str, Any] = "float32",
        std: float = 1.0,
        rng: Rng = None,
    ) -> None:
        self._mode, self._bounds = str(_checks.one_of("mode", mode, _MODES)), _checks.bounds(bounds)
        for what, given in (("tables", tables), ("features", tables if features is None else features)):
            if not isinstance(given, Mapping) or not given or not all(isinstance(name, str) for name in given):
                raise TypeError(f"{what} must be a mapping with at least one name, got {_checks.shown(given)}")
        self._features = {name: name for name in tables} if features is None else dict(features)
        for feature, table in self._features.items():
            if not isinstance(table, str) or table not in tables:
                shown = _checks.shown(feature, str)
                raise KeyError(f"feature {shown} must be of one of {_checks.listed(tables)}, got {_checks.shown(table)}")
        if isinstance(dtype, Mapping) and (unknown := set(dtype) - set(tables)):
            raise KeyError(f"dtype must be of tables of {_checks.listed(tables)}, got {_checks.listed(unknown)}")
        generator = _checks.generator(rng)
        self._version = Version()
        self.tables = MappingProxyType(
            {name: self._made(name, table, _of_table(dtype, name), std, generator) for name, table in tables.items()}
        )
        self._places: dict[str, list[int]] = {}  # of the features of each table that has any
        for k, table in enumerate(self._features.values()):
            self._places.setdefault(table, []).append(k)
        self.per_sample_weights_grad = None
        self._last_ids, self.training = None, True
        self._columns, self._width = self._layout()
        self._dtype = self._result_dtype()
        self._prepared: Prepared | None = None

    def _made(self, name: str, given: Any, dtype: DTypeLike, std: float, rng: np.random.Generator) -> Any:
        """The layer of a table that is given as a shape, an array or a packed layer."""
        if isinstance(given, QuantizedEmbedding):
            return given
        if isinstance(given, GroupedBag):  # of a file
            given._version = self._version
            return given
        shown = _checks.shown(name, str)
        if isinstance(given, tuple) and len(given) == 2 and not any(np.ndim(length) for length in given):
            shape = _checks.size(f"{shown}[0]", given[0]), _checks.size(f"{shown}[1]", given[1])
            given = normal(shape, std, rng, _checks.dtype(dtype))
        layer = GroupedBag.from_pretrained(_checks.table(shown, given), mode=self._mode, bounds=self._bounds)
        layer._version = self._version
        return layer

    def _layout(self) -> tuple[dict[str, slice], int]:
        """Where the columns of each feature are in a row of the result, and how many there are."""
        columns, end = {}, 0
        for feature, table in self._features.items():
            begin, end = end, end + self.tables[table].embedding_dim
            columns[feature] = slice(begin, end)
        return columns, end

    def _result_dtype(self) -> np.dtype[Any]:
        """That of all tables, packed ones being float32; else float64 if one is, or float32."""
        dtypes = {dtype_of(self.tables[table]) for table in self._features.values()}
        return dtypes.pop() if len(dtypes) == 1 else _FLOAT64 if _FLOAT64 in dtypes else _FLOAT32

    # ---- what is prepared for calls ----

    def _prepare(self) -> Prepared:
        """What calls need to know of the tables as they are now."""
        prepared, number = self._prepared, self._version.number
        if prepared is not None and prepared.number is number:
            return prepared
        layers = [self.tables[table] for table in self._features.values()]
        arithmetic = _checks.arithmetic_dtype(self._dtype)
        features = Features(tuple(self._features), tuple(layer.num_embeddings for layer in layers), self._bounds, arithmetic)
        in_place = all(
            isinstance(layer, QuantizedEmbedding) or _checks.is_readable_in_place(layer.tables["weight"], self._dtype)
            for layer in layers
        )
        is_one = self._dtype == arithmetic and all(dtype_of(layer) == self._dtype for layer in layers)
        kernel = kernels.Features([described(layer) for layer in layers]) if in_place and is_one else None
        only_reads = all(layer._only_reads for layer in self)
        prepared = self._prepared = Prepared(number, features, kernel, only_reads)
        return prepared

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "tables": dict(self.tables), "_prepared": None, "_last_ids": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state | {"tables": MappingProxyType(state["tables"])}

    # ---- calls ----

    def __call__(
        self,
        values: Any,
        offsets: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        per_sample_weights: Any = None,
        *,
        out: Array | None = None,
    ) -> Array:
        """The bags of all features, side by side in a row for each sample.

        Parameters
        ----------
        values : array_like of integers, shape (N,); mapping; or KeyedJaggedTensor
            The ids of one feature after the other, and within one those of one sample after the
            other, with ``offsets`` or ``lengths``. Or a mapping of each feature to its ids: an
            array of shape (B,) or (B, n), or a pair of ids of one axis and offsets of shape
            (B + 1,). Or TorchRec's KeyedJaggedTensor, or another object with its methods; keys
            that are no features are ignored.
        offsets : array_like of integers, shape (F B + 1,), optional
            Where each bag begins in ``values``, and where the last one ends.
        lengths : array_like of integers, shape (F B,) or (F, B), optional
            How many ids each bag has.
        per_sample_weights : array_like of shape (N,), or mapping of feature to such, optional
            A factor for the row of each id; those of a KeyedJaggedTensor are its own.
        out : ndarray of shape (B, sum of D), optional

        Returns
        -------
        ndarray of shape (B, sum of D)
            In the dtype of the tables; if they differ, float64 if one is that, else float32.

        Raises
        ------
        IndexError
            An id is out of range: the feature is named, and the position among its ids. Nothing is
            written.
        KeyError, TypeError, ValueError
            An argument is invalid. Nothing is written.
        """
        return self.call(values, offsets, lengths, per_sample_weights, out=out)[0]

    def call(
        self,
        values: Any,
        offsets: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        per_sample_weights: Any = None,
        *,
        out: Array | None = None,
    ) -> tuple[Array, CallHandle]:
        """What a call returns, and a handle of this call. See `Embedding.call`."""
        prepared = self._prepare()
        batch = prepared.features.batch(values, offsets, lengths, per_sample_weights)
        shape = batch.n_samples, self._width
        is_apart = out is None or (prepared.kernel is not None and prepared.kernel.is_apart(out))
        tables = {} if is_apart else self._arrays()
        result = _checks.output(out, shape, self._dtype, values=batch.ids, **tables, per_sample_weights=batch.weights)
        arguments = batch.ids, batch.offsets, self._mode, batch.weights, result, batch.bounds
        if not (prepared.only_reads and prepared.kernel is not None and kernels.embedding_bags(prepared.kernel, *arguments)):
            self._look_up_rows(prepared.features.resolved(batch), result)
        return result if out is None else out, self._handle(batch)

    @own_floats
    def _look_up_rows(self, batch: FeatureBatch, result: Array) -> None:
        """Look up rows that are resolved; they are brought up to date first, and counted."""
        rows = {name: {"weight": batch.bags(places, self._mode).ids} for name, places in self._places.items()}
        trained = {name: layer for name, layer in self._trained().items() if name in rows}
        with contextlib.ExitStack() as held:
            for name, layer in trained.items():
                held.enter_context(layer.up_to_date(rows[name]))
            kernel = self._prepare().kernel
            if kernel is None:
                self._look_up_each(batch, result)
            else:
                kernels.embedding_bags(kernel, batch.ids, batch.offsets, self._mode, batch.weights, result, "zero")
            for name, layer in trained.items():
                layer._counter.add(rows[name])

    def _look_up_each(self, batch: FeatureBatch, result: Array) -> None:
        """Look up one feature after the other, in tables of any dtype and layout."""
        for k, (feature, table) in enumerate(self._features.items()):
            array, n_cols, packing = described(self.tables[table])
            dtype = dtype_of(self.tables[table])
            bags = batch.bags([k], self._mode)
            part = np.empty((len(result), n_cols), dtype)
            bag_ops.look_up(array, bags.with_weights(_checks.arithmetic_dtype(dtype)), part, packing)
            result[:, self._columns[feature]] = part

    # ---- gradients ----

    @own_floats
    def backward(
        self,
        dout: Any,
        values: Any = None,
        offsets: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        per_sample_weights: Any = None,
        *,
        call: CallHandle | None = None,
        optimizer: Any = None,
    ) -> None:
        """Accumulate the gradients of a call in all tables, or take a step of all of them.

        Parameters
        ----------
        dout : array_like of shape (B, sum of D), or mapping of feature to array_like (B, D)
            The gradient of the result of the call.
        values, offsets, lengths, per_sample_weights
            The arguments of that call; by default those of the last call in train mode.
        call : CallHandle, optional
            The handle of that call, from `call`, instead of its arguments.
        optimizer : optimiser, or sequence of them, optional
            Takes a step of each table that has a feature, with the gradients, which are not
            accumulated; of several, the one that holds the table. All tables take it, or none.

        Raises
        ------
        IndexError, KeyError, TypeError, ValueError
            An argument is invalid, or a table is packed. Nothing is changed.
        RuntimeError
            With an optimiser: an accumulated gradient is pending.

        Notes
        -----
        The gradients of a row are summed feature by feature, and within one in the order of the
        ids.
        """
        if values is None and not all(given is None for given in (offsets, lengths, per_sample_weights)):
            raise ValueError("offsets, lengths and per_sample_weights require values, and none were given")
        features = self._prepare().features
        given: Any = None if values is None else features.batch(values, offsets, lengths, per_sample_weights)
        (batch,) = self._call_arguments(call, given)
        batch = features.resolved(batch)
        gradients = self._checked_dout(dout, batch.n_samples)
        packed = [name for name in self._places if name not in self._trained()]
        if packed:
            raise TypeError(f"only tables of floats have a gradient, and these are packed: {_checks.listed(packed)}")
        with self._locked():
            found = {name: self._gradient_of(name, batch, gradients) for name in self._places}
            of_weights = {tuple(self._places[name]): grad for name, (_, grad) in found.items() if grad is not None}
            weights_grad = batch.in_order(of_weights, gradients.dtype) if of_weights else None
            commit = kernels.Commit()
            commit.set_attribute(self, "per_sample_weights_grad", weights_grad)
            layers = self._trained()
            accumulate_or_step([(layers[name], {"weight": rows}) for name, (rows, _) in found.items()], optimizer, commit)

    def _checked_dout(self, dout: Any, n_rows: int) -> Array:
        """The gradient of the result, of which parts can be given by feature."""
        dtype = _checks.arithmetic_dtype(self._dtype)
        if not isinstance(dout, Mapping):
            return _checks.rows("dout", dout, (n_rows, self._width), dtype)
        if set(dout) != set(self._features):
            raise KeyError(f"dout must have the features {_checks.listed(self._features)}, got {_checks.listed(dout)}")
        parts = [
            _checks.rows(f"dout of {_checks.shown(name, str)}", dout[name], (n_rows, columns.stop - columns.start), dtype)
            for name, columns in self._columns.items()
        ]
        return np.concatenate(parts, axis=1)

    def _gradient_of(self, table: str, batch: FeatureBatch, dout: Array) -> tuple[Batch, Array | None]:
        """The gradient of the rows of a table, and of the weights of its features' ids."""
        layer, names = self._trained()[table], list(self._features)
        dtype = _checks.arithmetic_dtype(dtype_of(layer))
        parts = [dout[:, self._columns[names[k]]] for k in self._places[table]]
        gradients = _checks.rounded(parts[0] if len(parts) == 1 else np.concatenate(parts), dtype)
        bags = batch.bags(self._places[table], self._mode).with_weights(dtype)
        rows = bag_ops.rows_of(bags, layer.num_embeddings)
        of_weights = None
        if bags.weights is not None:
            with layer.up_to_date({"weight": rows}):
                of_weights = bag_ops.weights_backward(gradients, layer.tables["weight"], bags, rows)
        return bag_ops.batch_backward(gradients, bags, rows, layer.num_embeddings, False), of_weights

    # ---- features ----

    @property
    def features(self) -> dict[str, str]:
        """The table of each feature, in the order of the columns of the result."""
        return dict(self._features)

    @property
    def mode(self) -> str:
        """How the rows of a bag are reduced."""
        return self._mode

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of results."""
        return self._dtype

    def split(self, result: Array) -> dict[str, Array]:
        """The columns of each feature in a result, shape (B, D), not copied.

        Examples
        --------
        >>> import fastembed as fe
        >>> layer = fe.EmbeddingCollection({"a": [[1.0, 2.0]], "b": [[3.0]]})
        >>> layer.split(layer([0, 0], lengths=[1, 1]))
        {'a': array([[1., 2.]]), 'b': array([[3.]])}
        """
        array = _checks.as_array("result", result)
        if array.ndim != 2 or array.shape[1] != self._width:
            raise ValueError(f"result must have shape (samples, {self._width}), got {array.shape}")
        return {name: array[:, columns] for name, columns in self._columns.items()}

    def __repr__(self) -> str:
        of_tables = f"{counted(len(self.tables), 'table')}, {counted(len(self._features), 'feature')}"
        return f"EmbeddingCollection({of_tables}, {counted(self._width, 'column')}, mode={self._mode}, dtype={self._dtype})"


def _of_table(dtype: Any, name: str) -> Any:
    """The dtype of a new table: one for all, or by name with float32 for those left out."""
    return dtype.get(name, "float32") if isinstance(dtype, Mapping) else dtype
