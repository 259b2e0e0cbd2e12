"""Written lists of exceptions: blocks of lines with a blank line between; # begins a comment."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]


def read(path: Path, n_lines: int) -> list[tuple[str, ...]]:
    """The blocks. The first line of each is a source, the second a line in it, or * for any line;
    the last is a reason.

    Raises ValueError for a block of another length, and if the source has no such line any more.
    """
    blocks = []
    for text in path.read_text().split("\n\n"):
        block = tuple(line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#"))
        if not block:
            continue
        if len(block) != n_lines:
            raise ValueError(f"{path.name}: {len(block)} lines, not {n_lines}: {block[0]}")
        source, line = block[:2]
        if line not in ["*"] + [known.strip() for known in (ROOT / source).read_text().splitlines()]:
            raise ValueError(f"{path.name}: {source} has no such line: {line}")
        blocks.append(block)
    return blocks
