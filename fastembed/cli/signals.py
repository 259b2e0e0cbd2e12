"""Signals that ask a command to end: SIGINT (Ctrl-C), SIGTERM and SIGHUP."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


class Interrupted(KeyboardInterrupt):
    """A signal has asked the command to end."""


class Signals:
    """While it is entered, the first signal raises `Interrupted`, or is noted while `deferred`.

    Later ones are ignored, as are those that were ignored before (nohup). After the command of a
    program that is about to end they remain ignored: there is nothing left to interrupt.

    Attributes
    ----------
    received : int or None
        The first signal.
    outcome : str
        What the work so far has led to; empty while nothing is saved.
    """

    def __init__(self, *, program_ends: bool) -> None:
        self.received: int | None = None
        self.outcome = ""
        self._program_ends = program_ends
        self._is_deferred = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
            for number in numbers:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, signal.SIG_IGN if self._program_ends else handler)

    def _handle(self, number: int, _: object) -> None:
        if self.received is None:
            self.received = number
            if not self._is_deferred:
                raise Interrupted

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Let signals wait: whoever is inside looks at `received`."""
        self._is_deferred = True
        try:
            yield
        finally:
            self._is_deferred = False

    def __str__(self) -> str:
        name = "no signal" if self.received is None else signal.Signals(self.received).name
        return f"interrupted by {name}, {self.outcome or 'nothing is saved'}"

    @property
    def status(self) -> int:
        """The exit status after a signal, as shells show it."""
        return 0 if self.received is None else 128 + self.received
