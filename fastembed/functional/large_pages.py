"""Large pages for the memory of tables that others have allocated."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _checks
from .._kernels.backend import kernels


def use_large_pages(array: np.ndarray[Any, Any]) -> bool:
    """Ask the system to hold an array in pages of 2 MB: random rows of it are then read faster.

    Its values and its place stay as they are. What has been written to the array is moved at once,
    at about 1 millisecond for 2 MB, and the rest when it is touched first.

    Parameters
    ----------
    array : ndarray
        Its elements side by side in memory, in C order.

    Returns
    -------
    bool
        Whether all of it is in large pages now. False for less than 4 MB, for memory of a file, and
        where the system has none or does not move memory into them: only Linux does, since 6.1.

    Raises
    ------
    TypeError, ValueError
        It is no array, or there are gaps between its elements.

    Notes
    -----
    NumPy asks for large pages for new arrays, PyTorch does not. A processor keeps the places of
    some 2,000 pages: a table of more than 8 MB has more pages of 4 KB.

    Examples
    --------
    >>> import numpy as np, fastembed as fe
    >>> fe.use_large_pages(np.zeros((10, 4)))
    False
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"array must be a NumPy array, got {type(array).__name__}")
    array = _checks.as_array("array", array)
    if not array.flags.c_contiguous:
        raise ValueError(f"array must be contiguous, got strides {array.strides} for shape {array.shape}")
    return kernels.use_large_pages(array)
