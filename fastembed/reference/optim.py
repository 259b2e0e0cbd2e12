"""The optimisers on nested lists.

A dense optimiser updates every row in every step; the others update the rows of the gradient alone.
The scalars of a step are computed in float64; `rules` rounds them and has the formulas.
"""

from __future__ import annotations

import math
import sys
from typing import Any, ClassVar

from .._messages import interval, shown
from ._nested import arithmetic, rounding, shape
from .halves import at_random, is_half, nearest, random_bits
from .layers import Layer, Parameter
from .rules import RULES, Row, Scalars, clip_factor, same_bits, scaled, total_norm


def scalars(**values: float) -> Scalars:
    """The scalars of one step; those not given are of options that the optimiser does not have."""
    names = ("lr", "beta1", "alpha1", "beta2", "alpha2", "correction", "eps", "l2", "decay", "nesterov")
    return {name: values.get(name, 1.0 if name in ("beta2", "correction", "eps") else 0.0) for name in names}


def _rows(data: Any) -> list[Row]:
    """The innermost rows of a nested list that is not a number."""
    of_shape = shape(data)
    if len(of_shape) == 1:
        return [data]
    return [row for part in data for row in _rows(part)]


def _multipliers(given: Any, mask: Any, name: str, is_first: bool, n_rows: int) -> list[float]:
    """The learning rate's multiplier for each row of one table: 0 where it is not trainable.

    `given` is lr_multipliers, `mask` is trainable_rows (row numbers or booleans). Both are for the
    first table, or dicts by the tables' names.
    """

    def of_table(value: Any) -> Any:
        return value.get(name) if isinstance(value, dict) else value if is_first else None

    factors, rows = of_table(given), of_table(mask)
    result = [1.0] * n_rows if factors is None else [float(x) for x in factors]
    if rows is not None:
        is_mask = len(rows) > 0 and all(isinstance(x, bool) for x in rows)
        trained = {i for i, x in enumerate(rows) if x} if is_mask else set(rows)
        result = [x if i in trained else 0.0 for i, x in enumerate(result)]
    return result


