"""Information on the installation: versions, backend, instruction set, threads."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np

from . import _version
from ._kernels import backend


def show_config() -> dict[str, Any]:
    """The versions, backend, instruction set and threads in use, as a dict.

    Returns
    -------
    dict
        "version", "python", "numpy", "machine", "backend" ("c" or "reference"), "isa" (the
        instruction set in use, None for the reference), "isa_available", "num_threads", and
        "compiler" (compiler and flags of the extension).

    Examples
    --------
    >>> import fastembed as fe
    >>> fe.show_config()["backend"] in ("c", "reference")
    True
    """
    build = backend.kernels.build_info()
    return {
        "version": _version.VERSION,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
        "backend": backend.name,
        "isa": build["isa"],
        "isa_available": build["isa_available"],
        "num_threads": backend.kernels.get_num_threads(),
        "compiler": build["compiler"],
    }


def runtime_text() -> str:
    """What `show_config` returns, one entry a line."""
    shown = {key: ", ".join(value) if isinstance(value, list) else value for key, value in show_config().items()}
    return "\n".join(f"{key:>14}: {value}" for key, value in shown.items())


def show_runtime() -> None:
    """Print `show_config`, one entry a line."""
    print(runtime_text())
