"""Cases of several tables in one call: collections, and skip-gram with negative sampling."""

from __future__ import annotations

from typing import Any

import numpy as np
from common import before_a_gap

import fastembed as fe
from fastembed import reference

from .case import Case
from .draws import ARITHMETIC, Draw, lists
from .layers import OPTIMIZERS


def _batch(draw: Draw, sizes: list[int], n_samples: int, p_outside: float) -> tuple[Any, Any]:
    """Ids of features with tables of these sizes, one after the other; where each bag begins, and
    where the last one ends."""
    ids, offsets = [], [0]
    for n_rows in sizes:
        for _ in range(n_samples):
            bag = [draw.randrange(n_rows) for _ in range(draw.randrange(4))]
            ids += [draw.randint(-3, 20) if draw.maybe(p_outside) else row for row in bag]
            offsets.append(len(ids))
    return draw.laid(np.array(ids, np.int64)), draw.laid(np.array(offsets))


def _of_table(table: str, grad: Any) -> list[tuple[str, Any]]:
    return [(f"ids {table}", grad.ids), (f"gradient_{table}", grad.rows)]


def collection(draw: Draw) -> Case:
    """Up to three batches of a collection: results, gradients or steps, and the tables after."""
    dtypes = {f"t{k}": draw.dtype() for k in range(draw.randint(1, 3))}
    if draw.maybe(0.6):  # tables of one dtype have a kernel for all of them
        dtypes = dict.fromkeys(dtypes, draw.dtype())
    tables = {name: draw.numbers((draw.randint(1, 9), 1 + draw.width()), dtype, "normal") for name, dtype in dtypes.items()}
    features = {f"f{k}": draw.choice(tuple(tables)) for k in range(draw.randint(1, 4))}
    options = {"mode": draw.choice(("sum", "mean", "sqrtn")), "bounds": draw.bounds()}
    sizes, width = [len(tables[name]) for name in features.values()], sum(tables[name].shape[1] for name in features.values())
    batches: list[tuple[Any, Any, Any, Any]] = []
    for _ in range(draw.randint(1, 3)):
        n_samples = draw.randint(1, 4)
        ids, offsets = _batch(draw, sizes, n_samples, 0.02 if options["bounds"] == "raise" else 0.3)
        weights = None if draw.maybe(0.5) else draw.numbers(ids.shape, "float32", "normal")
        batches.append((ids, offsets, weights, draw.laid(draw.numbers((n_samples, width), "float32", "normal"))))
    name = draw.choice((*OPTIMIZERS, None))

    def played(layer: Any, of_tables: dict[str, Any], convert: Any, **by: Any) -> list[tuple[str, Any]]:
        found: list[tuple[str, Any]] = []
        for number, (ids, offsets, weights, dout) in enumerate(batches):
            result = layer(convert(ids), convert(offsets), per_sample_weights=convert(weights))
            found.append((f"rows {number}", result))
            layer.backward(convert(dout), **by)
            if weights is not None:
                found.append((f"dweights {number}", layer.per_sample_weights_grad))
        for table, of in of_tables.items():
            found += [(f"{table} table", of.weight), *_of_table(table, of.grads()["weight"])]
        return found

    def ours() -> list[tuple[str, Any]]:
        arrays = {table: before_a_gap(array) for table, array in tables.items()}
        layer = fe.EmbeddingCollection(arrays, features, **options)
        optimizer = None if name is None else getattr(fe.optim, name)(layer, lr=0.1)
        return played(layer, layer.tables, lambda value: value, optimizer=optimizer)

    def like() -> list[tuple[str, Any]]:
        of_tables = {table: lists(array) for table, array in tables.items()}
        layer = reference.EmbeddingCollection(of_tables, features, dtype=dtypes, **options)
        optimizers = None
        if name is not None:
            optimizers = {table: getattr(reference.optim, name)(of, lr=0.1) for table, of in layer.layers.items()}
        return played(layer, layer.layers, lists, optimizers=optimizers)

    together = {dtypes[table] for table in features.values()}
    of_rows = together.pop() if len(together) == 1 else "float64" if "float64" in together else "float32"
    compared = {"rows": of_rows, "dweights": ARITHMETIC[of_rows], **dtypes}
    compared |= {f"gradient_{table}": ARITHMETIC[dtype] for table, dtype in dtypes.items()}
    shapes = {table: (array.dtype.name, array.shape) for table, array in tables.items()}
    title = f"collection {shapes} {features} {options} {name} ids {[ids.shape for ids, *_ in batches]}"
    return Case(title, ours, like, compared, by_type=(IndexError,))


def skip_gram(draw: Draw) -> Case:
    """Up to three batches of pairs: losses, gradients or steps, and the tables after."""
    dtype, width, n_negatives = draw.dtype(), 1 + draw.width(), draw.randrange(4)
    tables = [draw.numbers((draw.randint(1, 9), width), dtype, draw.choice(("normal", "integers", "apart"))) for _ in range(2)]
    options = [
        {"padding_idx": draw.choice((None, None, 0)), "scale_grad_by_freq": draw.maybe(0.3), "bounds": draw.bounds()}
        for _ in tables
    ]
    batches = []
    for _ in range(draw.randint(1, 3)):
        n = draw.randrange(6)
        shapes = ((n,), (n,), (n, n_negatives))
        batches.append([draw.ids(shape, len(tables[k > 0]), 0.05) for k, shape in enumerate(shapes)])
    name = draw.choice((*OPTIMIZERS, None))

    def played(module: Any, layers: list[Any], convert: Any) -> list[tuple[str, Any]]:
        optimizer = None if name is None else getattr(module.optim, name)(layers, lr=0.1)
        found: list[tuple[str, Any]] = []
        for number, pairs in enumerate(batches):
            found.append((f"loss {number}", module.losses.skip_gram(*layers, *map(convert, pairs), optimizer=optimizer)))
        for k, of_layer in enumerate(layers):
            found += [(f"table {k}", of_layer.weight), *_of_table(str(k), of_layer.grads()["weight"])]
        return found

    def ours() -> list[tuple[str, Any]]:
        layers = [
            fe.Embedding.from_pretrained(before_a_gap(table), **given) for table, given in zip(tables, options, strict=True)
        ]
        return played(fe, layers, lambda value: value)

    def like() -> list[tuple[str, Any]]:
        made = reference.Embedding.from_pretrained
        layers = [made(lists(table), dtype=dtype, **given) for table, given in zip(tables, options, strict=True)]
        return played(reference, layers, lists)

    compared = {"table": dtype, "gradient_0": ARITHMETIC[dtype], "gradient_1": ARITHMETIC[dtype]}
    sizes = [[np.shape(ids) for ids in pairs] for pairs in batches]
    return Case(f"skip_gram {dtype} {[table.shape for table in tables]} {options} {name} {sizes}", ours, like, compared)
