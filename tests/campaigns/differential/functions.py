"""Cases of the public functions: look-ups, scatter-add, bags, hashes, row-sparse gradients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import fastembed as fe
from fastembed import reference

from .case import Case, copies
from .draws import ARITHMETIC, Draw, lists


def _table(draw: Draw, dtype: str, width: int, most: int = 9) -> np.ndarray[Any, Any]:
    return draw.numbers((0 if draw.maybe(0.03) else draw.randint(1, most), width), dtype)


def _asked(to: str, dtype: str) -> dict[str, str]:
    """What asks for a result of another dtype than the table's."""
    return {} if to == dtype else {"out_dtype": to}


def gather(draw: Draw) -> Case:
    dtype, shape, bounds = draw.dtype(), draw.shape(), draw.bounds()
    table = _table(draw, dtype, draw.width())
    ids, given, to = draw.ids(shape, len(table)), draw.laid(table), draw.or_wider(dtype)
    out, asked = draw.output((*shape, table.shape[1]), to), _asked(to, dtype)
    return Case(
        f"gather {dtype} {table.shape} to {to}, ids {shape} {bounds}",
        lambda: [("rows", fe.gather(given, ids, bounds=bounds, out=out.filled(), **asked))],
        lambda: [("rows", reference.gather(lists(table), lists(ids), bounds=bounds, dtype=to))],
        {"rows": to},
        copies(table=given, ids=ids),
    )


def _positions(draw: Draw, shape: tuple[int, ...], n_rows: int) -> dict[str, Any]:
    if draw.maybe(0.5):
        return {"position_ids": draw.ids(shape, n_rows)}
    return {"start": draw.randint(0, 3) if draw.maybe(0.5) else 0}


def _sequences(draw: Draw) -> tuple[tuple[int, ...], int]:
    """A shape of ids, sometimes of sequences longer than vectors, and the most positions."""
    return (draw.shape(), 9) if draw.maybe(0.8) else ((draw.randrange(3), draw.randrange(40)), 45)


def gather_add(draw: Draw) -> Case:
    dtype, (shape, most), bounds, width = draw.dtype(), _sequences(draw), draw.bounds(), draw.width()
    wte, wpe = _table(draw, dtype, width), _table(draw, draw.choice((dtype, dtype, draw.dtype())), width, most)
    ids, positions, to = draw.ids(shape, len(wte)), _positions(draw, shape, len(wpe)), draw.or_wider(dtype)
    given, given_wpe, out, asked = draw.laid(wte), draw.laid(wpe), draw.output((*shape, width), to), _asked(to, dtype)
    with np.errstate(all="ignore"):
        converted = wpe if wpe.dtype == wte.dtype else wpe.astype(ARITHMETIC[dtype])
    if not (len(wte) and len(wpe)):  # lists do not say how wide a table without rows is
        return gather(draw)
    return Case(
        f"gather_add {dtype} {wte.shape} {wpe.dtype} {wpe.shape} to {to}, ids {shape} {bounds} {sorted(positions)}",
        lambda: [("rows", fe.gather_add(given, ids, given_wpe, bounds=bounds, out=out.filled(), **positions, **asked))],
        lambda: [("rows", reference.gather_add(
            lists(wte), lists(ids), lists(converted), bounds=bounds, dtype=to, **{k: lists(v) for k, v in positions.items()}
        ))],
        {"rows": to},
        copies(wte=given, wpe=given_wpe, ids=ids),
    )  # fmt: skip


def scatter_add(draw: Draw) -> Case:
    dtype, shape, bounds = draw.dtype(), draw.shape(), draw.bounds()
    table = _table(draw, dtype, draw.width())
    ids = draw.ids(shape, len(table))
    values_shape = (*shape, table.shape[1])
    if draw.maybe(0.2):  # broadcast
        values_shape = values_shape[draw.randrange(len(values_shape)) :]
    values = draw.numbers(values_shape, draw.or_wider(dtype))
    given, given_values = draw.written(table), draw.wider(values)

    def ours() -> list[tuple[str, Any]]:
        rows = given.restored()
        fe.scatter_add(rows, ids, given_values, bounds=bounds)
        return [("table", rows)]

    def like() -> list[tuple[str, Any]]:
        rows = lists(table)
        if rows:
            reference.scatter_add(rows, lists(ids), lists(values), bounds=bounds, dtype=dtype)
        else:  # lists do not say how wide it is
            reference.resolve_ids(lists(ids), 0, bounds)
        return [("table", rows)]

    title = f"scatter_add {dtype} {table.shape} ids {shape} {bounds}"
    return Case(title, ours, like, {"table": dtype}, copies(ids=ids, values=given_values), may_refuse=True)


