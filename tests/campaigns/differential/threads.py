"""Cases that are large enough for the pool: each is compared with NumPy or with one thread.

The reference takes too long for them; small cases say that one thread gives its bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastembed as fe

from .case import Case
from .draws import ARITHMETIC, DTYPES, Draw
from .models import draw_packed

_MOST = 5_000_000  # elements of a result: more than the 8 MiB from where on it goes past the cache


def _calls(draw: Draw, table: np.ndarray[Any, Any], n_ids: int, dtype: str) -> tuple[str, Callable[[], list[tuple[str, Any]]]]:
    """A call of some size, which makes the same each time."""
    n_rows, width = table.shape
    ids = np.array(draw.choices(range(n_rows), k=n_ids))
    dout = draw.numbers((n_ids, width), ARITHMETIC[dtype], "normal")
    bags = np.sort(np.array([0, *draw.choices(range(n_ids), k=n_ids // 8)]))
    what = draw.choice(("gather", "gather_add", "scatter_add", "bag", "bag backward", "step", "nearest"))
    mode, name = draw.choice(("sum", "mean", "max")), draw.choice(("SGD", "AdamW", "RowWiseAdagrad", "SparseAdam"))

    def call() -> list[tuple[str, Any]]:
        if what == "gather":
            return [("rows", fe.gather(table, ids))]
        if what == "gather_add":
            return [("rows", fe.gather_add(table, ids.reshape(-1, 4), table[:9]))]
        if what == "bag":
            return [("rows", fe.embedding_bag(table, ids, bags, mode=mode))]
        if what == "nearest":
            found = fe.Embedding.from_pretrained(table).nearest(table[:9].astype("f8"), 5)
            return [("ids", found.ids), ("scores", found.scores)]
        target = table.copy()
        if what == "scatter_add":
            fe.scatter_add(target, ids, dout)
        elif what == "bag backward":
            fe.embedding_bag_backward(dout[: len(bags)], ids, target, bags, mode=mode, table=table)
        else:
            layer = fe.Embedding.from_pretrained(target)
            optimizer = getattr(fe.optim, name)(layer, lr=0.1)
            for _ in range(3):
                layer.backward(dout, ids, optimizer=optimizer)
            optimizer.flush()
        return [("table", target)]

    return f"{what} {mode if 'bag' in what else ''}{name if what == 'step' else ''}", call


def _packed(draw: Draw) -> Case:
    """A look-up of packed rows, whose result goes past the cache where these are wide, and the same
    in pieces that do not."""
    rows, width, options = draw_packed(draw, (33, 256, 300, 1312, 2600))
    table, dtype = fe.PackedTable(rows, width, **options), draw.choice(("float32", "float16", "bfloat16"))
    n_ids = draw.choice((4_096, _MOST // max(width, 256)))
    ids, memory = np.array(draw.choices(range(len(rows)), k=n_ids)), np.empty(n_ids * width + 32, DTYPES[dtype])
    at_a_line = -memory.ctypes.data % 64 // memory.itemsize
    first = at_a_line if draw.maybe(0.5) else draw.randrange(32)
    out = memory[first : first + n_ids * width].reshape(n_ids, width)

    def look_up(n_piece: int) -> list[tuple[str, Any]]:
        memory[:] = 7
        for k in range(0, n_ids, n_piece):
            table(ids[k : k + n_piece], out=out[k : k + n_piece])
        around = np.concatenate([memory[:first], memory[first + n_ids * width :]])  # the same wherever out begins
        return [("rows", out.copy()), ("around", around)]

    title = f"threads packed {options['format']} {rows.shape} x {width} to {dtype}, {n_ids} ids"
    return Case(title, lambda: look_up(n_ids), lambda: look_up(300), {"rows": dtype, "around": dtype})


def many(draw: Draw) -> Case:
    if draw.maybe(0.25):
        return _packed(draw)
    dtype, width, n_rows = draw.dtype(), draw.choice((1, 3, 16, 33, 64, 130, 2100)), draw.choice((9, 500, 4_000))
    table = draw.numbers((n_rows, width), dtype, draw.choice(("normal", "denormal")))
    n_ids = min(draw.choice((512, 4_096)) * draw.randint(1, 4), _MOST // width)
    what, call = _calls(draw, table, n_ids, dtype)

    def on_one_thread() -> list[tuple[str, Any]]:
        with fe.threads(1):
            return call()

    return Case(f"threads {what} {dtype} {table.shape}", call, on_one_thread, {"table": dtype, "rows": dtype})
