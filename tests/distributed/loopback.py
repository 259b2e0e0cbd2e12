"""Ranks as threads of one process, with messages in queues: groups without MPI or gloo."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from fastembed.distributed.ranks.errors import Unfinished
from fastembed.distributed.ranks.group import Group


class Threads:
    """The transport of one of several threads; ``alter`` may change what it sends."""

    name = "threads"

    def __init__(self, rank: int, queues: list[list[queue.SimpleQueue]], alter: Any = None) -> None:
        self.rank, self.size = rank, len(queues)
        self._queues, self._alter = queues, alter or (lambda peer, data: data)
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
                try:
                    got = self._queues[peer][self.rank].get(timeout=max(deadline - time.monotonic(), 0.0))
                except queue.Empty:
                    late.append(peer)
                    continue
                if len(got) != len(data):
                    raise Unfinished([peer], "a message was shorter than announced")
                data[:] = got
        if late:
            raise Unfinished(late, "no answer within the deadline")

    def break_off(self):
        self.is_broken = True


def run(
    size: int, work: Callable[[Group], Any], *, deadline: float = 20.0, alter: dict[int, Any] | None = None
) -> tuple[list[Any], dict[int, Exception]]:
    """What ``work(group)`` returned in each of ``size`` ranks; what it raised, by rank.

    ``alter`` has functions (peer, data) -> data for the messages of some ranks.
    """
    queues = [[queue.SimpleQueue() for _ in range(size)] for _ in range(size)]
    results: list[Any] = [None] * size
    errors: dict[int, Exception] = {}

    def one(rank: int) -> None:
        try:
            results[rank] = work(Group(Threads(rank, queues, (alter or {}).get(rank)), deadline=deadline))
        except Exception as error:
            errors[rank] = error

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