def gather_add_backward(draw: Draw) -> Case:
    dtype, (shape, most), bounds, width = draw.dtype(), _sequences(draw), draw.bounds(), draw.width()
    dwte, dwpe = draw.numbers((draw.randint(1, 9), width), dtype), draw.numbers((draw.randint(1, most), width), dtype)
    ids, positions = draw.ids(shape, len(dwte)), _positions(draw, shape, len(dwpe))
    dout = draw.numbers((*shape, width), draw.or_wider(dtype))
    given, given_wpe, given_dout = draw.written(dwte), draw.written(dwpe), draw.wider(dout)

    def ours() -> list[tuple[str, Any]]:
        of_wte, of_wpe = given.restored(), given_wpe.restored()
        fe.gather_add_backward(given_dout, ids, of_wte, of_wpe, bounds=bounds, **positions)
        return [("dwte", of_wte), ("dwpe", of_wpe)]

    def like() -> list[tuple[str, Any]]:
        of_wte, of_wpe, places = lists(dwte), lists(dwpe), {k: lists(v) for k, v in positions.items()}
        reference.gather_add_backward(lists(dout), lists(ids), of_wte, of_wpe, bounds=bounds, dtype=dtype, **places)
        return [("dwte", of_wte), ("dwpe", of_wpe)]

    title = f"gather_add_backward {dtype} {dwte.shape} {dwpe.shape} ids {shape} {bounds} {sorted(positions)}"
    return Case(title, ours, like, {"dwte": dtype, "dwpe": dtype}, copies(dout=given_dout, ids=ids), may_refuse=True)


def draw_bags(draw: Draw, n_rows: int, bounds: str = "raise", p_outside: float = 0.1) -> dict[str, Any]:
    """Ids in two axes, or of one axis with offsets; options of the bags; their number."""
    include_last = draw.maybe(0.3)
    if draw.maybe(0.3):
        shape: tuple[int, ...] = (draw.randint(1, 5), draw.randrange(5))  # lists do not tell (0, n)
        offsets, n_bags, include_last = None, shape[0], False
    else:
        shape = (draw.randrange(12),)
        ends = [0, *sorted(draw.randint(0, shape[0]) for _ in range(draw.randrange(6)))]
        offsets, n_bags = draw.laid(np.array(ends)), len(ends) - include_last
    return {
        "ids": draw.ids(shape, n_rows, p_outside), "offsets": offsets, "n_bags": n_bags, "shape": shape,
        "include_last_offset": include_last, "mode": draw.choice(("sum", "mean", "sqrtn", "max")),
        "padding_idx": draw.choice((None, None, 0, -1)), "bounds": bounds,
    }  # fmt: skip


def embedding_bag(draw: Draw) -> Case:
    dtype = draw.dtype()
    table = draw.numbers((draw.randint(1, 9), draw.width()), dtype)
    bags = draw_bags(draw, len(table), draw.bounds())
    ids, offsets, n_bags, shape = (bags.pop(name) for name in ("ids", "offsets", "n_bags", "shape"))
    weights = None if bags["mode"] == "max" or draw.maybe(0.5) else draw.numbers(shape, draw.or_wider(dtype))
    given, given_weights = draw.laid(table), None if weights is None else draw.wider(weights)
    to = draw.or_wider(dtype)
    out, asked = draw.output((n_bags, table.shape[1]), to), _asked(to, dtype)
    return Case(
        f"embedding_bag {dtype} {table.shape} to {to}, ids {shape} {bags}",
        lambda: [("rows", fe.embedding_bag(
            given, ids, offsets, per_sample_weights=given_weights, out=out.filled(), **bags, **asked
        ))],
        lambda: [("rows", reference.embedding_bag(
            lists(table), lists(ids), lists(offsets), per_sample_weights=lists(weights), dtype=to, **bags
        ))],
        {"rows": to},
        copies(table=given, ids=ids, weights=given_weights),
    )  # fmt: skip


def embedding_bag_backward(draw: Draw) -> Case:
    dtype = draw.dtype()
    table = draw.numbers((draw.randint(1, 9), draw.width()), dtype)
    bags = draw_bags(draw, len(table), draw.bounds())
    ids, offsets, n_bags, shape = (bags.pop(name) for name in ("ids", "offsets", "n_bags", "shape"))
    weights = None if bags["mode"] == "max" or draw.maybe(0.5) else draw.numbers(shape, draw.or_wider(dtype))
    bags["scale_grad_by_freq"] = bags["mode"] != "max" and draw.maybe(0.4)
    dtable, dout = draw.numbers(table.shape, dtype), draw.numbers((n_bags, table.shape[1]), draw.or_wider(dtype))
    given, given_dout, written = draw.laid(table), draw.wider(dout), draw.written(dtable)
    with_table = bags["mode"] == "max" or draw.maybe(0.7)

    def ours() -> list[tuple[str, Any]]:
        rows = written.restored()
        of_weights = fe.embedding_bag_backward(
            given_dout, ids, rows, offsets, per_sample_weights=weights, table=given if with_table else None, **bags
        )
        return [("dtable", rows), *([] if of_weights is None else [("dweights", of_weights)])]

    def like() -> list[tuple[str, Any]]:
        rows = lists(dtable)
        of_weights = reference.embedding_bag_backward(
            lists(dout), lists(ids), rows, lists(offsets), per_sample_weights=lists(weights),
            table=lists(table) if with_table else None, dtype=dtype, **bags,
        )  # fmt: skip
        return [("dtable", rows), *([] if of_weights is None else [("dweights", of_weights)])]

    title = f"embedding_bag_backward {dtype} {table.shape} ids {shape} {bags} {'weights' if weights is not None else ''}"
    dtypes = {"dtable": dtype, "dweights": ARITHMETIC[dtype]}
    return Case(title, ours, like, dtypes, copies(dout=given_dout, table=given, ids=ids), may_refuse=True)


