"""Picks the backend once, at import: FASTEMBED_BACKEND=c (the default) or reference. No other module imports either of them."""

from __future__ import annotations

import os
from typing import Any

name = os.environ.get("FASTEMBED_BACKEND", "c")

kernels: Any  # the C extension, or the reference behind the same calls

if name == "c":
    try:
        from . import _kernels as kernels
    except ImportError as error:
        raise ImportError(
            "the C extension of fastembed is not built or does not load here: in a source folder, run `make build` or "
            f"`pip install -e .`; else `pip install microgpt-fastembed` ({error})"
        ) from error
elif name == "reference":
    from . import _reference_kernels as kernels
else:
    raise ImportError(f"FASTEMBED_BACKEND must be c or reference, got {name!r}")
