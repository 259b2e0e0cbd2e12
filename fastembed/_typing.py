"""Types for annotations only.

Importing numpy.typing and numpy.random takes longer than importing all of this package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TypedDict

    import numpy as np
    from numpy.typing import ArrayLike, DTypeLike, NDArray

    Array = NDArray[Any]
    Rng = np.random.Generator | int | None

    class RowOptions(TypedDict, total=False):
        """The options of every optimiser beside those of its groups."""

        trainable_rows: Any
        lr_multipliers: Any
        master_rows: bool
        stochastic_rounding: int | None
        step_without_grad: bool

    __all__ = ["Array", "ArrayLike", "DTypeLike", "Rng", "RowOptions"]
