"""The version; what an import says: of an unrelated distribution ``fastembed``, of settings."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator

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


@contextlib.contextmanager
def settings_checked() -> Iterator[None]:
    """A context of imports that read environment variables.

    What is wrong with them, or a missing extension, is an ImportError; and for ``python -m
    fastembed``, whose own code does not run before, one line and the exit status of errors.
    """
    try:
        yield
    except ImportError as error:
        if not _is_command():
            raise
        sys.stderr.write(f"fastembed: error: {error}\n")
        raise SystemExit(2) from None


def _is_command() -> bool:
    """Whether this process is ``python -m fastembed``, or the script ``fastembed``."""
    module = [given.removeprefix("-m") or after for given, after in zip(sys.orig_argv, [*sys.orig_argv[1:], ""], strict=True)]
    is_module = sys.argv[:1] == ["-m"] and "fastembed" in module
    return is_module or os.path.basename(sys.argv[0] if sys.argv else "") == "fastembed"