def hash_ids(draw: Draw) -> Case:
    ids, n_rows, seed = draw.ids(draw.shape(), 2**62), draw.randint(1, 2**32 - 1), draw.randrange(2**32)
    return Case(
        f"hash_ids {n_rows} seed {seed}",
        lambda: [("hashes", fe.hash_ids(ids, n_rows, seed=seed))],
        lambda: [("hashes", reference.hash_ids(lists(ids), n_rows, seed=seed))],
        {},
        copies(ids=ids),
    )


def row_grad(draw: Draw) -> Case:
    """A gradient from single elements, and one operation after the other on it."""
    dtype, n_rows, width, n = draw.choice(("float32", "float64")), draw.randint(1, 9), draw.randint(1, 20), draw.randrange(12)
    kind = draw.choice(("normal", "integers", "denormal", "apart"))
    drawn = [
        (draw.numbers((n,), dtype, kind), [draw.randrange(n_rows) for _ in range(n)], [draw.randrange(width) for _ in range(n)])
        for _ in range(2)
    ]
    factor, limit = draw.uniform(-3, 3), draw.choice((0.0, 0.5, 100.0, math.inf))

    def ours() -> list[tuple[str, Any]]:
        one, other = (fe.RowGrad.from_coo(data, (rows, cols), (n_rows, width)) for data, rows, cols in drawn)
        total, found = one + other, []
        for name, grad in (("sum", total), ("scaled", total.scale(factor))):
            found += [(f"{name} ids", grad.ids), (f"{name} rows", grad.rows.copy()), (f"{name} norm", grad.norm())]
        found.append(("norm before", total.clip_(limit)))
        found += [("clipped", total.rows.copy()), ("dense", total.to_dense())]
        total.clip_value_(0.25)
        data, (rows, cols) = total.to_coo()
        return [*found, ("data", data), ("row", rows), ("col", cols)]

    def like() -> list[tuple[str, Any]]:
        one, other = (reference.RowGrad.from_coo(lists(data), (rows, cols), width, dtype) for data, rows, cols in drawn)
        total, found = one + other, []
        for name, grad in (("sum", total), ("scaled", total.scale(factor))):
            found += [(f"{name} ids", grad.ids), (f"{name} rows", list(grad.rows)), (f"{name} norm", grad.norm())]
        found.append(("norm before", total.clip_(limit)))
        found += [("clipped", list(total.rows)), ("dense", total.to_dense(n_rows))]
        total.clip_value_(0.25)
        data, (rows, cols) = total.to_coo()
        return [*found, ("data", data), ("row", rows), ("col", cols)]

    return Case(f"row_grad {dtype} ({n_rows}, {width})", ours, like, {})


def table_statistics(draw: Draw) -> Case:
    dtype, width = draw.dtype(), draw.randint(1, 40)
    table = draw.numbers((draw.randint(1, 9), width), dtype)
    given = draw.laid(table)
    names = ("rows", "columns", "min_norm", "mean_norm", "max_norm", "zero_rows", "nonfinite_rows")
    return Case(
        f"table_statistics {dtype} {table.shape}",
        lambda: [(name, getattr(fe.table_statistics(given), name)) for name in names],
        lambda: [(name, reference.statistics.table_statistics(lists(table))[name]) for name in names],
        {},
        copies(table=given),
    )


def losses(draw: Draw) -> Case:
    """Cross-entropies of numbers, and of rows of numbers with a class for each."""
    dtype, n, width = draw.choice(("float32", "float64")), draw.randint(1, 6), draw.randint(1, 40)
    logits, ignored = (
        draw.numbers((n, width), dtype, draw.choice(("normal", "integers", "apart", "denormal"))),
        draw.choice((-100, 0)),
    )
    probabilities = np.array([draw.choice((0.0, 1.0, draw.random())) for _ in range(n * width)], dtype).reshape(n, width)
    classes = draw.ids((n,), width, 0.05)
    given = draw.laid(logits)

    def found(of_numbers: Any, of_rows: Any) -> list[tuple[str, Any]]:
        return [("binary", of_numbers[0]), ("by number", of_numbers[1]), ("loss", of_rows[0]), ("by row", of_rows[1])]

    return Case(
        f"losses {dtype} {logits.shape} ignored {ignored}",
        lambda: found(
            fe.losses.binary_cross_entropy(given, probabilities), fe.losses.cross_entropy(given, classes, ignore_index=ignored)
        ),
        lambda: found(
            reference.losses.binary_cross_entropy(lists(logits), lists(probabilities), dtype),
            reference.losses.cross_entropy(lists(logits), lists(classes), ignored, dtype),
        ),
        {"by": dtype},
        copies(logits=given, targets=probabilities, classes=classes),
    )
