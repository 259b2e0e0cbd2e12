"""Cases of quantized tables, and of searches."""

from __future__ import annotations

from typing import Any

import fastembed as fe
from fastembed import reference

from .case import Case, copies
from .draws import Draw, lists
from .functions import draw_bags


def quantized(draw: Draw) -> Case:
    """A table is quantized; then rows, bags, rows plus positions, and the bound of the error."""
    bits, dtype, shape, bounds = draw.choice((8, 4)), draw.dtype(), draw.shape(), draw.bounds()
    width = draw.width() if draw.maybe(0.9) else draw.choice((200, 256, 257, 300, 520))  # several tiles
    table = draw.numbers((draw.randint(1, 7), width), dtype, draw.choice(("normal", "integers", "denormal", "apart", "odd")))
    wpe = draw.numbers((draw.randint(1, 7), width), "float32")
    ids, bags = draw.ids(shape, len(table)), draw_bags(draw, len(table), bounds)
    of_bags, offsets, n_bags, bag_shape = (bags.pop(name) for name in ("ids", "offsets", "n_bags", "shape"))
    given, given_wpe, what = draw.laid(table), draw.laid(wpe), draw.choice(("rows", "bags", "sums", "bound"))

    def ours() -> list[tuple[str, Any]]:
        layer = fe.QuantizedEmbedding.from_float(given, bits=bits)
        if what == "rows":
            result: Any = layer(ids, bounds=bounds)
        elif what == "bags":
            result = layer.bag(of_bags, offsets, **bags)
        elif what == "sums":
            result = layer.gather_add(ids, given_wpe, bounds=bounds)
        else:
            result = layer.error_bound()
        return [("packed", layer.packed), ("result", result)]

    def like() -> list[tuple[str, Any]]:
        packed = reference.quantized.quantize(lists(table), bits)
        if what == "rows":
            result: Any = reference.quantized.gather(packed, width, bits, lists(ids), bounds=bounds)
        elif what == "bags":
            result = reference.quantized.embedding_bag(packed, width, bits, lists(of_bags), lists(offsets), **bags)
        elif what == "sums":
            result = reference.quantized.gather_add(packed, width, bits, lists(ids), lists(wpe), bounds=bounds)
        else:
            result = reference.quantized.error_bound(packed, width, bits)
        return [("packed", packed), ("result", result)]

    title = f"quantized {bits} bits, {dtype} {table.shape}: {what}, ids {shape} {bounds}, bags {bag_shape} {n_bags} {bags}"
    return Case(title, ours, like, {}, copies(table=given, wpe=given_wpe, ids=ids))


def nearest(draw: Draw) -> Case:
    """The nearest rows of ids or of vectors, and analogies."""
    dtype, n_rows, width = draw.dtype(), draw.randint(1, 12), draw.randint(1, 33)
    table = draw.numbers((n_rows, width), dtype, draw.choice(("normal", "integers", "denormal", "apart")))
    k, metric, exclude = draw.randint(0, n_rows), draw.choice(("cosine", "dot", "l2")), draw.maybe(0.4)
    what, shape = draw.choice(("ids", "vectors", "analogy")), draw.shape(2, 3)
    three = [draw.ids(shape, n_rows, 0.03) for _ in range(3)]
    vectors = draw.numbers((*shape, width), "float64", draw.choice(("normal", "integers")))
    given = draw.laid(table)
    if what == "vectors" and vectors.size == 0:  # an empty list of vectors is one of ids
        vectors, shape = draw.numbers((1, width), "float64", "normal"), (1,)

    def found(got: Any) -> list[tuple[str, Any]]:
        return [("ids", got[0]), ("scores", got[1])]

    def ours() -> list[tuple[str, Any]]:
        layer = fe.Embedding.from_pretrained(given)
        if what == "analogy":
            return found(layer.analogy(*three, k, metric, exclude_queries=exclude))
        if what == "vectors":
            return found(layer.nearest(vectors, k, metric))
        return found(layer.nearest(three[0], k, metric, exclude_queries=exclude))

    def like() -> list[tuple[str, Any]]:
        rows = lists(table)
        if what == "analogy":
            ids = map(lists, three)
            return found(reference.analogy(rows, *ids, k, metric, exclude_queries=exclude, dtype=dtype))
        if what == "vectors":
            return found(reference.nearest(rows, lists(vectors), k, metric, dtype=dtype))
        return found(reference.nearest(rows, lists(three[0]), k, metric, exclude_queries=exclude, dtype=dtype))

    title = f"nearest {dtype} {table.shape} {what} {shape} k={k} {metric} exclude={exclude}"
    return Case(title, ours, like, {}, copies(table=given))
