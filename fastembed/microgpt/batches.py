"""The gradient of a batch of documents, which one process or several ranks compute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .._kernels.floats import own_floats
from .model import GPT

if TYPE_CHECKING:
    from .._typing import Array
    from ..distributed import Group


@own_floats
def batch_gradient(model: GPT, batch: Sequence[list[int]], group: Group | None) -> float:
    """Give the model the mean gradient of some documents, given as tokens; their mean loss.

    Each document is computed by one rank of the group, all gradients go to all ranks, and each adds
    them up in the order of the documents: the bits do not depend on the number of ranks.
    """
    rank, size = (0, 1) if group is None else (group.rank, group.size)
    numbers = [np.arange(peer, len(batch), size) for peer in range(size)]
    n_parameters = sum(array.size for array in model.state_dict().values())
    losses = np.zeros(len(numbers[rank]))
    gradients = np.zeros((len(losses), n_parameters), model.emb.dtype)
    for place, number in enumerate(numbers[rank].tolist()):
        model.emb.zero_grad()
        losses[place] = model.loss(batch[number])
        gradients[place] = _flat_gradient(model)
    if group is not None:
        counts = np.array([len(of_rank) for of_rank in numbers])
        losses = group.allgatherv("losses of the documents", losses, counts)
        gradients = group.allgatherv("gradients of the documents", gradients, counts)
    total, loss = np.zeros_like(gradients, shape=n_parameters), 0.0
    for place in np.argsort(np.concatenate(numbers)):
        total += gradients[place]
        loss += float(losses[place])
    _set_gradient(model, total / total.dtype.type(len(batch)))
    return loss / len(batch)


def _flat_gradient(model: GPT) -> Array:
    """The gradients of all parameters, in the order of ``state_dict``, one after the other."""
    of_tables = model.emb.dense_grads().values()
    of_weights = [weight.checked_grad() for weight in model.weights.values()]
    return np.concatenate([gradient.reshape(-1) for gradient in (*of_tables, *of_weights)])


def _set_gradient(model: GPT, flat: Array) -> None:
    """Let the next step have this gradient, as of `_flat_gradient`."""
    arrays, grads = model.state_dict(), model.emb.grads()
    ends = np.cumsum([array.size for array in arrays.values()])
    for (name, array), part in zip(arrays.items(), np.split(flat, ends[:-1]), strict=True):
        rows = part.reshape(array.shape)
        if name in model.weights:
            model.weights[name].grad = rows
        else:
            grads[name].ids, grads[name].rows = np.arange(len(rows)), rows
