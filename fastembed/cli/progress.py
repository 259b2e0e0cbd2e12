"""The progress of training, of measurements, and of files read and written, on standard error."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from .._messages import printable
from .streams import report, stderr_may_fail

T = TypeVar("T")


def with_progress(
    losses: Iterable[float], first: int, total: int, note: Callable[[], str], *, quiet: bool = False
) -> Generator[float, None, None]:
    """Yield the losses, showing progress on stderr, with a note beside it.

    On a terminal, if tqdm is installed, it is a progress bar, else a line every 100 steps.
    """
    if quiet:
        yield from losses
        return
    bar = _bar(total=total, initial=first, unit="step")
    began = time.perf_counter()
    recent: list[float] = []
    try:
        for step, loss in enumerate(losses, first + 1):
            recent = [*recent[-99:], loss]
            if bar is not None:
                with stderr_may_fail():
                    bar.set_postfix_str(f"loss {mean(recent):.3f}  {printable(note())}", refresh=False)
                    bar.update()
            elif step % 100 == 0 or step == total:
                rate = (step - first) / (time.perf_counter() - began)
                report(f"step {step:5d} / {total}  loss {mean(recent):.3f}  {rate:.0f} steps/s  {note()}".rstrip())
            yield loss
    finally:
        if bar is not None:
            with stderr_may_fail():
                bar.close()


@contextlib.contextmanager
def progress_of(what: str, unit: str = "B", *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A function to call with the bytes that are done and all: a progress bar on a terminal."""
    bars: list[Any] = []

    def progress(n_done: int, n_all: int) -> None:
        if not bars:
            bars.append(None if quiet else _bar(total=n_all, desc=what, unit=unit, unit_scale=True))
        if bars[0] is not None:
            with stderr_may_fail():
                bars[0].update(n_done - bars[0].n)

    try:
        yield progress
    finally:
        if bars and bars[0] is not None:
            with stderr_may_fail():
                bars[0].close()


def with_bar(items: Sequence[T], what: str) -> Generator[T, None, None]:
    """Yield the items, with a progress bar on a terminal if tqdm is installed."""
    bar = _bar(total=len(items), desc=what, unit="call")
    try:
        for item in items:
            yield item
            if bar is not None:
                with stderr_may_fail():
                    bar.update()
    finally:
        if bar is not None:
            with stderr_may_fail():
                bar.close()


def _bar(**options: Any) -> Any:
    """A progress bar; None if there is no terminal, or no tqdm."""
    with stderr_may_fail(), contextlib.suppress(ImportError):
        if sys.stderr is not None and sys.stderr.isatty():
            from tqdm import tqdm

            return tqdm(**options)
    return None


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
