"""Picks the backend once, at import: FASTEMBED_BACKEND=c (the default) or reference.

FASTEMBED_ISA names the instruction set of the C backend; by default it is the widest that this
machine runs. No other module imports either backend, so that only one of them is loaded.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

__all__ = ["kernels", "name"]

name = os.environ.get("FASTEMBED_BACKEND", "c")

if TYPE_CHECKING or name == "c":  # for mypy both are the C backend, whose calls the reference has
    try:
        from . import on_c as kernels
    except ImportError as error:
        raise ImportError(
            "the C extension of fastembed is not built, or does not load here. In a source folder run `make build` or "
            f"`pip install -e .`; elsewhere reinstall the package ({error})"
        ) from None
    kernels.select_isa(os.environ.get("FASTEMBED_ISA") or kernels.build_info()["isa_available"][0])
elif name == "reference":
    from . import on_reference as kernels
else:
    raise ImportError(f"FASTEMBED_BACKEND must be c or reference, got {name!r}")
