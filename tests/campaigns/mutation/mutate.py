"""Where a source can be changed, and how: one operator, constant or statement at a time."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SWAPS = {
    "c": {
        " < ": " <= ", " <= ": " < ", " > ": " >= ", " >= ": " > ", " == ": " != ", " != ": " == ", " && ": " || ",
        " || ": " && ", " + ": " - ", " - ": " + ", " * ": " + ", " / ": " * ", " % ": " / ", " & ": " | ", " | ": " & ",
        " << ": " >> ", " >> ": " << ", " += ": " -= ", " -= ": " += ", " *= ": " = ", "true": "false", "false": "true",
    },
    "py": {
        " < ": " <= ", " <= ": " < ", " > ": " >= ", " >= ": " > ", " == ": " != ", " != ": " == ", " and ": " or ",
        " or ": " and ", " + ": " - ", " - ": " + ", " * ": " + ", " / ": " * ", " % ": " // ", " & ": " | ", " | ": " & ",
        " in ": " not in ", " not in ": " in ", " is not ": " is ", " is ": " is not ", "True": "False", "False": "True",
        "not ": "", " any(": " all(", " all(": " any(",
    },
}  # fmt: skip

NUMBER = re.compile(r"(?<![\w.\"])(0x[0-9a-f]+|\d+)(?![\w.])")

# A statement on a line of its own that declares nothing and ends nothing.
STATEMENT = {
    "c": re.compile(
        r"^ *+(?!return|break|case|default|enum|typedef|static|const )[^\n]*?( [-+*/|&^]?= |\+\+|--|\()[^\n]*;$", re.M
    ),
    "py": re.compile(
        r"^ ++(?!return|def|class|if|elif|else|for|while|with|try|except|from|import|@)[a-z_][^\n]*[^:,(\[{\n]$", re.M
    ),
}
DROPPED = {"c": ";", "py": "pass"}


@dataclass(frozen=True)
class Mutation:
    path: str  # from the root on
    at: int
    old: str
    new: str

    def applied(self, text: str) -> str:
        assert text[self.at : self.at + len(self.old)] == self.old
        return text[: self.at] + self.new + text[self.at + len(self.old) :]

    def lines(self, text: str) -> tuple[str, str]:
        """The line as it is, and as it becomes."""
        start = text.rfind("\n", 0, self.at) + 1
        before, after = text, self.applied(text)
        return before[start:].split("\n", 1)[0].strip(), after[start:].split("\n", 1)[0].strip()

    def number_of_line(self, text: str) -> int:
        return text.count("\n", 0, self.at) + 1


def blanked(text: str, language: str) -> str:
    """The text with spaces for comments, strings, annotations, what the preprocessor reads, and
    statements that fetch memory ahead, which no result shows."""
    if language == "c":
        pattern = r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|^ *#(?:\\\n|[^\n])*"
        pattern += r"|^ *(?:NAME\()?(?:__builtin_)?prefetch\w*\)?\([^\n]*;$"
        return re.sub(pattern, lambda found: re.sub(r"[^\n]", " ", found[0]), text, flags=re.S | re.M)
    lines = text.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    spans = [(token.start, token.end) for token in tokens if token.type in (tokenize.STRING, tokenize.COMMENT)]
    for node in ast.walk(ast.parse(text)):
        for note in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if note is not None:
                spans.append(((note.lineno, note.col_offset), (note.end_lineno, note.end_col_offset)))
    characters = list(text)
    for span in spans:
        first, end = (starts[line - 1] + column for line, column in span)
        characters[first:end] = ["\n" if c == "\n" else " " for c in characters[first:end]]
    return "".join(characters)


def mutations(path: str, text: str) -> Iterator[Mutation]:
    """Every mutation of a source."""
    language = "py" if Path(path).suffix == ".py" else "c"
    code = blanked(text, language)
    swaps = SWAPS[language]
    longest_first = "|".join(re.escape(old) for old in sorted(swaps, key=len, reverse=True))
    for found in re.finditer(rf"(?<!\w)(?:{longest_first})(?!\w)|(?:{longest_first})(?<= )", code):
        yield Mutation(path, found.start(), found[0], swaps[found[0]])
    for found in NUMBER.finditer(code):
        for change in (1, -1):
            yield Mutation(path, found.start(), found[0], str(int(found[0], 0) + change))
    for found in STATEMENT[language].finditer(code):
        whole = text[found.start() : found.end()]
        if whole.count("(") == whole.count(")") and whole.count("{") == whole.count("}"):
            indent = len(whole) - len(whole.lstrip())
            yield Mutation(path, found.start() + indent, whole[indent:], DROPPED[language])
