"""The ten rows of a table that are nearest to each query, by cosine or by dot product.

The answers that are compared are their scores, in the table's dtype.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import Embedding
from ..timing import Answer, Array, Call
from .base import OURS, Contender, Inputs

K = 10


def _unit(rows: Array) -> Array:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def nearest_answer(metric: str) -> Any:
    """The largest of all scores, which NumPy computes in float64."""

    def answer(inputs: Inputs) -> Answer:
        queries, n_block = inputs.dout(0).astype(np.float64), 10_000
        queries = _unit(queries) if metric == "cosine" else queries
        best = np.empty((len(queries), 0))
        for first in range(0, len(inputs.wte), n_block):
            rows = inputs.wte[first : first + n_block].astype(np.float64)
            scores = queries @ (_unit(rows) if metric == "cosine" else rows).T
            best = np.sort(np.concatenate([best, scores], 1), 1)[:, ::-1][:, :K]
        return (best.astype(inputs.wte.dtype),)

    return answer


def _ours(metric: str, has_index: bool = False) -> Contender:
    def setup(inputs: Inputs) -> Call:
        layer, dtype = Embedding.from_pretrained(inputs.wte), inputs.wte.dtype
        index = layer.build_index() if has_index else None
        return lambda k: layer.nearest(inputs.dout(k), K, metric, index=index).scores.astype(dtype)

    return Contender(OURS, "Embedding.nearest" + (", index=" if has_index else ""), setup)


def _numpy(metric: str, is_prepared: bool) -> Contender:
    def setup(inputs: Inputs) -> Call:
        table = inputs.wte
        lengths = np.linalg.norm(table, axis=1)
        scores = np.full((len(inputs.dout(0)), len(table)), 0.0, table.dtype)
        first = len(table) - K

        def call(k: int) -> Array:
            queries = inputs.dout(k)
            np.matmul(_unit(queries) if metric == "cosine" else queries, table.T, out=scores)
            if metric == "cosine":
                np.divide(scores, lengths if is_prepared else np.sqrt(np.vecdot(table, table)), out=scores)
            ids = np.argpartition(scores, first, axis=1)[:, first:]
            return np.sort(np.take_along_axis(scores, ids, 1), 1)[:, ::-1]

        return call

    lengths = "" if metric == "dot" else ", lengths known" if is_prepared else " + vecdot"
    return Contender("numpy", f"matmul(out=){lengths} + argpartition", setup)


def _faiss(metric: str) -> Contender:
    def setup(inputs: Inputs) -> Call:
        import faiss

        index = faiss.IndexFlatIP(inputs.wte.shape[1])
        index.add(_unit(inputs.wte) if metric == "cosine" else inputs.wte)

        def call(k: int) -> Any:
            queries = inputs.dout(k)
            return index.search(_unit(queries) if metric == "cosine" else queries, K)[0]

        return call

    return Contender("faiss", "IndexFlatIP" + (" of rows of length 1" if metric == "cosine" else ""), setup)


NEAREST = {
    "cosine": (_ours("cosine"), _numpy("cosine", False), _numpy("cosine", True), _faiss("cosine")),
    "indexed": (_ours("cosine", True), _numpy("cosine", True), _faiss("cosine")),
    "dot": (_ours("dot"), _numpy("dot", True), _faiss("dot")),
}
