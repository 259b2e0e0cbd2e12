"""python -m plants.leaks FOLDER: fails if a leak report in it names the C of this project.

CPython and NumPy leave blocks of their own at exit.
"""

from __future__ import annotations

import sys
from pathlib import Path


def ours(folder: Path) -> list[str]:
    """The leaks, each a paragraph of a report, whose stack goes through src_c/."""
    texts = [path.read_text(errors="replace") for path in sorted(folder.iterdir())]
    return [part for text in texts for part in text.split("\n\n") if "leak of" in part and "src_c/" in part]


def main() -> int:
    found = ours(Path(sys.argv[1]))
    print("\n\n".join(found) or f"{len(list(Path(sys.argv[1]).iterdir()))} reports, none names src_c/")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
