"""Batches of many features: what a call of many tables is given, as one array of ids.

F: features; B: samples, that is bags of each feature; N: ids of all bags.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import _checks
from .bags import Bags
from .lookup import resolve_ids

if TYPE_CHECKING:
    from .._typing import Array


class FeatureBatch(NamedTuple):
    """The checked ids of all features, one feature after the other.

    Attributes
    ----------
    ids : ndarray of integers, shape (N,)
        Rows (int64, -1 for none) if ``bounds`` is "zero" and they came by feature.
    offsets : ndarray of int64, shape (F B + 1,)
        Where each bag begins, and where the last one ends.
    weights : ndarray of shape (N,), or None
    bounds : str
    """

    ids: Array
    offsets: Array
    weights: Array | None
    bounds: str
    n_features: int

    @property
    def n_samples(self) -> int:
        """B."""
        return (len(self.offsets) - 1) // self.n_features

    def items(self, k: int) -> slice:
        """Where the ids of feature k are."""
        return slice(int(self.offsets[k * self.n_samples]), int(self.offsets[(k + 1) * self.n_samples]))

    def bags(self, places: Sequence[int], mode: str) -> Bags:
        """The bags of some features, those of one after those of the other."""
        parts, starts, n_ids = [self.items(k) for k in places], [np.zeros(1, np.int64)], 0
        for k, items in zip(places, parts, strict=True):
            ends = self.offsets[k * self.n_samples + 1 : (k + 1) * self.n_samples + 1]
            starts.append(ends + (n_ids - items.start))
            n_ids += items.stop - items.start
        weights = None if self.weights is None else _joined([self.weights[items] for items in parts])
        return Bags(_joined([self.ids[items] for items in parts]), np.concatenate(starts), mode, weights, None, self.bounds)

    def in_order(self, numbers: Mapping[tuple[int, ...], Array], dtype: np.dtype[Any]) -> Array:
        """Numbers for the ids of all features in their order, from those of `bags` by places."""
        result = np.empty(len(self.ids), dtype)
        for places, given in numbers.items():
            begin = 0
            for items in map(self.items, places):
                end = begin + items.stop - items.start
                result[items], begin = given[begin:end], end
        return result


class Features(NamedTuple):
    """The features of a collection: their names, and the rows of the table of each."""

    names: tuple[str, ...]
    n_rows: tuple[int, ...]
    bounds: str
    dtype: np.dtype[Any]  # of the weights

    def batch(self, values: Any, offsets: Any, lengths: Any, weights: Any) -> FeatureBatch:
        """The batch that a call is given, in any of its forms."""
        is_jagged = all(callable(getattr(values, name, None)) for name in ("keys", "values", "lengths", "offsets"))
        if is_jagged or isinstance(values, Mapping):
            for name, given in (("offsets", offsets), ("lengths", lengths)):
                if given is not None:
                    raise ValueError(f"{name} go with values of one array, and these are by feature")
            if not is_jagged:
                return self._by_feature(values, weights)
            if weights is not None:
                raise ValueError("per_sample_weights of a KeyedJaggedTensor are its own, got others")
            return self._of_jagged(values)
        return self._of_array(values, offsets, lengths, weights)

    def _of_array(self, values: Any, offsets: Any, lengths: Any, weights: Any) -> FeatureBatch:
        """From the ids of all features in one array, and offsets or lengths."""
        ids = _checks.integers("value", values)
        if ids.ndim != 1:
            raise ValueError(f"values must have 1 axis, got shape {ids.shape}")
        if (offsets is None) == (lengths is None):
            raise ValueError(
                f"either offsets or lengths must be given with values, got {'neither' if offsets is None else 'both'}"
            )
        n_features = len(self.names)
        ends = _checks.feature_offsets(offsets, len(ids)) if lengths is None else _from_lengths(lengths, len(ids))
        if (len(ends) - 1) % n_features:
            what, n = ("offsets", len(ends)) if lengths is None else ("lengths", len(ends) - 1)
            more = " + 1" if lengths is None else ""
            raise ValueError(f"{what} must number {n_features} features times samples{more}, got {n}")
        given = _checks.sample_weights(weights, ids.shape, self.dtype, "sum")
        batch = FeatureBatch(ids, ends, given, self.bounds, n_features)
        return self.resolved(batch) if ids.dtype == object else batch

    def _by_feature(self, values: Mapping[Any, Any], weights: Any) -> FeatureBatch:
        """From ids by feature: (B,), (B, n), B lists, or pairs of ids and offsets (B + 1,)."""
        if set(values) != set(self.names):
            raise KeyError(f"values must have the features {_checks.listed(self.names)}, got {_checks.listed(values)}")
        if weights is not None and (not isinstance(weights, Mapping) or set(weights) != set(self.names)):
            raise KeyError(f"per_sample_weights must have the features {_checks.listed(self.names)}, as values have")
        parts, ends, given = [], [np.zeros(1, np.int64)], []
        n_bags, n_ids = None, 0
        for name, n_rows in zip(self.names, self.n_rows, strict=True):
            rows, own_ends, of_each = self._one(name, n_rows, values[name], None if weights is None else weights[name])
            if n_bags not in (None, len(own_ends) - 1):
                n, shown = len(own_ends) - 1, _checks.shown(name, str)
                raise ValueError(f"every feature must have as many samples, got {n} of {shown} after {n_bags}")
            n_bags = len(own_ends) - 1
            if weights is not None:
                own = _checks.sample_weights(of_each, rows.shape, self.dtype, "sum")
                if own is None:
                    raise TypeError(
                        f"per_sample_weights must be given for every feature, got None for {_checks.shown(name, str)}"
                    )
                given.append(own.reshape(-1))
            parts.append(rows.reshape(-1))
            ends.append(n_ids + own_ends[1:])
            n_ids += rows.size
        of_all = np.concatenate(given) if given else None
        return FeatureBatch(np.concatenate(parts), np.concatenate(ends), of_all, "zero", len(self.names))

    def _one(self, name: str, n_rows: int, given: Any, weights: Any) -> tuple[Array, Array, Any]:
        """The rows of a feature, beginnings and end of its bags, and the weights of rows."""
        name = _checks.shown(name, str)
        ids, offsets = given if isinstance(given, tuple) and len(given) == 2 else (given, None)
        parts = _checks.ragged(ids, weights) if offsets is None else None
        if parts is not None:
            ids, weights, lengths = parts
        rows = resolve_ids(ids, n_rows, bounds=self.bounds, name=f"{name} id")
        if offsets is not None:
            if rows.ndim != 1:
                raise ValueError(f"{name} ids with offsets must have 1 axis, got shape {rows.shape}")
            return rows, _checks.feature_offsets(offsets, len(rows), f"{name} offsets"), weights
        if rows.ndim not in (1, 2) or (parts is not None and rows.ndim != 1):
            raise ValueError(f"{name} ids must have 1 or 2 axes (samples, ids of each), got shape {rows.shape}")
        if parts is not None:
            return rows, _from_lengths(lengths, len(rows)), weights
        width = 1 if rows.ndim == 1 else rows.shape[1]
        return rows, np.arange(len(rows) + 1, dtype=np.int64) * width, weights

    def _of_jagged(self, jagged: Any) -> FeatureBatch:
        """From a KeyedJaggedTensor of TorchRec: its keys in any order, others than ours ignored."""
        keys = list(jagged.keys())
        find_weights = getattr(jagged, "weights_or_none", None)
        weights = find_weights() if callable(find_weights) else None
        if tuple(keys) == self.names:
            return self._of_array(jagged.values(), jagged.offsets(), None, weights)
        missing = [name for name in self.names if name not in keys]
        if missing:
            names = _checks.listed(self.names)
            raise KeyError(f"the KeyedJaggedTensor must have the features {names}, it has {_checks.listed(keys)}")
        ids = _checks.integers("value", jagged.values())
        ends = _checks.feature_offsets(jagged.offsets(), len(ids))
        n_bags, rest = divmod(len(ends) - 1, len(keys))
        if rest:
            raise ValueError(f"offsets must number {len(keys)} features times samples + 1, got {len(ends)}")
        by_name, weights_by_name = {}, {}
        given = None if weights is None else _checks.as_array("per_sample_weights", weights)
        for name in self.names:
            first = keys.index(name) * n_bags
            own = ends[first : first + n_bags + 1]
            items = slice(int(own[0]), int(own[-1]))
            by_name[name] = ids[items], own - own[0]
            if given is not None:
                weights_by_name[name] = given[items]
        return self._by_feature(by_name, None if given is None else weights_by_name)

    def resolved(self, batch: FeatureBatch) -> FeatureBatch:
        """The batch with the row of each id; an id out of range is named with its feature."""
        rows = [
            resolve_ids(batch.ids[batch.items(k)], n_rows, bounds=batch.bounds, name=f"{_checks.shown(name, str)} id")
            for k, (name, n_rows) in enumerate(zip(self.names, self.n_rows, strict=True))
        ]
        return batch._replace(ids=np.concatenate(rows), bounds="zero")


def _joined(arrays: list[Array]) -> Array:
    """The arrays one after the other, without a copy if it is one."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _from_lengths(lengths: Any, n_ids: int) -> Array:
    """Where each bag begins and the last one ends, from the number of ids of each."""
    array = _checks.integers("length", lengths).reshape(-1)
    outside = np.flatnonzero((array < 0) | (array > n_ids))
    if outside.size:
        k = outside[0]
        raise ValueError(f"lengths must be from 0 to the {n_ids} values, got {_checks.shown(int(array[k]))} at position {k}")
    ends = np.zeros(array.size + 1, np.int64)
    np.cumsum(array, out=ends[1:], dtype=np.int64)
    if ends[-1] != n_ids:
        raise ValueError(f"lengths must add up to the {n_ids} values, got {ends[-1]}")
    return ends
