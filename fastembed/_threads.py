"""How many threads a call may use."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from . import _checks
from ._kernels.backend import kernels

_LIMIT = 1024  # more than any machine gains from; a larger number is a mistake


def get_num_threads() -> int:
    """How many threads a call may use, the caller's included.

    Examples
    --------
    >>> import fastembed as fe
    >>> with fe.threads(2):
    ...     fe.get_num_threads()
    2
    """
    return int(kernels.get_num_threads())


def set_num_threads(n: int) -> None:
    """Set how many threads a call may use, for the whole process. Results do not depend on it, to the bit.

    Parameters
    ----------
    n : int
        From 1 to 1024.

    Examples
    --------
    >>> import fastembed as fe
    >>> before = fe.get_num_threads()
    >>> fe.set_num_threads(1)
    >>> fe.get_num_threads()
    1
    >>> fe.set_num_threads(before)
    """
    if not 1 <= _checks.size("n", n) <= _LIMIT:
        raise ValueError(f"n must be from 1 to {_LIMIT} threads, got {n}")
    kernels.set_num_threads(n)


@contextlib.contextmanager
def threads(n: int) -> Iterator[None]:
    """A context in which calls may use ``n`` threads; afterwards it is as before.

    Examples
    --------
    >>> import numpy as np, fastembed as fe
    >>> with fe.threads(1):
    ...     x = fe.gather(np.ones((3, 2)), [0, 2])
    """
    before = get_num_threads()
    set_num_threads(n)
    try:
        yield
    finally:
        kernels.set_num_threads(before)


def _default() -> int:
    """FASTEMBED_NUM_THREADS; else the processors that this process may run on, within its control group's quota."""
    wanted = os.environ.get("FASTEMBED_NUM_THREADS")
    if wanted:
        if not wanted.isascii() or not wanted.isdigit() or not 1 <= int(wanted) <= _LIMIT:
            raise ImportError(f"FASTEMBED_NUM_THREADS must be from 1 to {_LIMIT}, got {wanted!r}")
        return int(wanted)
    n_processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(n_processors, _quota(), _LIMIT))


def _quota() -> int:
    """Processors that the control group's quota (version 2, else 1) amounts to, rounded up; without one a number too large."""
    for files in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):
        try:
            words = " ".join(_read(f"/sys/fs/cgroup/{file}") for file in files).split()
            quota, period = int(words[0]), int(words[1])
        except (OSError, ValueError, IndexError):
            continue
        if quota > 0 and period > 0:
            return -(-quota // period)
    return _LIMIT


def _read(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()


kernels.set_num_threads(_default())
