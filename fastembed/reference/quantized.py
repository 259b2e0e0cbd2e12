"""Row-quantised tables on lists: FBGEMM's fused rows of 8 or 4 bits an element.

A packed row is a list of bytes: the elements (of two in a byte the first is in the lower half),
then the scale and the bias of the row, in float32 for 8 bits and in float16 for 4. An element q
stands for q * scale + bias, rounded once, to float32: what a fused multiply-add gives.
"""

from __future__ import annotations

import math
import struct
from typing import Any

from . import bags, ops
from ._nested import rounding
from .halves import ulp
from .ops import Row, Table

_FORMATS = {8: "<2f", 4: "<2e"}
"""The format of scale and bias, by the bits of an element."""


def _scale_and_bias(row: list[int], embedding_dim: int, bits: int) -> tuple[float, float]:
    """The scale and the bias of a packed row."""
    scale, bias = struct.unpack_from(_FORMATS[bits], bytes(row), (embedding_dim * bits + 7) // 8)
    return scale, bias


def _ends(row: Row) -> tuple[float, float]:
    """The lowest and the highest number of a row, never -0.0."""
    return min(row, default=0.0) + 0.0, max(row, default=0.0) + 0.0


_LARGEST = {8: 3.4028234663852886e38, 4: 65504.0}
"""The largest finite number of that format: of the extent of a row for 8 bits, else of both."""


def _clipped(x: float, limit: float) -> float:
    """The nearest number from -limit to limit."""
    return max(-limit, min(x, limit))


def _quantization_parameters(row: Row, bits: int, errors: str) -> tuple[float, float, float]:
    """The scale, the bias, and the inverse scale with which elements are quantised.

    What the format cannot hold becomes its largest finite number, of that sign, if errors is clip.
    """
    limit = math.inf if errors == "raise" else _LARGEST[bits]
    r, h = rounding("float32"), rounding("float16")
    low, high = _ends(row)
    if bits == 8:
        extent = _clipped(r(high - low), limit)
        return r(extent / 255), low, r(255 / r(extent + r(1e-8)))
    low = _clipped(h(low), limit)
    scale = _clipped(h(r(r(high - low) / 15)), limit) or 1.0
    return scale, low, r(1 / scale)


def quantize(table: Table, bits: int, errors: str = "raise") -> list[list[int]]:
    """Pack each row as FBGEMM's QuantUtils.cc does, for rows of any width; a bias of zero is +0.0.

    A row that the format cannot hold is a ValueError; or, if errors is "clip", its scale and bias
    are the largest there are, and elements outside of what they reach become its nearest end.

    The functions there are FloatOrHalfToFused8BitRowwiseQuantizedSBFloat and
    FloatOrHalfToFusedNBitRowwiseQuantizedSBHalf.
    """
    packed, r = [], rounding("float32")
    for i, given in enumerate(table):
        row = [r(x) for x in given]
        for j, x in enumerate(row):
            if not math.isfinite(x):
                raise ValueError(f"row {i} of the table has {x} at column {j}, and only finite numbers can be quantized")
        scale, bias, inverse = _quantization_parameters(row, bits, errors)
        if not (math.isfinite(scale) and math.isfinite(bias)):
            low, high = _ends(row)
            raise ValueError(f"row {i} of the table goes from {low} to {high}, which is too far for {bits} bits")
        q = [round(max(0.0, min(r(r(x - bias) * inverse), 2**bits - 1))) for x in row]
        if bits == 4:
            q = [low | high << 4 for low, high in zip(q[::2], [*q[1::2], 0], strict=False)]
        packed.append([*q, *struct.pack(_FORMATS[bits], scale, bias)])
    return packed


def value(q: int, scale: float, bias: float) -> float:
    """q * scale + bias, rounded once to float32, ties to even; in exact integers until then."""
    if not (math.isfinite(scale) and math.isfinite(bias)):
        return q * scale + bias
    units = q * int(math.ldexp(scale, 149)) + int(math.ldexp(bias, 149))  # of the smallest float32
    if units == 0:
        return q * scale + bias  # exact, and has a sign
    n_cut = max(abs(units).bit_length() - 24, 0)
    kept, cut_off = divmod(abs(units), 2**n_cut)
    kept += 2 * cut_off > 2**n_cut or (2 * cut_off == 2**n_cut and kept % 2 == 1)
    return rounding("float32")(math.copysign(math.ldexp(kept, n_cut - 149), units))


def dequantize(packed: list[list[int]], embedding_dim: int, bits: int) -> Table:
    """The rows of float32 that packed rows stand for."""
    rows = []
    for row in packed:
        scale, bias = _scale_and_bias(row, embedding_dim, bits)
        q = row if bits == 8 else [half for byte in row for half in (byte & 15, byte >> 4)]
        rows.append([value(x, scale, bias) for x in q[:embedding_dim]])
    return rows


def gather(packed: list[list[int]], embedding_dim: int, bits: int, ids: Any, **options: Any) -> Any:
    """`ops.gather` of the rows that packed rows stand for."""
    return ops.gather(dequantize(packed, embedding_dim, bits), ids, dtype="float32", **options)


def gather_add(
    packed: list[list[int]], embedding_dim: int, bits: int, token_ids: Any, wpe: Table, *positions: Any, **options: Any
) -> Any:
    """`ops.gather_add` of the rows that packed rows stand for."""
    return ops.gather_add(dequantize(packed, embedding_dim, bits), token_ids, wpe, *positions, dtype="float32", **options)


def embedding_bag(packed: list[list[int]], embedding_dim: int, bits: int, ids: Any, *offsets: Any, **options: Any) -> Table:
    """`bags.embedding_bag` of the rows that packed rows stand for."""
    return bags.embedding_bag(dequantize(packed, embedding_dim, bits), ids, *offsets, dtype="float32", **options)


def error_bound(packed: list[list[int]], embedding_dim: int, bits: int) -> Row:
    """The largest error of `quantize` and `dequantize` together, for an element of each row.

    With 8 bits: half a step, and the error of the 1e-8 that is added to the extent of a row. With
    4 bits: the largest of half a step, the rounding of the bias to float16 (at the lower end of the
    row) and that of the scale (at the upper end). Rounding to float32 is added to both.
    """
    bounds = []
    for row in packed:
        scale, bias = (abs(x) for x in _scale_and_bias(row, embedding_dim, bits))
        extent = (2**bits - 1) * scale
        shrunk = extent * 1e-8 / (extent + 1e-8)
        step = scale / 2 + shrunk if bits == 8 else max(scale / 2, ulp(bias, "float16") / 2, 7.5 * ulp(scale, "float16"))
        bounds.append(step + (bias + 16 * extent) * 2.0**-24 + 2.0**-140)
    return bounds
