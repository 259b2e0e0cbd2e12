"""Look-ups and their gradients on tensors, which share memory with arrays; no autograd.

V: rows of the table; D: columns; S: the shape of the ids; N: ids; B: bags.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from ... import Embedding, EmbeddingBag, RowGrad, scatter_add
from ... import embedding_bag as bags_of
from ... import gather as gather_rows
from .tables import array_of, current_table, tensor_of


class Options(NamedTuple):
    """The options of a look-up that its gradient depends on."""

    padding_idx: int | None
    scale_grad_by_freq: bool


class Bags(NamedTuple):
    """The arguments of a call that define its bags; ids of two axes have no offsets."""

    ids: torch.Tensor
    offsets: torch.Tensor | None
    weights: torch.Tensor | None

    def arrays(self) -> tuple[Any, ...]:
        """Ids, offsets and weights as arrays."""
        return tuple(None if part is None else array_of(part) for part in self)


class BagOptions(NamedTuple):
    """The options of a look-up of bags."""

    mode: str
    include_last_offset: bool
    padding_idx: int | None
    scale_grad_by_freq: bool

    def of_forward(self) -> dict[str, Any]:
        """Those that the rows of the bags depend on."""
        return {name: value for name, value in self._asdict().items() if name != "scale_grad_by_freq"}


def check_ids(table: np.ndarray[Any, Any], ids: torch.Tensor) -> None:
    """Raise an IndexError if an id is out of range."""
    gather_rows(table[:, :0], ids.numpy())


@contextlib.contextmanager
def up_to_date(weight: torch.Tensor, ids: torch.Tensor) -> Iterator[np.ndarray[Any, Any]]:
    """The table of a tensor as an array, in which the rows of these ids are up to date."""
    table, array = current_table(weight), array_of(weight)
    if table is None:
        yield array
    else:
        check_ids(array, ids)
        with table.up_to_date({"weight": ids.numpy().astype(np.int64)}):
            yield array


def look_up(weight: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """The rows of the ids, shape S + (D,)."""
    result = torch.empty((*ids.shape, weight.shape[1]), dtype=weight.dtype)
    table = current_table(weight)
    if table is None:
        gather_rows(array_of(weight), ids.numpy(), out=array_of(result))
    else:
        table(ids.numpy(), out=array_of(result))
    return result


def renormalise(weight: torch.Tensor, ids: torch.Tensor, max_norm: float, norm_type: float) -> None:
    """Scale the rows of the ids down to ``max_norm`` in place, to the bits that PyTorch gives."""
    check_ids(array_of(weight), ids)
    with up_to_date(weight, ids), torch.no_grad():
        torch.embedding_renorm_(weight, ids.contiguous().long(), max_norm, norm_type)


def look_up_bags(weight: torch.Tensor, bags: Bags, options: BagOptions) -> torch.Tensor:
    """The row of each bag, shape (B, D)."""
    ids, offsets, weights = bags.arrays()
    with up_to_date(weight, bags.ids) as table:
        return tensor_of(bags_of(table, ids, offsets, per_sample_weights=weights, **options.of_forward()))


def _rows(ids: torch.Tensor, options: Options) -> np.ndarray[Any, Any]:
    """The row of each id as int64; -1 for the padding row."""
    rows = ids.numpy().astype(np.int64)
    if options.padding_idx is not None:
        rows[rows == options.padding_idx] = -1
    return rows


def dense_gradient(dout: torch.Tensor, ids: torch.Tensor, n_rows: int, options: Options) -> torch.Tensor:
    """The gradient of a table of V rows, of which ``dout`` is that of the rows looked up."""
    if options.scale_grad_by_freq:
        return as_dense(row_gradient(dout, ids, n_rows, options), dout.dtype)
    values = array_of(dout)
    dense = np.zeros((n_rows, dout.shape[-1]), values.dtype)
    scatter_add(dense, _rows(ids, options), values, bounds="zero")
    return tensor_of(dense)


def row_gradient(dout: torch.Tensor, ids: torch.Tensor, n_rows: int, options: Options) -> RowGrad:
    """The same gradient as its rows: those that were looked up."""
    values = array_of(dout)
    table = np.broadcast_to(values.dtype.type(0), (n_rows, dout.shape[-1]))  # of which only the shape matters
    layer = Embedding.from_pretrained(table, **options._asdict())
    layer.backward(values, ids.numpy())
    return layer.grads()["weight"]


def bag_gradient(
    dout: torch.Tensor, weight: torch.Tensor, bags: Bags, options: BagOptions
) -> tuple[RowGrad, torch.Tensor | None]:
    """The gradients of a table, as its rows, and of the weights of a call, if it had any."""
    ids, offsets, weights = bags.arrays()
    with up_to_date(weight, bags.ids) as table:
        layer = EmbeddingBag.from_pretrained(table, **options._asdict())
        layer.backward(array_of(dout), ids, offsets, weights)
    dweights = layer.per_sample_weights_grad
    return layer.grads()["weight"], None if dweights is None else tensor_of(dweights).to(dout.dtype)


def as_sparse(grad: RowGrad, dtype: torch.dtype) -> torch.Tensor:
    """A sparse COO tensor of the rows: its indices are sorted and distinct."""
    ids, rows = torch.from_numpy(grad.ids)[None], torch.from_numpy(grad.rows).to(dtype)
    return torch.sparse_coo_tensor(ids, rows, grad.shape, is_coalesced=True, check_invariants=False)


def as_dense(grad: RowGrad, dtype: torch.dtype) -> torch.Tensor:
    """The gradient of the whole table, shape (V, D); float32 sums of half precision are rounded."""
    return torch.from_numpy(grad.to_dense()).to(dtype)
