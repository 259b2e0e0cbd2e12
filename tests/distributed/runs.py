"""The same training with any number of ranks, and by one process with the local layers.

Batch k is drawn from a seed; the ranks share its samples, of which a rank may have none.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import fastembed as fe
from fastembed import distributed

V, D, B = 53, 5, 24


def table(dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(0).standard_normal((V, D)).astype(dtype)


def share(rank: int, size: int, n: int = B) -> slice:
    """The samples of a rank: unequal, and with three ranks or more none for rank 1."""
    if size >= 3:
        ends = [0, n // size, n // size, *(n * (r + 1) // size for r in range(2, size))]
    else:
        ends = [n * r * 2 // (size * 2 + 1) if r < size else n for r in range(size + 1)]
    return slice(ends[rank], ends[rank + 1])


def batch(step: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids of B samples of 3, with frequent ones, and a factor for the gradient."""
    rng = np.random.default_rng([1, step])
    return (V * rng.random((B, 3)) ** 3).astype(np.int64), rng.standard_normal((B, 1, D))


def gradient(x: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """What comes back from above: it depends on the look-up."""
    return (x.astype(np.float64) * factor).astype(x.dtype if x.itemsize > 2 else np.float32)


def train_lookups(layer: Any, opt: Any, steps: range, part: slice = slice(None), fused: bool = True) -> None:
    """Steps of an `Embedding`; fused with the update, or by an accumulated gradient."""
    for step in steps:
        ids, factor = batch(step)
        x = layer(ids[part])
        if fused:
            layer.backward(gradient(x, factor[part]), optimizer=opt)
        else:
            layer.backward(gradient(x, factor[part]))
            layer.backward(gradient(x, -0.25 * factor[part]))
            opt.step()
            opt.zero_grad()


def train_bags(layer: Any, opt: Any, steps: range, part: slice = slice(None), weighted: bool = False) -> list[Any]:
    """Steps of an `EmbeddingBag`; the gradients of the weights, if there are."""
    of_weights = []
    for step in steps:
        ids, factor = batch(step)
        weights = np.random.default_rng([2, step]).standard_normal(ids.shape) if weighted else None
        mine = ids[part]
        own = None if weights is None else weights[part]
        x = layer(mine, None, own)
        layer.backward(gradient(x, factor[part, 0]), optimizer=opt)
        of_weights.append(layer.per_sample_weights_grad)
    return of_weights


HASH = fe.NgramHash([3, 5, 9], [[7, 11], [13, 17]], vocab_size=V, fill=0)


def train_ngrams(layer: Any, opt: Any, steps: range, part: slice = slice(None)) -> None:
    for step in steps:
        ids, factor = batch(step)
        x = layer(ids[part])
        layer.backward(gradient(x, np.tile(factor[part], (1, 1, HASH.width * layer.embedding_dim // D))), optimizer=opt)


def sharded(group: Any, dtype: str = "float32", kind: Any = distributed.ShardedEmbedding, **options: Any) -> Any:
    return kind.from_pretrained(group, table(dtype), **options)


def whole_state(layer: Any, opt: Any) -> dict[str, np.ndarray]:
    """The table, and the optimiser's state by name, of a sharded layer, in all ranks."""
    group, of = layer.group, layer.partition
    counts = np.array([of.n_owned(rank) for rank in range(group.size)])
    places = np.concatenate([of.owned(rank) for rank in range(group.size)])
    found = {"weight": layer.to_array()}
    for kind, arrays in opt.state_dict()["items"][0].items():
        if kind != "step":
            gathered = group.allgatherv("state", np.ascontiguousarray(arrays["weight"]), counts)
            found[kind] = np.empty_like(gathered)
            found[kind][places] = gathered
    return found


def local_state(layer: Any, opt: Any) -> dict[str, np.ndarray]:
    """The same of a local layer."""
    state = opt.state_dict()["items"][0].items()
    return {"weight": layer.weight} | {kind: arrays["weight"] for kind, arrays in state if kind != "step"}
