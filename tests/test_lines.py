"""Lines end where they can be read: at 130 columns of code, 100 of comments."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMMENT = re.compile(r"\s*(# |//|/\*|\* )")  # a line that is nothing else


def lines_of(*patterns):
    """(where, line) of all files of text."""
    for path in sorted({path for pattern in patterns for path in ROOT.glob(pattern)}):
        if path.suffix not in (".pyc", ".so"):
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                yield f"{path.relative_to(ROOT)}:{number}", line


def assert_short(lines, limit):
    too_long = [where for where, line in lines if len(line) > limit]
    assert not too_long, f"longer than {limit} columns: {' '.join(too_long)}"


def test_code_ends_at_130_columns():
    built = "*.toml", "Makefile", "tests/**/*.mk"
    assert_short(lines_of("fastembed/**/*.p[yx]*", "src_c/**/*.*", "tests/**/*.py", "*.py", *built), 130)


def test_comments_end_at_100_columns():
    """Those of Python, and its docstrings, are ruff's (W505)."""
    lines = lines_of("fastembed/**/*.p[yx][xd]", "src_c/**/*.*", "*.toml", "Makefile", "tests/**/*.mk")
    assert_short(((where, line) for where, line in lines if COMMENT.match(line)), 100)
