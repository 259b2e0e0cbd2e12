"""Signals at random moments of calls that write: the state is that before the call, or after it.

Where it is that before, the call is made again; either way the next calls give the bits of a twin
that was not disturbed.
"""

from __future__ import annotations

import collections
import contextlib
import random
import signal
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .calls import CALLS, cases, made
from .subjects import Subject, difference


class Alarm:
    """A signal after some seconds, which raises KeyboardInterrupt while the block runs."""

    def __init__(self) -> None:
        self.is_armed = False

    def _raise(self, *_: object) -> None:
        if self.is_armed:
            self.is_armed = False
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def handled(self) -> Iterator[None]:
        before = signal.signal(signal.SIGALRM, self._raise)
        try:
            yield
        finally:
            signal.signal(signal.SIGALRM, before)

    def interrupts(self, delay: float, call: Any, *arguments: Any) -> bool:
        """Whether a signal after ``delay`` seconds interrupted the call."""
        try:
            self.is_armed = True
            signal.setitimer(signal.ITIMER_REAL, max(delay, 1e-6))
            call(*arguments)
            self.is_armed = False
        except KeyboardInterrupt:
            return True
        finally:
            self.is_armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
        return False


class Twin:
    """What an undisturbed subject holds before a call, after it, and some calls later."""

    def __init__(self, case: tuple[str, str, str], folder: Path) -> None:
        name, kind, optimizer = case
        times = []
        for k in range(5):
            subject = made(kind, optimizer, folder / "twin")
            prepared = CALLS[name].prepare(subject)
            self.before = subject.held() if k == 0 else self.before
            begun = time.perf_counter()
            CALLS[name].call(subject, prepared)
            times.append(time.perf_counter() - begun)
            if k == 0:
                self.after = subject.held()
                self.later = subject.later()
            subject.close()
        self.takes = statistics.median(times)


def fault_of(case: tuple[str, str, str], twin: Twin, subject: Subject, prepared: Any) -> str | None:
    """What is wrong with a subject whose call was interrupted."""
    try:
        held = subject.held()
        if held not in (twin.before, twin.after):
            found = {"before": difference(held, twin.before), "after": difference(held, twin.after)}
            return f"torn: {min(found.values(), key=len)} are neither those before nor those after"
        if held == twin.before and held != twin.after:
            CALLS[case[0]].call(subject, prepared)
        differs = difference(subject.later(), twin.later)
        return f"going on gives other bits of {differs}" if differs else None
    except Exception as error:
        return f"going on raises {error!r:.200}"


def trial(case: tuple[str, str, str], twin: Twin, rng: random.Random, alarm: Alarm, folder: Path) -> tuple[bool, str | None]:
    """Whether the call was interrupted, and what was wrong then."""
    name, kind, optimizer = case
    subject = made(kind, optimizer, folder / "subject")
    prepared, errors = CALLS[name].prepare(subject), np.geterr()
    was_interrupted = alarm.interrupts(rng.uniform(0, 1.2 * twin.takes), CALLS[name].call, subject, prepared)
    if np.geterr() != errors:
        return was_interrupted, f"leaves {np.geterr()} as np.seterr"
    fault = fault_of(case, twin, subject, prepared) if was_interrupted else None
    subject.close()
    return was_interrupted, fault


def run(n: int, seed: int, names: str = "", optimizers: str = "") -> int:
    """n interrupted calls of all kinds; prints what was torn. 1 if something was."""
    warnings.simplefilter("ignore")
    rng, alarm = random.Random(seed), Alarm()
    wanted, counts = cases(names, optimizers), collections.Counter[str]()
    faults: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as root, alarm.handled():
        folder = Path(root)
        twins = {case: Twin(case, folder) for case in wanted}
        for k in range(10 * n):
            if sum(counts.values()) >= n:
                break
            case = wanted[k % len(wanted)]
            was_interrupted, fault = trial(case, twins[case], rng, alarm, folder)
            counts[case[0]] += was_interrupted
            if fault is not None:
                faults[f"{' '.join(case)}: {fault}"] += 1
    for fault, number in faults.most_common():
        print(f"{number:6} times {fault}")
    print(", ".join(f"{name} {number:,}" for name, number in sorted(counts.items())))
    print(f"{sum(counts.values()):,} interrupts of {len(wanted)} kinds of calls, {sum(faults.values())} faults, SEED={seed}")
    return int(bool(faults))