class Optimizer:
    """Items (layers and parameters), their step counts, and the state of each of their rows."""

    rule = ""
    state_names: tuple[str, ...] = ()
    is_dense = True  # rows without a gradient take every step with a gradient of zeros
    defaults: ClassVar[dict[str, Any]] = {}  # the options, in the order of the arguments

    def __init__(
        self,
        items: Any,
        *values: Any,
        dtype: str = "float64",
        trainable_rows: Any = None,
        lr_multipliers: Any = None,
        master_rows: bool = False,
        stochastic_rounding: int | None = None,
        step_without_grad: bool = True,
        **options: Any,
    ) -> None:
        if len(values) > len(self.defaults):
            raise TypeError(f"{type(self).__name__} has {len(self.defaults)} options, got {len(values)}")
        known = (*self.defaults, "trainable_rows", "lr_multipliers", "master_rows", "stochastic_rounding", "step_without_grad")
        for name in options:
            if name not in known:
                raise TypeError(f"{type(self).__name__} has no option {shown(name, str)}; it has {', '.join(known)}")
        self.__dict__ |= self.defaults | dict(zip(self.defaults, values, strict=False)) | options
        self.dtype = dtype
        self._master_rows, self._seed, self._steps_without_grad = master_rows, stochastic_rounding, step_without_grad
        parts = list(items) if isinstance(items, list | tuple) else [items]
        are_groups = bool(parts) and all(isinstance(part, dict) for part in parts)
        self.param_groups = [dict(part) for part in parts] if are_groups else [{"params": parts}]
        for group in self.param_groups:
            group["params"] = list(group["params"]) if isinstance(group["params"], list | tuple) else [group["params"]]
        self.items = [item for group in self.param_groups for item in group["params"]]
        self._group_of = [group for group in self.param_groups for _ in group["params"]]
        self.trainable_rows, self.lr_multipliers = trainable_rows, lr_multipliers
        self.steps = [0 for _ in self.items]
        self._states: list[dict[str, list[list[Row]]]] = [{} for _ in self.items]

    def _option(self, k: int, name: str) -> Any:
        value = self._group_of[k].get(name, getattr(self, name))
        return value(self.steps[k]) if name == "lr" and callable(value) else value

    def scalars(self, k: int, t: int) -> Scalars:
        """The scalars of step t (from 1) of item k."""
        raise NotImplementedError

    def state(self, k: int) -> dict[str, dict[str, list[Row]]]:
        """The state of item k: its name to a table's name to rows."""
        return {
            state: {name: [row[i] for row in rows] for name, rows in self._states[k].items()}
            for i, state in enumerate(self.state_names)
        }

    def _rows_of_state(self, k: int, name: str, table: list[Row]) -> list[list[Row]]:
        """The state of each row of a table, new for rows that were added since the last step.

        The state of a row is a list: one row of each name in `state_names`, then the master row.
        """
        rows = self._states[k].setdefault(name, [])
        del rows[len(table) :]
        r = rounding(arithmetic(self._dtype(k)))
        for row in table[len(rows) :]:
            width = 1 if self.rule == "row_wise_adagrad" else len(row)
            rows.append([[r(getattr(self, "initial_accumulator_value", 0.0))] * width for _ in self.state_names])
            if self._has_master(k):
                rows[-1].append(list(row))
        return rows

    def _dtype(self, k: int) -> str:
        item = self.items[k]
        return item.dtype if isinstance(item, Layer) else self.dtype

    def _multipliers_of(self, k: int) -> dict[str, list[float]]:
        """The multipliers of the learning rate, for each row of each table of item k."""
        item, result = self.items[k], {}
        for place, (name, table) in enumerate(item.tables.items() if isinstance(item, Layer) else ()):
            given, mask = self._option(k, "lr_multipliers"), self._option(k, "trainable_rows")
            factors = _multipliers(given, mask, name, place == 0, len(table))
            of_layer = _multipliers(None, item.trainable_rows, name, place == 0, len(table))
            result[name] = [x * y for x, y in zip(factors, of_layer, strict=True)]
        return result

    def _check_rates(self, k: int) -> None:
        """ValueError if a learning rate of the next step is infinite in the dtype.

        Infinity times a gradient of zero would be NaN.
        """
        dtype, s = arithmetic(self._dtype(k)), self.scalars(k, self.steps[k] + 1)
        largest = sys.float_info.max if dtype == "float64" else 3.4028234663852886e38
        for factors in self._multipliers_of(k).values() if isinstance(self.items[k], Layer) else [[1.0]]:
            rate = max(s["lr"], s["decay"]) * max(factors, default=0.0)
            if not rate <= largest:
                raise ValueError(f"the learning rate of step {self.steps[k] + 1} must be {interval(0.0, largest)}, got {rate}")

    def _step_item(self, k: int) -> None:
        """One step of item k with its gradients."""
        self._check_rates(k)
        item, s, r = self.items[k], self.scalars(k, self.steps[k] + 1), rounding(arithmetic(self._dtype(k)))
        self.steps[k] += 1
        if isinstance(item, Parameter):
            data = item.data if shape(item.data) else [item.data]
            grads = None if item.grad is None else _rows(item.grad if shape(item.grad) else [item.grad])
            for i, (w, state) in enumerate(zip(_rows(data), self._rows_of_state(k, "data", _rows(data)), strict=True)):
                g = [0.0] * len(w) if grads is None else self._ascent(k, grads[i])
                RULES[self.rule](w, g, state, s, 1.0, r)
            if not shape(item.data):
                item.data = data[0]
            return
        multipliers = self._multipliers_of(k)
        for place, (name, table) in enumerate(item.tables.items()):
            grad, states = item.grads()[name], self._rows_of_state(k, name, table)
            factors = multipliers[name]
            with_gradient = {i: self._ascent(k, g) for i, g in zip(grad.ids, grad.rows, strict=True)}
            for i, w in enumerate(table):
                if factors[i] != 0 and (self.is_dense or i in with_gradient):
                    self._step_row(k, (place, i), w, with_gradient.get(i, [0.0] * len(w)), states[i], s, factors[i])

    def _step_row(self, k: int, place: tuple[int, int], w: Row, g: Row, state: list[Row], s: Scalars, multiplier: float) -> None:
        """One step of one row; `place` is the number of its table and of the row in it.

        A row in half precision is rounded to the nearest, or stochastically; with master rows the
        float32 master takes the step.
        """
        dtype, (table, row) = self._dtype(k), place
        n_states = len(self.state_names)
        master = state[n_states] if self._has_master(k) else w
        # An element that is not the rounding of its master was written by the user: it is taken.
        master[:] = [m if same_bits(rounding(dtype)(m), x) else x for m, x in zip(master, w, strict=True)]
        RULES[self.rule](master, g, state[:n_states], s, multiplier, rounding(arithmetic(dtype)))
        for col, x in enumerate(master if is_half(dtype) else ()):
            random = None if self._seed is None else random_bits(self._seed, 16 * k + table, self.steps[k], row, col)
            w[col] = nearest(x, dtype) if random is None else at_random(x, dtype, random)

    def _ascent(self, k: int, g: Row) -> Row:
        """A row's gradient, or with `maximize` its negative."""
        return [-x for x in g] if self._option(k, "maximize") else g

    def _has_master(self, k: int) -> bool:
        return self._master_rows and is_half(self._dtype(k))

    def train(self, layer: Layer) -> None:
        """One step of one layer, with its gradients."""
        (k,) = (k for k, item in enumerate(self.items) if item is layer)
        self._step_item(k)

    def zero_grad(self) -> None:
        for item in self.items:
            item.zero_grad()

    def step(self) -> None:
        """One step of every item; one without a gradient has a gradient of zeros, or takes none."""
        moved = [k for k, item in enumerate(self.items) if self._steps_without_grad or item.has_grad]
        for k in moved:
            self._check_rates(k)
        for k in moved:
            self._step_item(k)

    def flush(self) -> None:
        """The reference applies every update at once: none is ever pending."""


