"""Lines of files of vectors: a name, then numbers, with blanks (spaces and tabs) between them."""

from __future__ import annotations

import re

_WORD = re.compile(rb"[^ \t]+")
_NUMBER = re.compile(rb"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|inf(?:inity)?|nan)", re.IGNORECASE)

TOO_FEW, TOO_MANY, NO_NUMBER = 1, 2, 3  # what can be wrong with a line


def is_number(word: bytes) -> bool:
    """Whether a word is a number in the notation of Python, without underscores."""
    return _NUMBER.fullmatch(word) is not None


class LineFault(Exception):
    """What is wrong with a line.

    Attributes
    ----------
    kind : int
    first, end : int
        The word that it is about, by its bytes; for TOO_FEW, 0 and how many words there are.
    """

    def __init__(self, kind: int, first: int, end: int) -> None:
        super().__init__(kind, first, end)
        self.kind, self.first, self.end = kind, first, end


def parse_line(line: bytes, n_cols: int, numbers_in_names: bool = False) -> tuple[int, list[float]] | None:
    """The end of the name of a line, and its numbers as `float` reads them; None if it is blank.

    The numbers are the last ``n_cols`` words, and one blank before them ends the name, which may
    be empty or have blanks. A name of several words whose last is a number means that the line has
    too many numbers, unless ``numbers_in_names``.
    """
    line = line.rstrip(b" \t\r\n")
    if not line:
        return None
    words = [word.span() for word in _WORD.finditer(line) if word.start() > 0]
    if len(words) < n_cols:
        raise LineFault(TOO_FEW, 0, len(words))
    if len(words) > n_cols and not numbers_in_names and is_number(line[slice(*words[-n_cols - 1])]):
        raise LineFault(TOO_MANY, *words[-n_cols - 1])
    for first, end in words[-n_cols:]:
        if not is_number(line[first:end]):
            raise LineFault(NO_NUMBER, first, end)
    return words[-n_cols][0] - 1, [float(line[first:end]) for first, end in words[-n_cols:]]
