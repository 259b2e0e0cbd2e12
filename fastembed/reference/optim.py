"""SGD and Adam with dense meaning: every element moves in every step, whether the batch touched it or not.

The scalars of a step are computed in float64 and rounded once to the layer's dtype; the order of operations below is the
definition that the arrays' optimisers keep to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from ._nested import rounding, shape
from .layers import Parameter, _Layer


def _elements(item: Any, dtype: str) -> Iterator[tuple[list[float], list[float]]]:
    """The innermost rows of everything that an item updates, each with its gradient."""
    if isinstance(item, Parameter):
        grads = item.grad
        yield from zip(_rows(item.data), _rows(grads) if grads is not None else _zeros(item.data), strict=True)
    else:
        for name, table in item.tables.items():
            yield from zip(table, item.grads()[name].to_dense(len(table)), strict=True)


def _rows(data: Any) -> list[list[float]]:
    return [data] if len(shape(data)) == 1 else [row for part in data for row in _rows(part)]


def _zeros(data: Any) -> list[list[float]]:
    return [[0.0] * len(row) for row in _rows(data)]


class _Optimizer:
    def __init__(self, layers_and_parameters: Any, lr: float, dtype: str) -> None:
        self.items = layers_and_parameters if isinstance(layers_and_parameters, list | tuple) else [layers_and_parameters]
        self.lr = lr
        self.dtype = dtype
        self.steps = [0 for _ in self.items]

    def zero_grad(self) -> None:
        for item in self.items:
            item.zero_grad()

    def step(self) -> None:
        """One step of every item; without a gradient it is a step with a gradient of zeros."""
        for k, item in enumerate(self.items):
            self.steps[k] += 1
            dtype = item.dtype if isinstance(item, _Layer) else self.dtype
            self._update(k, list(_elements(item, dtype)), rounding(dtype))

    def _update(self, k: int, pairs: list[tuple[list[float], list[float]]], round_: Any) -> None:
        raise NotImplementedError


class SGD(_Optimizer):
    """w = w - lr g"""

    def __init__(self, layers_and_parameters: Any, lr: float = 1e-3, *, dtype: str = "float64") -> None:
        super().__init__(layers_and_parameters, lr, dtype)

    def _update(self, k: int, pairs: list[tuple[list[float], list[float]]], round_: Any) -> None:
        lr = round_(self.lr)
        for w, g in pairs:
            w[:] = [round_(wi - round_(lr * gi)) for wi, gi in zip(w, g, strict=True)]


class Adam(_Optimizer):
    """Adam (Kingma and Ba, 2015) with L2 weight decay, dense over every element.

    With r(x) the rounding to the dtype, t the step's number from 1, and the scalars lr_t = r(lr / (1 - b1^t)),
    c_t = r(1 / sqrt(1 - b2^t))::

        g = g + wd w                     only if wd is not 0
        m = b1 m + (1 - b1) g
        v = b2 v + ((1 - b2) g) g
        w = w - (lr_t m) / (sqrt(v) c_t + eps)
    """

    def __init__(
        self,
        layers_and_parameters: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        dtype: str = "float64",
    ) -> None:
        super().__init__(layers_and_parameters, lr, dtype)
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay
        self.exp_avg: list[Any] = [None for _ in self.items]
        self.exp_avg_sq: list[Any] = [None for _ in self.items]

    def _update(self, k: int, pairs: list[tuple[list[float], list[float]]], r: Any) -> None:
        if self.exp_avg[k] is None:
            self.exp_avg[k] = [[0.0] * len(w) for w, _ in pairs]
            self.exp_avg_sq[k] = [[0.0] * len(w) for w, _ in pairs]
        (beta1, beta2), t = self.betas, self.steps[k]
        b1, b2, a1, a2 = r(beta1), r(beta2), r(1.0 - beta1), r(1.0 - beta2)
        lr_t, c_t = r(self.lr / (1.0 - beta1**t)), r(1.0 / math.sqrt(1.0 - beta2**t))
        eps, wd = r(self.eps), r(self.weight_decay)
        for (w, gradient), m, v in zip(pairs, self.exp_avg[k], self.exp_avg_sq[k], strict=True):
            for d, g_d in enumerate(gradient):
                g = r(g_d + r(wd * w[d])) if self.weight_decay != 0 else g_d
                m[d] = r(r(b1 * m[d]) + r(a1 * g))
                v[d] = r(r(b2 * v[d]) + r(r(a2 * g) * g))
                w[d] = r(w[d] - r(r(lr_t * m[d]) / r(r(r(math.sqrt(v[d])) * c_t) + eps)))
