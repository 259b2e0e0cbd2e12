"""The command line: `python -m fastembed`, and the console script `fastembed`."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import warnings
from collections.abc import Sequence

from .arguments import parser
from .errors import in_words_of_commands
from .signals import Signals
from .streams import Output, OutputError, occupy_closed_descriptors, warn

# The module of each command, which is imported to run it, and its function there.
_COMMANDS = {
    "train": ("train", "train"),
    "sample": ("show", "sample"),
    "neighbors": ("show", "neighbors"),
    "convert": ("convert", "convert"),
    "plot": ("pictures.plot", "plot"),
    "explore": ("pictures.explore", "explore"),
    "ngram": ("ngram", "ngram"),
    "shared": ("about", "shared"),
    "bench": ("benchmark", "run_benchmarks"),
    "info": ("about", "info"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    It is 0; 1 if the work is done and standard output could not be written, 141 if that was a pipe
    whose reader had gone; 2 after an error, which is one line on standard error; 130, 143 or 129
    after SIGINT, SIGTERM or SIGHUP.
    """
    occupy_closed_descriptors()
    signals, out = Signals(program_ends=argv is None), Output()
    try:
        with signals, warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: warn(f"fastembed: {message}")
            return _run(_parsed(argv, out), out, signals)
    except KeyboardInterrupt:
        warn(f"fastembed: {signals}")
        return signals.status or 130


def _parsed(argv: Sequence[str] | None, out: Output) -> argparse.Namespace:
    if "_ARGCOMPLETE" in os.environ:  # a shell asks for completions
        import argcomplete

        argcomplete.autocomplete(parser(is_complete=True))
    with contextlib.redirect_stdout(io.StringIO()) as text:  # argparse ignores that it cannot be written
        try:
            return parser().parse_args(argv)
        except SystemExit as left:  # after an error, or with the text of --help or --version
            code = left.code
    out.write(text.getvalue())
    raise SystemExit(code or _status(out, "fastembed", ""))


def _run(arguments: argparse.Namespace, out: Output, signals: Signals) -> int:
    command = f"fastembed {arguments.command}"
    out.is_quiet = getattr(arguments, "quiet", False)
    try:
        module, function = _COMMANDS[arguments.command]
        run = getattr(importlib.import_module(f".{module}", __name__), function)
        run(arguments, out, *([signals] if arguments.command == "train" else []))
    except OutputError:
        pass
    except (OSError, ValueError, MemoryError, ImportError, Warning) as error:
        warn(f"{command}: error: {in_words_of_commands(error)}")
        return 2
    return signals.status or _status(out, command, signals.outcome)


def _status(out: Output, command: str, outcome: str) -> int:
    """The status after work that is done. A closed pipe needs a word if the work has an outcome."""
    if out.status == 1 or (out.error is not None and outcome):
        warn(f"{command}: standard output cannot be written: {out.error}{outcome and f'; {outcome}'}")
    return out.status
