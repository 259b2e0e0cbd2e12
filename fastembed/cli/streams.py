"""Standard streams: what is shown is escaped, and a stream that fails does not end the work."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import TextIO

from .._messages import printable

MAX_LINE = 400  # characters of an error


class UsageError(ValueError):
    """The arguments of a command ask for something that cannot be done."""


class OutputError(Exception):
    """Standard output cannot be written."""


class Output:
    """Standard output.

    Attributes
    ----------
    error : OSError, ValueError or None
        What the first failed write raised. Nothing is written after it.
    is_quiet : bool
        Whether nothing is written at all.
    """

    def __init__(self) -> None:
        self.error: OSError | ValueError | None = None
        self.is_quiet = False
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # escapes what the terminal's encoding lacks

    @property
    def status(self) -> int:
        """The exit status after work that is done: 0; 141 for a closed pipe, 1 for other errors."""
        return 0 if self.error is None else 141 if isinstance(self.error, BrokenPipeError) else 1

    def say(self, text: str) -> None:
        """Show lines, while work goes on that is worth more than they are."""
        self.write("".join(f"{printable(line)}\n" for line in text.split("\n")))

    def show(self, text: str) -> None:
        """Show lines that are the work itself; OutputError if they cannot be written."""
        self.say(text)
        if self.error is not None:
            raise OutputError from self.error

    def write(self, text: str) -> None:
        """Write a text as it is, if that is possible; `error` says whether it was."""
        if self.error is not None or self.is_quiet:
            return
        if sys.stdout is None:
            self.error = ValueError("it is closed")
            return
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except (OSError, ValueError) as error:  # ValueError: closed by this process
            self.error = error
            _discard(sys.stdout)


def warn(text: str) -> None:
    """Show a text on standard error, on one line, cut if it is long."""
    report(" ".join(text.split()))


def report(line: str) -> None:
    """Show a line on standard error; where that fails, nothing is shown."""
    line = printable(line)
    if len(line) > MAX_LINE:
        line = f"{line[: MAX_LINE - 105]} ... {line[-100:]}"
    with stderr_may_fail():
        if sys.stderr is not None:
            print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def stderr_may_fail() -> Iterator[None]:
    """Write to standard error inside; once that fails, nothing more is written to it."""
    try:
        yield
    except (OSError, ValueError):
        _discard(sys.stderr)


def _discard(stream: TextIO) -> None:
    """Redirect a stream that fails to the null device, where its buffer is written at exit."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # no descriptor, or none that is open
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def occupy_closed_descriptors() -> None:
    """Open the null device in place of closed standard streams.

    Else the next file opened would get the number of one, and with it what libraries write there.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
