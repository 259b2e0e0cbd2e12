"""What is counted: calls by name, each with inputs of its own.

B: bags; D: columns; N: ids. All tables are float32 and 64 columns wide unless the name says more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

import fastembed as fe

V, D, N = 1000, 64, 256
OPTIMIZERS = ("SGD", "Adagrad", "RowWiseAdagrad", "SparseAdam", "Adam", "AdamW")
Call = Callable[[], object]


def short_calls() -> Iterator[tuple[str, Call]]:
    """Calls of which most is Python and checks."""
    rng = np.random.default_rng(0)
    names = fe.TokenPositionEmbedding(27, 8, 16, dtype="float64", rng=0)
    layer, bag = fe.Embedding(V, D, rng=0), fe.EmbeddingBag(V, D, mode="sum", rng=0)
    table, five, eight = layer.weight, np.array([17, 14, 18, 4, 0]), rng.integers(V, size=8)
    yield "emb(4, 2)", partial(names, 4, 2)
    yield "emb(5 ids)", partial(names, five)
    yield "emb(list of 5)", partial(names, five.tolist())
    yield "Embedding, 8 ids", partial(layer, eight)
    yield "Embedding, 8 ids, out=", partial(layer, eight, out=np.empty((8, D), np.float32))
    yield "gather, 8 ids", partial(fe.gather, table, eight)
    yield "gather, 8 ids, clip", partial(fe.gather, table, eight, bounds="clip")
    yield "EmbeddingBag, 2 bags of 4", partial(bag, eight.reshape(2, 4))
    yield "embedding_bag, offsets", partial(fe.embedding_bag, table, eight, [0, 3])
    yield "HashEmbedding, 8 ids", partial(fe.HashEmbedding(V, D, rng=0), eight)
    yield "EmbeddingCollection, 20 features", _collection(rng)
    yield "backward, 8 ids", _backward(layer, eight)
    for name in ("SGD", "Adam"):
        yield f"step of {name}, 8 ids", _step(name, eight)


def _collection(rng: np.random.Generator) -> Call:
    tables = {f"t{k}": (V, 16) for k in range(20)}
    layer = fe.EmbeddingCollection(tables, rng=0)
    ids = {name: rng.integers(V, size=(4, 1)) for name in tables}
    return partial(layer, ids)


def _backward(layer: fe.Embedding, ids: np.ndarray) -> Call:
    dout = np.ones((ids.size, D), np.float32)

    def call() -> None:
        layer.backward(dout, ids)
        layer.zero_grad()

    return call


def _step(name: str, ids: np.ndarray) -> Call:
    """A step of a layer of its own, in which all rows of the batch have been updated before."""
    layer = fe.Embedding(V, D, rng=0)
    optimizer = getattr(fe.optim, name)(layer, lr=1e-3)
    return partial(layer.backward, np.ones((ids.size, D), np.float32), ids, optimizer=optimizer)


def kernels() -> Iterator[tuple[str, Call]]:
    """Calls of which most is one kernel, in one piece."""
    yield from _look_ups()
    yield from _bags()
    rng = np.random.default_rng(1)
    ids, dout = rng.integers(V, size=N), rng.standard_normal((N, D)).astype(np.float32)
    for dtype in ("float32", "float16"):
        yield f"scatter_add, {dtype}", partial(fe.scatter_add, np.zeros((V, D), dtype), ids, dout)
    dwte, dwpe = np.zeros((V, D), np.float32), np.zeros((N, D), np.float32)
    yield "gather_add_backward", partial(fe.gather_add_backward, dout, ids, dwte, dwpe)
    for name in OPTIMIZERS:
        yield f"step of {name}", _step(name, ids)
    for norm in ("rms", "layer"):
        yield f"norm {norm}", partial(fe.TokenPositionEmbedding(V, N, D, norm=norm, rng=0), ids)
    yield "dropout", partial(fe.TokenPositionEmbedding(V, N, D, dropout=0.5, rng=0), ids)
    yield "hash_ids", partial(fe.hash_ids, ids, V)
    yield "rows of n-grams", partial(fe.NgramHash([3, 5, 9], [[7, 11], [13, 17]], vocab_size=V, fill=0), ids)
    layer = fe.Embedding(V, D, rng=0)
    yield "nearest", partial(layer.nearest, layer.weight[:1].copy(), 5)


def _look_ups() -> Iterator[tuple[str, Call]]:
    ids = np.random.default_rng(2).integers(V, size=N)
    for dtype in ("float32", "float64", "float16"):
        layer = fe.TokenPositionEmbedding(V, N, D, dtype=dtype, rng=0)
        yield f"gather, {dtype}", partial(fe.gather, layer.wte, ids)
        yield f"gather_add, {dtype}", partial(layer, ids)
    half = layer.wte
    yield "gather, float16 to float32", partial(fe.gather, half, ids, out_dtype="float32")
    for n_cols in (1, 17):
        yield f"gather, {n_cols} columns", partial(fe.gather, np.zeros((V, n_cols), np.float32), ids)


def _bags() -> Iterator[tuple[str, Call]]:
    rng = np.random.default_rng(3)
    ids, weights = rng.integers(V, size=(8, N // 8)), rng.standard_normal((8, N // 8)).astype(np.float32)
    table = rng.standard_normal((V, D)).astype(np.float32)
    for mode in ("sum", "mean", "max"):
        yield f"bags, {mode}", partial(fe.embedding_bag, table, ids, mode=mode)
    yield "bags, weights", partial(fe.embedding_bag, table, ids, mode="sum", per_sample_weights=weights)
    yield "bags, float16", partial(fe.embedding_bag, table.astype(np.float16), ids, mode="sum")
    yield "bags, 100 columns", partial(fe.embedding_bag, np.tile(table, 2)[:, :100].copy(), ids, mode="sum")
    for bits in (8, 4):
        yield f"bags, {bits} bits", partial(fe.QuantizedEmbedding.from_float(table, bits=bits).bag, ids, mode="sum")
    large = np.zeros((140_000, D), np.float32)  # more than the last cache is taken to hold
    yield "bags, large table", partial(fe.embedding_bag, large, ids, mode="sum")
