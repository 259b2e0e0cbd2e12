"""Several sharded tables in the exchanges of one: fewer messages, and one step of all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .. import _checks
from ..functional.lookup import gather
from .embedding import ShardedEmbedding
from .exchange import fetch, push
from .ranks.group import Group

if TYPE_CHECKING:
    from .._typing import Array, ArrayLike


def look_up_together(layers: Sequence[ShardedEmbedding], ids: Sequence[ArrayLike]) -> list[Array]:
    """What each of several layers returns for its ids, with the messages of one call.

    All ranks call it together, with the same layers.

    Parameters
    ----------
    layers : list of ShardedEmbedding, of one group
    ids : list of array_like of integers
        Those of each layer.

    Raises
    ------
    PeerError, IndexError, TypeError, ValueError
        As in a call of `ShardedEmbedding`.

    Examples
    --------
    >>> import fastembed as fe
    >>> from fastembed import distributed
    >>> group = distributed.local()
    >>> users, items = (distributed.ShardedEmbedding(group, n, 4, rng=n) for n in (100, 200))
    >>> opt = fe.optim.RowWiseAdagrad([users, items])
    >>> x, y = distributed.look_up_together([users, items], [[3, 5], [7, 7, 9]])
    >>> distributed.backward_together([users, items], [x, y], optimizer=opt)
    >>> opt.step_counts
    [1, 1]
    """
    group, step = _group_of(layers), f"look-up of {len(layers)} layers"
    with group.checking(step, len(layers)):
        checked = [layer.checked_call(of_layer) for layer, of_layer in zip(layers, ids, strict=True)]
    found = fetch(group, step, [(layer, rows) for layer, (rows, _) in zip(layers, checked, strict=True)])
    for layer, of_layer, (values, index), (_, result) in zip(layers, ids, found, checked, strict=True):
        gather(values, index, out=result, bounds="zero")
        layer._handle(of_layer)
    return [result for _, result in checked]


def backward_together(layers: Sequence[ShardedEmbedding], douts: Sequence[ArrayLike], *, optimizer: Any = None) -> None:
    """The `backward` of several layers, of their last calls, with the messages of one.

    Parameters
    ----------
    layers : list of ShardedEmbedding, of one group
    douts : list of array_like
        The gradient of what each layer returned.
    optimizer : one of fastembed.optim, optional
        One that holds all layers; it takes a step of all of them, or of none.

    Raises
    ------
    PeerError, RuntimeError, IndexError, TypeError, ValueError
        As in `ShardedEmbedding.backward`.
    """
    group, step = _group_of(layers), f"backward of {len(layers)} layers"
    with group.checking(step, 2 * len(layers)):
        checked = [layer.checked_backward(dout, None, None, optimizer) for layer, dout in zip(layers, douts, strict=True)]
    batches = push(group, step, [layer.outgoing(*given) for layer, given in zip(layers, checked, strict=True)])
    with group.applying(step):
        pairs = [(layer, {"weight": batch}) for layer, batch in zip(layers, batches, strict=True)]
        if optimizer is None:
            for layer, batch in pairs:
                layer._accumulate_or_step(batch, None)
        else:
            optimizer.train_together(pairs)


def _group_of(layers: Sequence[ShardedEmbedding]) -> Group:
    """The group of all of them."""
    for layer in layers:
        if not isinstance(layer, ShardedEmbedding):
            raise TypeError(f"layers must be ShardedEmbedding, got {_checks.shown(layer)}")
    groups = {id(layer.group): layer.group for layer in layers}
    if len(groups) != 1:
        raise ValueError(f"layers must be of one group, got {len(groups)} groups")
    return next(iter(groups.values()))
