"""The version, and a warning if the unrelated distribution ``fastembed`` is installed too."""

from __future__ import annotations

import os
import sys
import warnings

VERSION = "0.1.0"
NAME = "microgpt-fastembed"


def warn_of_namesake() -> None:
    """Warn if a distribution named ``fastembed`` is installed: both write to the same folder.

    Folder names are read, not metadata: importlib.metadata would take about 20 ms of the import.
    """
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    folders = {here, *(path for path in sys.path if path.endswith(("site-packages", "dist-packages")))}
    for folder in sorted(folders):
        try:
            entries = os.listdir(folder)
        except OSError:
            continue
        for entry in entries:
            if entry.startswith("fastembed-") and entry.endswith((".dist-info", ".egg-info")):
                warnings.warn(
                    f"the unrelated distribution {entry.rpartition('.')[0]} is installed in {folder}: "
                    f"it and {NAME} both provide `fastembed`, and cannot share an environment. Uninstalling "
                    "one removes files of both: uninstall both, then install the one that you want again",
                    RuntimeWarning,
                    stacklevel=3,
                )
