"""Embed and HashEmbed: thinc's layers with look-ups, hashes and gradients by fastembed.

V: rows of a table; D: columns; N: ids.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from thinc.api import Model, array_getitem, chain, get_width, uniform_init

from ... import embedding_bag, gather, hash_ids
from .ops import FastEmbedOps, with_ids_from_the_end

if TYPE_CHECKING:
    from ..._typing import Array

    Backprop = Callable[[Array], Array]

_OPS = FastEmbedOps()


def Embed(  # thinc's name
    nO: int | None = None,
    nV: int | None = None,
    *,
    column: int | None = None,
    initializer: Callable[..., Any] | None = None,
    dropout: float | None = None,
) -> Any:
    """A look-up in a table, in place of thinc's Embed.

    Parameters
    ----------
    nO : int, optional
        D, the number of columns; by default the width of the Y of ``initialize``.
    nV : int
        V, the number of rows.
    column : int, optional
        The column of a two-dimensional input that holds the ids.
    initializer : callable, optional
        Makes the table, by default thinc's uniform_init.
    dropout : float, optional
        The probability that a column of the result is 0 in training, the same for all ids.

    Returns
    -------
    thinc.api.Model
        Of integers, shape (N,), to vectors, shape (N, D). Its parameter is "E"; names, attributes
        and bytes are those of thinc's layer. Negative ids count from the end.

    Examples
    --------
    >>> import numpy as np
    >>> from fastembed.adapters.thinc import Embed
    >>> model = Embed(4, 100).initialize()
    >>> x, backprop = model.begin_update(np.array([3, 3, -1]))
    >>> dx = backprop(np.ones_like(x))
    >>> model.get_grad("E")[[2, 3, 99], 0]
    array([0., 2., 1.], dtype=float32)
    """
    attrs = {} if dropout is None else {"dropout_rate": dropout}
    init = functools.partial(_init, initializer or uniform_init)
    model = Model("embed", _embed, init=init, attrs=attrs, dims={"nO": nO, "nV": nV}, params={"E": None})
    return _of_column(model, column)


def HashEmbed(  # thinc's name
    nO: int,
    nV: int,
    *,
    seed: int | None = None,
    column: int | None = None,
    initializer: Callable[..., Any] | None = None,
    dropout: float | None = None,
) -> Any:
    """The sum of four rows that a hash of each id selects, in place of thinc's HashEmbed.

    Parameters
    ----------
    nO, nV : int
        D and V, columns and rows of the table.
    seed : int, optional
        The seed of the hash, from 0 to 2**32 - 1; by default the number of the model.
    column, initializer, dropout
        As in `Embed`.

    Returns
    -------
    thinc.api.Model
        Of integers of 64 bits, shape (N,), to vectors, shape (N, D). Its parameter is "E"; names,
        attributes, bytes, rows and sums are those of thinc's layer.

    Examples
    --------
    >>> import numpy as np
    >>> from thinc.api import HashEmbed as thincs
    >>> from fastembed.adapters.thinc import HashEmbed
    >>> theirs, ours = thincs(8, 100, seed=3).initialize(), HashEmbed(8, 100, seed=3)
    >>> ids = np.array([5, 2**63], np.uint64)
    >>> bool((ours.from_bytes(theirs.to_bytes()).predict(ids) == theirs.predict(ids)).all())
    True
    """
    attrs = {"column": column, "seed": seed} | ({} if dropout is None else {"dropout_rate": dropout})
    init, dims = functools.partial(_init, initializer or uniform_init), {"nO": nO, "nV": nV, "nI": None}
    model = Model("hashembed", _hash_embed, init=init, attrs=attrs, dims=dims, params={"E": None})
    if seed is None:
        model.attrs["seed"] = model.id
    return _of_column(model, column)


def _of_column(model: Any, column: int | None) -> Any:
    """The model, applied to one column of its input."""
    if column is not None:
        model = chain(array_getitem((slice(0, None), column)), model)
    model.attrs["column"] = column
    return model


def _init(initializer: Callable[..., Any], model: Any, X: Any = None, Y: Any = None) -> None:
    if Y is not None and model.name == "embed":  # as in thinc, in which HashEmbed knows its width
        model.set_dim("nO", get_width(Y))
    model.set_param("E", initializer(model.ops, (model.get_dim("nV"), model.get_dim("nO"))))


def _embed(model: Any, ids: Array, is_train: bool) -> tuple[Array, Backprop]:
    table, ids = _table_of(model), _ids_of(ids)
    output = with_ids_from_the_end(lambda rows: gather(table, rows), ids, len(table))
    return _with_backprop(model, output, ids, len(ids), is_train)


def _hash_embed(model: Any, ids: Array, is_train: bool) -> tuple[Array, Backprop]:
    table, keys = _table_of(model), model.ops.as_contig(_ids_of(ids), dtype="uint64")
    rows = hash_ids(keys, len(table), seed=model.attrs["seed"])
    output = embedding_bag(table, rows, mode="sum")
    return _with_backprop(model, output, rows.T, len(ids), is_train)  # transposed: thinc's order of sums


def _ids_of(ids: Array) -> Array:
    """The ids themselves; array_getitem selects no column of an array without rows."""
    return ids if len(ids) else ids.reshape(0)


def _table_of(model: Any) -> Array:
    table = model.get_param("E")
    if not isinstance(table, np.ndarray):
        raise TypeError(
            f"{model.name} of fastembed is for the CPU: its table must be a numpy.ndarray, got {type(table).__name__}"
        )
    return table


def _with_backprop(model: Any, output: Array, rows: Array, n_ids: int, is_train: bool) -> tuple[Array, Backprop]:
    """The output after dropout, and its backprop, which adds the gradient to all ``rows``."""
    rate = model.attrs.get("dropout_rate") if is_train else None
    mask = None if rate is None or rate <= 0 else model.ops.get_dropout_mask(output.shape[-1:], rate)
    if mask is not None:
        output *= mask

    def backprop(d_output: Array) -> Array:
        gradient = d_output if mask is None else d_output * mask
        _add_gradient(model, rows, np.broadcast_to(gradient, (*rows.shape, output.shape[-1])))
        return model.ops.alloc1i(n_ids)

    return output, backprop


def _add_gradient(model: Any, rows: Array, gradient: Array) -> None:
    """Add to the gradient of the table, in place if there is one."""
    if model.has_grad("E"):
        _OPS.scatter_add(model.get_grad("E"), rows, gradient)
    else:
        total = np.zeros_like(model.get_param("E"))
        _OPS.scatter_add(total, rows, gradient)
        model.inc_grad("E", total)
