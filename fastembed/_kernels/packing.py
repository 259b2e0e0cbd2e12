"""Packing: how the rows of a packed table hold their elements, for both backends."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Packing(NamedTuple):
    """The format of packed rows, and what lies outside of them.

    Attributes
    ----------
    format : str
        A key of `fastembed.reference.formats.FORMATS`, or ``"fbgemm8"`` or ``"fbgemm4"``.
    block_size : int
        Of FP8: the elements that share a scale; else 0.
    has_float_scales : bool
        Of FP8: whether scales are float32, else they are bytes, ue8m0.
    scales : ndarray or None
        The bytes of the scales, uint8 of shape (V, bytes); None if they follow the elements of
        their row.
    """

    format: str
    block_size: int = 0
    has_float_scales: bool = False
    scales: np.ndarray[Any, Any] | None = None
