"""fastembed with all threads against itself with one: alone, and beside another thread pool.

The other pool is PyTorch's. After an operation its OpenMP threads spin for some milliseconds, each
on a processor that a thread of the next call could use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .. import threads
from .peers import OURS, Contender, Inputs
from .timing import Ready

ITSELF = "itself"  # fastembed with one thread, as a peer


def _spinning_threads() -> Callable[[], Any]:
    """An operation of PyTorch that all its threads take part in; they then spin."""
    import torch

    numbers = torch.zeros(1 << 20)
    return lambda: numbers.add_(1.0)


def _nothing() -> None:
    pass


def _in_turns(contender: Contender, peer: str, way: str, is_beside: bool) -> Contender:
    """A contender whose calls follow, untimed, an operation of the other pool."""

    def setup(inputs: Inputs) -> Ready:
        disturb, ready = _spinning_threads() if is_beside else _nothing, contender.ready(inputs)

        def seconds(batches: Sequence[int]) -> float:
            total = 0.0
            for batch in batches:
                disturb()
                total += ready.seconds([batch])
            return total / len(batches)

        return Ready(ready.answer, seconds)

    return Contender(peer, way, setup)


def _on_one_thread(contender: Contender) -> Contender:
    def setup(inputs: Inputs) -> Ready:
        ready = contender.ready(inputs)

        def seconds(batches: Sequence[int]) -> float:
            with threads(1):
                return ready.seconds(batches)

        return Ready(ready.answer, seconds)

    return Contender(contender.peer, contender.way, setup)


def against_itself(contenders: Iterable[Contender], is_beside: bool) -> tuple[Contender, ...]:
    """Of the contenders of a workload: fastembed, then itself with one thread.

    Parameters
    ----------
    contenders : iterable of Contender
    is_beside : bool
        Whether each call follows an operation of PyTorch. PyTorch's ways of doing the work, called
        likewise, are then contenders too.
    """
    kept = list(contenders)
    ours = next(contender for contender in kept if contender.peer == OURS)
    made = [
        _in_turns(ours, OURS, ours.way, is_beside),
        _in_turns(_on_one_thread(ours), ITSELF, f"{ours.way}, one thread", is_beside),
    ]
    if is_beside:
        made += [_in_turns(other, other.peer, other.way, True) for other in kept if other.peer == "torch"]
    return tuple(made)
