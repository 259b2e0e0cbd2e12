"""clip_grad_norm of layers whose rows are those of several ranks."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from .._kernels.floats import own_floats
from ..functional.row_grad import clip_factor, norm_of_sums, sums_of_squares
from ..optim.parameter import distinct_items, scale_gradients
from ..tables.trainable import Trainable
from .ranks.group import Group
from .sharded import Sharded


def clip_grad_norm(
    group: Group, layers_and_parameters: Trainable | Iterable[Trainable], max_norm: float, *, error_if_nonfinite: bool = True
) -> float:
    """`fastembed.optim.clip_grad_norm` of all ranks together, with the same bits in any number.

    Sharded layers count with the rows of all ranks. What is not sharded must be the same in all
    ranks, and counts once.

    Examples
    --------
    >>> from fastembed import distributed
    >>> layer = distributed.ShardedEmbedding(distributed.local(), 5, 2, rng=0)
    >>> layer.backward([[3.0, 4.0]], ids=[1])
    >>> distributed.clip_grad_norm(layer.group, [layer], max_norm=1.0)
    5.0
    """
    with group.checking("clip_grad_norm"):
        items = distinct_items(layers_and_parameters)
        counted = [item for item in items if isinstance(item, Sharded) or group.rank == 0]
        own = _expansion(sums_of_squares([array for item in counted for array in item.gradient_arrays()]))
    lengths = group.agree("clip_grad_norm", np.full((group.size, 1), len(own)))[:, 0]
    sums = group.allgatherv("clip_grad_norm: sums", np.array(own), lengths).tolist()
    norm = norm_of_sums(sums)
    scale_gradients(items, clip_factor(norm, max_norm, error_if_nonfinite))
    return norm


@own_floats
def _expansion(sums: list[float]) -> list[float]:
    """A few numbers with exactly the same sum."""
    total = norm_of_sums(sums)
    if not math.isfinite(total):
        return [total]
    found: list[float] = []
    while rest := math.fsum([*sums, *(-part for part in found)]):
        found.append(rest)
    return found
