"""The number of threads that a call may use."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from . import _checks
from ._kernels.backend import kernels

_LIMIT = 1024  # a larger number is taken for a mistake


def get_num_threads() -> int:
    """The number of threads that a call may use, including the caller's.

    Examples
    --------
    >>> import fastembed as fe
    >>> with fe.threads(2):
    ...     fe.get_num_threads()
    2
    """
    return int(kernels.get_num_threads())


def set_num_threads(n: int) -> None:
    """Set the number of threads that a call may use, in this process. It changes no bit of results.

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
    """A context in which calls may use ``n`` threads; the old number is restored afterwards.

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
    """FASTEMBED_NUM_THREADS, or else the processors of this process within its cgroup's quota."""
    wanted = os.environ.get("FASTEMBED_NUM_THREADS")
    if wanted:
        if not wanted.isascii() or not wanted.isdigit() or len(wanted) > 9 or not 1 <= int(wanted) <= _LIMIT:
            raise ImportError(f"FASTEMBED_NUM_THREADS must be from 1 to {_LIMIT}, got {wanted!r}")
        return int(wanted)
    n_processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(n_processors, _quota(), _LIMIT))


def _quota() -> int:
    """The CPU quota of the cgroup (v2, else v1) in processors, rounded up; _LIMIT without one."""
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
