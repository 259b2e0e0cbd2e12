"""Types for annotations only.

Importing numpy.typing and numpy.random takes longer than importing all of this package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, DTypeLike, NDArray

    Array = NDArray[Any]
    Rng = np.random.Generator | int | None

    __all__ = ["Array", "ArrayLike", "DTypeLike", "Rng"]
