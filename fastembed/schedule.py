"""Learning rates that depend on the step, for ``lr=`` of any optimiser."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from . import _checks
from ._interactive import completion
from ._kernels.floats import own_floats

__all__ = ["Decay", "Warmup", "cosine", "linear", "warmup"]
__dir__ = completion.names_of(__all__)

Rate = float | Callable[[int], float]


@dataclass(frozen=True, repr=False)
class Decay:
    """A learning rate that goes from ``lr`` in step 0 to ``end`` in step ``steps``, and stays."""

    shape: str
    lr: float
    steps: int
    end: float

    @own_floats
    def __call__(self, step: int) -> float:
        """The learning rate of a step, from 0."""
        x = min(_checks.size("step", step) / self.steps, 1.0)
        done = x if self.shape == "linear" else (1 - math.cos(math.pi * x)) / 2
        return self.lr * (1 - done) + self.end * done

    def __repr__(self) -> str:
        return f"{self.shape}({self.lr}, {self.steps}{f', end={self.end}' if self.end else ''})"


@dataclass(frozen=True, repr=False)
class Warmup:
    """A learning rate that rises in equal parts for ``steps`` steps to that of ``lr``."""

    lr: Rate
    steps: int

    @own_floats
    def __call__(self, step: int) -> float:
        """The learning rate of a step, from 0."""
        number = _checks.size("step", step)
        of_lr = self.lr(max(number - self.steps, 0)) if callable(self.lr) else self.lr
        return of_lr if number >= self.steps else of_lr * (number + 1) / (self.steps + 1)

    def __repr__(self) -> str:
        return f"warmup({self.lr!r}, {self.steps})"


def linear(lr: float, steps: int, end: float = 0.0) -> Decay:
    """A learning rate that falls in equal parts.

    Parameters
    ----------
    lr : float
        That of step 0.
    steps : int
        The number of steps until it is ``end``, at least 1.
    end : float

    Notes
    -----
    With x = step / steps, at most 1: ``lr (1 - x) + end x``.

    Examples
    --------
    >>> import fastembed as fe
    >>> rate = fe.schedule.linear(1.0, 4)
    >>> [rate(step) for step in range(6)]
    [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    >>> opt = fe.optim.Adam(fe.Embedding(3, 2), lr=rate)
    """
    return _decay("linear", lr, steps, end)


def cosine(lr: float, steps: int, end: float = 0.0) -> Decay:
    """A learning rate that falls by half a period of the cosine.

    Parameters
    ----------
    lr, steps, end
        As in `linear`.

    Notes
    -----
    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts" (2017), without a
    restart; with x = step / steps, at most 1, and y = (1 - cos(pi x)) / 2: ``lr (1 - y) + end y``.

    Examples
    --------
    >>> import fastembed as fe
    >>> [round(fe.schedule.cosine(1.0, 4)(step), 3) for step in range(5)]
    [1.0, 0.854, 0.5, 0.146, 0.0]
    """
    return _decay("cosine", lr, steps, end)


def warmup(lr: Rate, steps: int) -> Warmup:
    """A learning rate that rises for some steps, and then is ``lr``, or begins with it.

    Parameters
    ----------
    lr : float, or function of the step
        A function is called with 0 until step ``steps``, from which it goes on.
    steps : int
        How many steps have less than the whole rate: (step + 1) / (steps + 1) of it.

    Examples
    --------
    >>> import fastembed as fe
    >>> rate = fe.schedule.warmup(fe.schedule.linear(1.0, 2), 3)
    >>> rate, [rate(step) for step in range(6)]
    (warmup(linear(1.0, 2), 3), [0.25, 0.5, 0.75, 1.0, 0.5, 0.0])
    """
    return Warmup(_checks.learning_rate("lr", lr), _checks.size("steps", steps))


def _decay(shape: str, lr: float, steps: int, end: float) -> Decay:
    n_steps = _checks.size("steps", steps)
    if not n_steps:
        raise ValueError("steps must be at least 1, got 0")
    return Decay(shape, _checks.non_negative("lr", lr), n_steps, _checks.non_negative("end", end))