class SGD(Optimizer):
    """w = w - lr g, with momentum and L2 decay; dense."""

    rule, state_names = "sgd", ("momentum_buffer",)
    defaults: ClassVar = {
        "lr": 1e-3,
        "momentum": 0.0,
        "weight_decay": 0.0,
        "nesterov": False,
        "dampening": 0.0,
        "maximize": False,
    }

    momentum: float
    dampening: float
    nesterov: bool

    def __init__(self, items: Any, *values: Any, **options: Any) -> None:
        super().__init__(items, *values, **options)
        for group in self.param_groups:
            nesterov, momentum, dampening = (
                group.get(name, getattr(self, name)) for name in ("nesterov", "momentum", "dampening")
            )
            if nesterov and (momentum == 0 or dampening != 0):
                got = f"momentum {float(momentum)} and dampening {float(dampening)}"
                raise ValueError(f"nesterov requires a momentum above 0 and no dampening, got {got}")

    def scalars(self, k: int, t: int) -> Scalars:
        lr, momentum, decay, nesterov = (self._option(k, name) for name in ("lr", "momentum", "weight_decay", "nesterov"))
        kept = 1.0 if t == 1 else 1.0 - self._option(k, "dampening")
        return scalars(lr=lr, beta1=momentum, alpha1=kept, l2=decay, nesterov=float(nesterov))


