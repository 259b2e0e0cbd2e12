"""Ranks as threads of one process, with messages in queues: groups without MPI or gloo."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from fastembed.distributed.ranks.errors import Unfinished
from fastembed.distributed.ranks.group import Group

IS_OVER = object()  # behind the last message of a rank that sends no more


class Threads:
    """The transport of one of several threads; ``alter`` may change what it sends.

    Who waits for a rank whose work is over is told so, as if the deadline had passed: no result
    depends on how fast a thread is.
    """

    name = "threads"

    def __init__(self, rank: int, queues: list[list[queue.SimpleQueue]], alter: Any = None) -> None:
        self.rank, self.size = rank, len(queues)
        self._queues, self._alter = queues, alter or (lambda peer, data: data)
        self._are_over: set[int] = set()
        self.n_exchanges = 0
        self.is_broken = False

    def exchange(self, sends, receives, deadline):
        self.n_exchanges += 1
        for peer, data in enumerate(sends):
            if data is not None:
                self._queues[self.rank][peer].put(self._alter(peer, data.copy()))
        late = []
        for peer, data in enumerate(receives):
            if data is not None:
                got = self._message_of(peer, deadline)
                if got is None:
                    late.append(peer)
                    continue
                if len(got) != len(data):
                    raise Unfinished([peer], "a message was shorter than announced")
                data[:] = got
        if late:
            raise Unfinished(late, "no answer within the deadline")

    def _message_of(self, peer, deadline):
        """The next message; None if there is none by the deadline."""
        if peer not in self._are_over:
            with contextlib.suppress(queue.Empty):
                got = self._queues[peer][self.rank].get(timeout=max(deadline - time.monotonic(), 0.0))
                if got is not IS_OVER:
                    return got
                self._are_over.add(peer)
        return None

    def end(self):
        """Send no more."""
        for messages in self._queues[self.rank]:
            messages.put(IS_OVER)

    def break_off(self):
        self.is_broken = True


def run(
    size: int, work: Callable[[Group], Any], *, deadline: float = 600.0, alter: dict[int, Any] | None = None
) -> tuple[list[Any], dict[int, Exception]]:
    """What ``work(group)`` returned in each of ``size`` ranks; what it raised, by rank.

    ``alter`` has functions (peer, data) -> data for the messages of some ranks.
    """
    queues = [[queue.SimpleQueue() for _ in range(size)] for _ in range(size)]
    results: list[Any] = [None] * size
    errors: dict[int, Exception] = {}

    def one(rank: int) -> None:
        transport = Threads(rank, queues, (alter or {}).get(rank))
        try:
            results[rank] = work(Group(transport, deadline=deadline))
        except Exception as error:
            errors[rank] = error
        finally:
            transport.end()

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results, errors


def results(size: int, work: Callable[[Group], Any], **options: Any) -> list[Any]:
    """`run` of work that must not fail."""
    found, errors = run(size, work, **options)
    for error in errors.values():
        raise error
    return found
