"""What is read: every public name has an example, and no line of code or of prose is too long."""

import re
from pathlib import Path

import fastembed

ROOT = Path(__file__).parents[1]
COMMENT = re.compile(r"\s*(#|//|/\*|\* )")  # a line that is nothing else
NO_PROSE = re.compile(r"(\s*\||    |\s*([-*] )?!?\[[^]]*\](: |\()\S*\)?$)")  # a table, code, or nothing but a link


def lines_of(*patterns):
    """(where, line) of all files of text."""
    for path in sorted({path for pattern in patterns for path in ROOT.glob(pattern)}):
        if path.suffix not in (".pyc", ".so"):
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                yield f"{path.relative_to(ROOT)}:{number}", line


def prose_of(*patterns):
    """The same of Markdown outside blocks of code, tables and links."""
    in_code = False
    for where, line in lines_of(*patterns):
        in_code ^= line.lstrip().startswith("```")
        if not in_code and not NO_PROSE.match(line):
            yield where, line


def assert_short(lines, limit):
    too_long = [where for where, line in lines if len(line) > limit]
    assert not too_long, f"longer than {limit} columns: {' '.join(too_long)}"


def test_public_names_have_documented_examples():
    for name in fastembed.__all__:
        public = getattr(fastembed, name)
        if callable(public):
            assert ">>>" in public.__doc__ or name == "show_runtime", name


def test_lines_of_code_end_at_130_columns():
    assert_short(lines_of("fastembed/**/*.p[yx]*", "src_c/**/*.*", "tests/**/*.py", "*.py", "*.toml", "Makefile"), 130)


def test_comments_end_at_100_columns():
    """Those of Python are ruff's."""
    lines = lines_of("fastembed/**/*.p[yx][xd]", "src_c/**/*.*", "*.toml", "Makefile")
    assert_short(((where, line) for where, line in lines if COMMENT.match(line)), 100)


def test_prose_ends_at_100_columns():
    assert_short(prose_of("*.md", "docs/**/*.md"), 100)
