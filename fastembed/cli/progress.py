"""The progress of training and of measurements, on standard error."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Generator, Iterable, Sequence
from typing import Any, TypeVar

from .streams import report, stderr_may_fail

T = TypeVar("T")


def with_progress(losses: Iterable[float], first: int, total: int) -> Generator[float, None, None]:
    """Yield the losses, showing progress on stderr.

    On a terminal, if tqdm is installed, it is a progress bar, else a line every 100 steps.
    """
    bar = _bar(first, total)
    began = time.perf_counter()
    recent: list[float] = []
    try:
        for step, loss in enumerate(losses, first + 1):
            recent = [*recent[-99:], loss]
            if bar is not None:
                with stderr_may_fail():
                    bar.set_postfix(loss=f"{mean(recent):.3f}", refresh=False)
                    bar.update()
            elif step % 100 == 0 or step == total:
                rate = (step - first) / (time.perf_counter() - began)
                report(f"step {step:5d} / {total}  loss {mean(recent):.3f}  {rate:.0f} steps/s")
            yield loss
    finally:
        if bar is not None:
            with stderr_may_fail():
                bar.close()


def with_bar(items: Sequence[T], what: str) -> Generator[T, None, None]:
    """Yield the items, with a progress bar on a terminal if tqdm is installed."""
    bar = _bar(0, len(items), what)
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


def _bar(first: int, total: int, what: str | None = None) -> Any:
    """A progress bar; None if there is no terminal, or no tqdm."""
    with stderr_may_fail(), contextlib.suppress(ImportError):
        if sys.stderr is not None and sys.stderr.isatty():
            from tqdm import tqdm

            return tqdm(total=total, initial=first, desc=what, unit="step" if what is None else "call")
    return None


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
