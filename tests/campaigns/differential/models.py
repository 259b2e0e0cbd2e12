"""Cases of tables of models: rows that hashes of n-grams select, and packed rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from common import relaid

import fastembed as fe
from fastembed import reference
from fastembed.reference import formats

from .case import Case, copies
from .draws import Draw, lists
from .functions import draw_bags

_N_TOKENS = 50
_LAYOUTS = ("plain", "rows-apart", "misaligned", "readonly")


def _hash(draw: Draw) -> tuple[list[int], list[list[int]], dict[str, Any]]:
    """Multipliers, head sizes and options of a hash of any kind."""
    n, n_heads, unsigned = draw.randint(2, 6), draw.randint(1, 4), draw.maybe(0.5)
    largest = 2**64 - 1 if unsigned else (2**63 - 1) // _N_TOKENS
    multipliers = [draw.randint(0, draw.choice((9, largest))) for _ in range(n)]
    sizes = [[draw.choice((1, 2, 7, 2**31 - 1, 2**32 + 15, 2**40, 2**55 - 55)) for _ in range(n_heads)] for _ in range(n - 1)]
    options: dict[str, Any] = {"fill": draw.randrange(_N_TOKENS), "unsigned": unsigned, "cut_own": draw.maybe(0.5)}
    options["cut"] = draw.choice((None, 3, [3, 4], []))
    if draw.maybe(0.5):
        options["token_map"] = [draw.randrange(_N_TOKENS) for _ in range(_N_TOKENS)]
    else:
        options["vocab_size"] = _N_TOKENS
    if draw.maybe(0.5):
        options["offsets"] = [[draw.randrange(2**50) for _ in range(n_heads)] for _ in range(n - 1)]
    return multipliers, sizes, options


def ngrams(draw: Draw) -> Case:
    """The rows of sequences, along an axis or end to end, with and without a history."""
    multipliers, sizes, options = _hash(draw)
    shape, ends = (*draw.shape(2, 3), draw.randrange(7)), None
    if draw.maybe(0.3):
        shape, ends = shape[-1:], sorted(draw.randint(0, shape[-1]) for _ in range(draw.randrange(4)))
    call: dict[str, Any] = {} if ends is None else {"cu_seqlens": [0, *ends, shape[-1]]}
    ids = draw.ids(shape, _N_TOKENS)
    if draw.maybe(0.5) and np.prod(shape, dtype=int):
        n_sequences = shape[:-1] if ends is None else (len(ends) + 1,)
        call["history"] = draw.ids((*n_sequences, len(multipliers) - 1), _N_TOKENS, 0.05)

    def ours() -> list[tuple[str, Any]]:
        return [("rows", fe.NgramHash(multipliers, sizes, **options)(ids, **call))]

    def like() -> list[tuple[str, Any]]:
        arguments = {name: lists(value) for name, value in call.items()}
        return [("rows", reference.NgramHash(multipliers, sizes, **options)(lists(ids), **arguments))]

    return Case(f"ngrams {multipliers} {sizes} {options} ids {shape} {sorted(call)}", ours, like, {}, copies(ids=ids))


def draw_packed(draw: Draw, widths: tuple[int, ...] = ()) -> tuple[np.ndarray[Any, Any], int, dict[str, Any]]:
    """Bytes of rows with their scales, the columns, of about one of some widths if given, and the
    options of a packed table."""
    format = draw.choice(formats.FORMATS)
    options: dict[str, Any] = {"format": format}
    of_gguf = formats.gguf.LAYOUTS.get(format)
    width = draw.choice(widths) if widths else draw.width()
    if of_gguf is not None:
        width = of_gguf.n_cols * (1 + width // of_gguf.n_cols if widths else draw.randrange(3))
    n_block, is_float = 0, False
    if format.startswith("float8"):
        n_block, is_float = draw.choice((1, 7, 16, 32, 48, 1000)), draw.maybe(0.5)
        if draw.maybe(0.4):  # whole blocks of the usual size
            n_block, width = 32, 32 * (1 + width // 32 if widths else draw.choice((1, 2, 3, 8, 9)))
        options |= {"block_size": n_block, "scale_format": "float32" if is_float else "ue8m0"}
    of_elements, of_scales = formats.packed_size(format, n_block, is_float, width) or (0, 0)
    rows = np.frombuffer(draw.randbytes(7 * (of_elements + of_scales)), np.uint8).reshape(7, of_elements + of_scales)
    if of_scales and not is_float and draw.maybe(0.7):  # mostly finite
        rows = rows.copy()
        rows[:, of_elements:] = rows[:, of_elements:] % 20 + 117
    if of_scales and draw.maybe(0.5):
        options["scales"] = relaid(rows[:, of_elements:], draw.choice(_LAYOUTS))
        rows = rows[:, :of_elements]
    return rows, width, options


def packed(draw: Draw) -> Case:
    """Rows, bags, and rows plus positions of a table in any format."""
    rows, width, options = draw_packed(draw)
    shape, bounds, what = draw.shape(), draw.bounds(), draw.choice(("rows", "bags", "sums"))
    wpe, ids, bags = draw.numbers((draw.randint(1, 7), width), "float32"), draw.ids(shape, 7), draw_bags(draw, 7, bounds)
    of_bags, offsets, n_bags, bag_shape = (bags.pop(name) for name in ("ids", "offsets", "n_bags", "shape"))
    to = draw.choice(("float32", "float16", "bfloat16"))
    given, given_wpe, out = relaid(rows, draw.choice(_LAYOUTS)), draw.laid(wpe), draw.output((*shape, width), to)

    def ours() -> list[tuple[str, Any]]:
        table = fe.PackedTable(given, width, dtype=to, **options)
        if what == "rows":
            return [("result", table(ids, bounds=bounds, out=out.filled()))]
        if what == "bags":
            return [("result", table.bag(of_bags, offsets, **bags))]
        return [("result", table.gather_add(ids, given_wpe, bounds=bounds))]

    def like() -> list[tuple[str, Any]]:
        scales, is_float = options.get("scales"), options.get("scale_format") == "float32"
        given = rows.tolist(), None if scales is None else scales.tolist()
        table = formats.decode(*given, options["format"], options.get("block_size", 0), is_float, width)
        if what == "rows":
            return [("result", reference.gather(table, lists(ids), bounds=bounds, dtype=to))]
        if what == "bags":
            return [("result", reference.embedding_bag(table, lists(of_bags), lists(offsets), dtype=to, **bags))]
        return [("result", reference.gather_add(table, lists(ids), lists(wpe), bounds=bounds, dtype=to))]

    told = {name: value for name, value in options.items() if name != "scales"}
    title = f"packed {told} {rows.shape} x {width} to {to}: {what}, ids {shape} {bounds}, bags {bag_shape} {n_bags} {bags}"
    return Case(title, ours, like, {"result": to}, copies(rows=given, wpe=given_wpe, ids=ids))
