"""Formats of packed rows, on lists of bytes (FP8, halves, GGUF), and lines of text."""

from __future__ import annotations

from typing import Any

from .. import quantized
from . import fp8, gguf

FORMATS = (*fp8.SIZES, *gguf.LAYOUTS)
"""The names of the formats whose rows are decoded; quantized rows are "fbgemm8" and "fbgemm4"."""

_QUANTIZED = {"fbgemm8": 8, "fbgemm4": 4}


def packed_size(format: str, block_size: int, has_float_scales: bool, n_cols: int) -> tuple[int, int] | None:
    """(bytes of the elements of a row, bytes of its scales); None if no row has that n_cols."""
    if format in _QUANTIZED:
        bits = _QUANTIZED[format]
        return (n_cols * bits + 7) // 8, bits
    if format in gguf.LAYOUTS:
        layout = gguf.LAYOUTS[format]
        return None if n_cols % layout.n_cols else (n_cols // layout.n_cols * layout.size, 0)
    return n_cols * fp8.SIZES[format], -(-n_cols // block_size) * (4 if has_float_scales else 1) if block_size else 0


def decode(
    rows: list[list[int]], scales: list[list[int]] | None, format: str, block_size: int, has_float_scales: bool, n_cols: int
) -> Any:
    """The rows of float32 that packed rows stand for.

    Parameters
    ----------
    rows : list of lists of bytes
    scales : list of lists of bytes, or None
        Of FP8: the scales of each row; None if they follow its elements.
    format : str
        One of `FORMATS`, or "fbgemm8" or "fbgemm4".
    block_size : int
        Of FP8: the elements that share a scale.
    has_float_scales : bool
        Of FP8: whether scales are float32, else ue8m0.
    n_cols : int
        Elements of a row.
    """
    if format in _QUANTIZED:
        return quantized.dequantize(rows, n_cols, _QUANTIZED[format])
    if format in gguf.LAYOUTS:
        return [gguf.decode(format, bytes(row), n_cols) for row in rows]
    end = n_cols * fp8.SIZES[format]
    of_rows = [row[end:] for row in rows] if scales is None else scales
    pairs = zip(rows, of_rows, strict=True)
    return [fp8.decode(format, bytes(row[:end]), bytes(of_row), block_size, has_float_scales) for row, of_row in pairs]