class Adagrad(Optimizer):
    """w = w - lr / (1 + (t - 1) lr_decay) g / (sqrt(sum of g g) + eps), with L2 decay; dense."""

    rule, state_names = "adagrad", ("sum",)
    defaults: ClassVar = {
        "lr": 1e-2, "lr_decay": 0.0, "weight_decay": 0.0, "initial_accumulator_value": 0.0, "eps": 1e-10, "maximize": False,
    }  # fmt: skip

    def scalars(self, k: int, t: int) -> Scalars:
        lr, lr_decay, decay, eps = (self._option(k, name) for name in ("lr", "lr_decay", "weight_decay", "eps"))
        return scalars(lr=lr / (1.0 + (t - 1) * lr_decay), eps=eps, l2=decay)


class RowWiseAdagrad(Optimizer):
    """FBGEMM's Adagrad with one number of state per row; the rows of the gradient alone."""

    rule, state_names, is_dense = "row_wise_adagrad", ("sum",), False
    defaults: ClassVar = {"lr": 1e-2, "eps": 1e-8, "weight_decay": 0.0, "weight_decay_mode": "l2", "maximize": False}

    def scalars(self, k: int, t: int) -> Scalars:
        lr, eps, decay, mode = (self._option(k, name) for name in ("lr", "eps", "weight_decay", "weight_decay_mode"))
        return scalars(lr=lr, eps=eps, l2=decay) if mode == "l2" else scalars(lr=lr, eps=eps, decay=lr * decay)


class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015) with L2 decay; dense."""

    rule, state_names = "adam", ("exp_avg", "exp_avg_sq")
    defaults: ClassVar = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, "maximize": False}

    def _decay(self, lr: float, decay: float) -> dict[str, float]:
        return {"l2": decay}

    def scalars(self, k: int, t: int) -> Scalars:
        lr, (beta1, beta2), eps, decay = (self._option(k, name) for name in ("lr", "betas", "eps", "weight_decay"))
        return scalars(
            lr=lr / (1.0 - beta1**t),
            beta1=beta1,
            alpha1=1.0 - beta1,
            beta2=beta2,
            alpha2=1.0 - beta2,
            correction=1.0 / math.sqrt(1.0 - beta2**t),
            eps=eps,
            **self._decay(lr, decay),
        )


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019); dense.

    First every element is multiplied by 1 - lr wd.
    """

    defaults: ClassVar = Adam.defaults | {"weight_decay": 1e-2}

    def _decay(self, lr: float, decay: float) -> dict[str, float]:
        return {"decay": lr * decay}


class SparseAdam(Optimizer):
    """torch.optim.SparseAdam: the rows of the gradient alone, with one step count for all rows."""

    rule, state_names, is_dense = "sparse_adam", ("exp_avg", "exp_avg_sq"), False
    defaults: ClassVar = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "maximize": False}

    def scalars(self, k: int, t: int) -> Scalars:
        lr, (beta1, beta2), eps = (self._option(k, name) for name in ("lr", "betas", "eps"))
        step_size = lr * math.sqrt(1.0 - beta2**t) / (1.0 - beta1**t)
        return scalars(lr=step_size, alpha1=1.0 - beta1, alpha2=1.0 - beta2, eps=eps)


def clip_grad_norm(items: Any, max_norm: float, dtype: str = "float64", error_if_nonfinite: bool = True) -> float:
    """Scale all gradients so that their norm, taken together, is at most max_norm.

    An item that is there twice counts once. Returns the norm before.
    """
    items = list({id(item): item for item in items}.values())
    layers = [item for item in items if isinstance(item, Layer)]
    dense = [item for item in items if isinstance(item, Parameter) and item.grad is not None]
    grads = [grad for layer in layers for grad in layer.grads().values()]
    norm = total_norm([row for grad in grads for row in grad.rows] + [row for p in dense for row in _rows(p.grad)])
    factor = clip_factor(norm, max_norm, error_if_nonfinite)
    if factor != 1:
        for grad in grads:
            grad.rows = scaled(grad.rows, factor, rounding(grad.dtype))
        for p in dense:
            for row in _rows(p.grad):
                row[:] = scaled([row], factor, rounding(dtype))[0]
    return norm
