"""Picks the backend once, at import: FASTEMBED_BACKEND=c (the default) or reference. No other module imports either of them.

FASTEMBED_ISA names the instruction set of the C backend; by default it is the widest that this machine runs.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

name = os.environ.get("FASTEMBED_BACKEND", "c")

if TYPE_CHECKING:
    from . import _core

    kernels = _core  # or the reference behind the same calls
elif name == "c":
    try:
        kernels = importlib.import_module("._core", __package__)
    except ImportError as error:
        raise ImportError(
            "the C extension of fastembed is not built, or does not load here. In a source folder run `make build` or "
            f"`pip install -e .`; elsewhere reinstall the package ({error})"
        ) from None
    kernels.select_isa(os.environ.get("FASTEMBED_ISA") or kernels.build_info()["isa_available"][0])
elif name == "reference":
    kernels = importlib.import_module(".on_reference", __package__)
else:
    raise ImportError(f"FASTEMBED_BACKEND must be c or reference, got {name!r}")
