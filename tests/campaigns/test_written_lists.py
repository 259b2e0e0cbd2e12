"""Mutants and branches: what the tools draw and read, and that the written lists are true."""

from pathlib import Path

import pytest
import written_list
from mutation.mutate import mutations

CAMPAIGNS = Path(__file__).parent

C_SOURCE = """\
/* a < b */
#define TWO 2
static int half(int n)
{
    if (n < 0 && n != -4)
        reset(n);
    prefetch(row + n * 64);
    return n / 2;
}
"""

PY_SOURCE = '''\
def check(n):
    """At least 1 and below 9."""
    if n is not None and n >= 10:
        raise ValueError(f"{n} + 1")  # n > 3
    limits.append(n)
'''


def drawn(path, text):
    return {mutation.lines(text)[1] for mutation in mutations(path, text)}


def test_the_mutants_of_c():
    assert drawn("half.c", C_SOURCE) == {
        "if (n <= 0 && n != -4)", "if (n < 0 || n != -4)", "if (n < 0 && n == -4)", "if (n < 1 && n != -4)",
        "if (n < -1 && n != -4)", "if (n < 0 && n != -5)", "if (n < 0 && n != -3)", ";", "return n * 2;", "return n / 3;",
        "return n / 1;",
    }  # fmt: skip


def test_the_mutants_of_python():
    assert drawn("check.py", PY_SOURCE) == {
        "if n is None and n >= 10:", "if n is not None or n >= 10:", "if n is not None and n > 10:",
        "if n is not None and n >= 11:", "if n is not None and n >= 9:", "pass",
    }  # fmt: skip


@pytest.mark.parametrize(("name", "n_lines"), [("branches/exceptions.txt", 4), ("mutation/equivalent.txt", 4)])
def test_what_the_lists_name_is_still_there(name, n_lines):
    written_list.read(CAMPAIGNS / name, n_lines)


def test_an_entry_whose_line_is_gone_is_an_error(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("# a comment\n\nsrc_c/hash.c\nreturn h ^ h >> 33;\na reason\n")
    assert written_list.read(path, 3) == [("src_c/hash.c", "return h ^ h >> 33;", "a reason")]
    for text, message in (
        ("src_c/hash.c\nreturn 1;\na reason", "no such line: return 1;"),
        ("src_c/hash.c\na", "2 lines, not 3"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            written_list.read(path, 3)
