"""A plugin of coverage.py that finds the C of Cython modules in their build folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from Cython.Coverage import Plugin

GENERATED = Path(__file__).parents[3] / "build/coverage/cython/fastembed/_kernels"


class BuildFolderPlugin(Plugin):
    def _find_source_files(self, filename: str) -> tuple[str | None, None]:
        path = Path(filename)
        c = GENERATED / path.with_suffix(".c").name
        return (str(c), None) if path.suffix == ".pyx" and c.exists() else (None, None)


def coverage_init(registry: Any, options: Any) -> None:
    registry.add_file_tracer(BuildFolderPlugin())
