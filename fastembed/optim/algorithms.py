"""Optimisers whose steps cost only the rows of the batch.

SGD, Adagrad, Adam and AdamW give the same result as dense updates of every element. The order of
operations is that of `fastembed.reference.optim`, to the bit. docs/training.md says which to use
when.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from .. import _checks
from .optimizer import Optimizer, scalars
from .state import Checks, Options

if TYPE_CHECKING:
    from .._typing import Array


class SGD(Optimizer):
    """Stochastic gradient descent with momentum and weight decay, equal to dense updates.

    Parameters
    ----------
    layers_and_parameters : layer, Parameter, or iterable of them, or of parameter groups
        A group is a mapping with ``"params"``, its items, and the options that differ for it.
    lr : float
        The learning rate. Like every option it can be changed at any time, as an attribute or in a
        group of ``param_groups`` (docs/training.md).
    momentum : float
    weight_decay : float
        L2 decay: weight_decay times the element is added to its gradient.
    nesterov : bool
        Requires a momentum.
    trainable_rows : array_like, or mapping of table name to array_like, optional
        Row numbers, or a mask, of the rows that are updated; other rows and their state do not
        change. If no table is named, it applies to a layer's first. A layer's own
        ``trainable_rows`` apply as well.
    lr_multipliers : array_like of shape (V,), or mapping of table name to array_like, optional
        A factor for the learning rate of each row.
    master_rows : bool, optional
        Whether float32 master rows are kept, of which rows of half precision are roundings, so that
        small steps are not lost. If a row was written since, so that its master no longer rounds to
        it, the master is set to the row.
    stochastic_rounding : int, optional
        A seed: rows of half precision are rounded at random to one of the two nearest numbers, to
        the nearer with higher probability, so that small steps are kept on average. The result
        depends on the seed, the layer, the step and the position alone.

    Notes
    -----
    torch.optim.SGD::

        g = g + weight_decay w           if weight_decay is not 0
        b = momentum b + g               if momentum is not 0
        g = g + momentum b               with nesterov; else g = b
        w = w - lr g

    Examples
    --------
    >>> import fastembed as fe
    >>> layer = fe.Embedding.from_pretrained([[1.0, 2.0], [3.0, 4.0]])
    >>> layer.backward([[1.0, 1.0]], ids=[1], optimizer=fe.optim.SGD(layer, lr=0.5))
    >>> layer.weight
    array([[1. , 2. ],
           [2.5, 3.5]])
    """

    rule = "sgd"
    state_names = optional_state = ("momentum_buffer",)
    options: ClassVar[Checks] = {
        **dict.fromkeys(("lr", "momentum", "weight_decay"), _checks.non_negative), "nesterov": _checks.flag,
    }  # fmt: skip

    def __init__(
        self,
        layers_and_parameters: Any,
        lr: float = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        **rows: Any,
    ) -> None:
        options = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov}
        super().__init__(layers_and_parameters, options, **rows)

    def _group(self, given: Mapping[str, Any]) -> dict[str, Any]:
        group = super()._group(given)
        if group["nesterov"] and group["momentum"] == 0:
            raise ValueError("nesterov requires a momentum above 0, got 0.0")
        return group

    def needs_state(self, options: Options) -> bool:
        return bool(options["momentum"] != 0)

    def moves_without_gradient(self, options: Options) -> bool:
        return bool(options["momentum"] != 0 or options["weight_decay"] != 0)

    def scalars(self, options: Options, t: int) -> Array:
        nesterov = options["nesterov"] and options["momentum"] != 0
        return scalars(lr=options["lr"], beta1=options["momentum"], l2=options["weight_decay"], nesterov=float(nesterov))


class Adagrad(Optimizer):
    """Adagrad, equal to dense updates.

    Parameters
    ----------
    layers_and_parameters, lr, weight_decay, trainable_rows, lr_multipliers, master_rows,
    stochastic_rounding
        As in `SGD`.
    lr_decay : float
    initial_accumulator_value : float
    eps : float
        Above 0 in float32.

    Notes
    -----
    torch.optim.Adagrad, in step t::

        g = g + weight_decay w           if weight_decay is not 0
        h = h + g g
        w = w - lr / (1 + (t - 1) lr_decay) g / (sqrt(h) + eps)

    Examples
    --------
    >>> import fastembed as fe
    >>> layer = fe.Embedding.from_pretrained([[1.0, 2.0], [3.0, 4.0]])
    >>> layer.backward([[1.0, 1.0]], ids=[1], optimizer=fe.optim.Adagrad(layer, lr=0.5))
    >>> layer.weight
    array([[1. , 2. ],
           [2.5, 3.5]])
    """

    rule = "adagrad"
    state_names = ("sum",)
    options: ClassVar[Checks] = {
        "lr": _checks.non_negative,
        "lr_decay": _checks.non_negative,
        "weight_decay": _checks.non_negative,
        "initial_accumulator_value": _checks.non_negative,
        "eps": _checks.eps,
    }

    def __init__(
        self,
        layers_and_parameters: Any,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        **rows: Any,
    ) -> None:
        options = {
            "lr": lr, "lr_decay": lr_decay, "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value, "eps": eps,
        }  # fmt: skip
        super().__init__(layers_and_parameters, options, **rows)

    def state_start(self, options: Options) -> float:
        return float(options["initial_accumulator_value"])

    def moves_without_gradient(self, options: Options) -> bool:
        return bool(options["weight_decay"] != 0)

    def scalars(self, options: Options, t: int) -> Array:
        lr = options["lr"] / (1.0 + (t - 1) * options["lr_decay"])
        return scalars(lr=lr, eps=options["eps"], l2=options["weight_decay"])


class RowWiseAdagrad(Optimizer):
    """Adagrad with one state number for each row; it updates the rows of the batch only.

    Parameters
    ----------
    layers_and_parameters, lr, trainable_rows, lr_multipliers, master_rows, stochastic_rounding
        As in `SGD`.
    eps : float
        Above 0 in float32.
    weight_decay : float
    weight_decay_mode : {"l2", "decoupled"}
        Whether decay is added to the gradient or subtracted from the row. Rows outside the batch do
        not decay.

    Notes
    -----
    FBGEMM, ``rowwise_adagrad``, with a row's gradients summed first::

        g = g + weight_decay w           with l2
        h = h + mean(g g)                one number for a row
        w = (1 - lr weight_decay) w      with decoupled
        w = w - lr / (sqrt(h) + eps) g

    Examples
    --------
    >>> import fastembed as fe
    >>> layer = fe.Embedding.from_pretrained([[1.0, 2.0], [3.0, 4.0]])
    >>> layer.backward([[1.0, 1.0]], ids=[1], optimizer=fe.optim.RowWiseAdagrad(layer, lr=0.5))
    >>> layer.weight.round(6)
    array([[1. , 2. ],
           [2.5, 3.5]])
    """

    rule = "row_wise_adagrad"
    state_names = ("sum",)
    options: ClassVar[Checks] = {
        "lr": _checks.non_negative, "eps": _checks.eps,
        "weight_decay": _checks.non_negative, "weight_decay_mode": _checks.weight_decay_mode,
    }  # fmt: skip

    def __init__(
        self,
        layers_and_parameters: Any,
        lr: float = 1e-2,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        weight_decay_mode: str = "l2",
        **rows: Any,
    ) -> None:
        options = {"lr": lr, "eps": eps, "weight_decay": weight_decay, "weight_decay_mode": weight_decay_mode}
        super().__init__(layers_and_parameters, options, **rows)

    def state_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape[:-1]

    def scalars(self, options: Options, t: int) -> Array:
        lr, decay = options["lr"], options["weight_decay"]
        if options["weight_decay_mode"] == "l2":
            return scalars(lr=lr, eps=options["eps"], l2=decay)
        return scalars(lr=lr, eps=options["eps"], decay=lr * decay)


class Adam(Optimizer):
    """Adam with L2 weight decay, equal to dense updates at the cost of the batch's rows.

    Parameters
    ----------
    layers_and_parameters, lr, trainable_rows, lr_multipliers, master_rows, stochastic_rounding
        As in `SGD`.
    betas : tuple of float
        Decay rates of the averages of the gradient and of its square, each in [0, 1).
    eps : float
        Added to the square root of the second average; above 0 in float32.
    weight_decay : float
        L2 decay: weight_decay times the element is added to its gradient.

    Notes
    -----
    Kingma and Ba, "Adam: a method for stochastic optimization" (2015). In the dtype of each array,
    with the scalars of step t computed in float64 and rounded once::

        g = g + weight_decay w           if weight_decay is not 0
        m = b1 m + (1 - b1) g
        v = b2 v + ((1 - b2) g) g
        w = w - (lr / (1 - b1^t) m) / (sqrt(v) / sqrt(1 - b2^t) + eps)

    Examples
    --------
    >>> import fastembed as fe
    >>> layer = fe.Embedding.from_pretrained([[1.0, 2.0], [3.0, 4.0]])
    >>> layer.backward([[1.0, 1.0]], ids=[1], optimizer=fe.optim.Adam(layer, lr=0.5))
    >>> layer.weight.round(6)
    array([[1. , 2. ],
           [2.5, 3.5]])
    """

    rule = "adam"
    state_names = ("exp_avg", "exp_avg_sq")
    options: ClassVar[Checks] = {
        "lr": _checks.non_negative, "betas": _checks.betas, "eps": _checks.eps, "weight_decay": _checks.non_negative,
    }  # fmt: skip
    betas: tuple[float, float]

    def __init__(
        self,
        layers_and_parameters: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        **rows: Any,
    ) -> None:
        options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(layers_and_parameters, options, **rows)

    def moves_without_gradient(self, options: Options) -> bool:
        return True

    def _decay(self, options: Options) -> dict[str, float]:
        return {"l2": options["weight_decay"]}

    def scalars(self, options: Options, t: int) -> Array:
        beta1, beta2 = options["betas"]
        return scalars(
            lr=options["lr"] / (1.0 - beta1**t),
            beta1=beta1,
            alpha1=1.0 - beta1,
            beta2=beta2,
            alpha2=1.0 - beta2,
            correction=1.0 / math.sqrt(1.0 - beta2**t),
            eps=options["eps"],
            **self._decay(options),
        )


class AdamW(Adam):
    """Adam with decoupled weight decay, equal to dense updates at the cost of the batch's rows.

    Parameters
    ----------
    layers_and_parameters, lr, betas, eps, trainable_rows, lr_multipliers, master_rows,
    stochastic_rounding
        As in `Adam`.
    weight_decay : float
        In each step every element is multiplied by ``1 - lr weight_decay`` before Adam updates it.

    Notes
    -----
    Loshchilov and Hutter, "Decoupled weight decay regularization" (2019); the order is that of
    torch.optim.AdamW.

    Examples
    --------
    >>> import fastembed as fe
    >>> layer = fe.Embedding.from_pretrained([[1.0, 2.0], [3.0, 4.0]])
    >>> opt = fe.optim.AdamW(layer, lr=0.5, weight_decay=0.1)
    >>> layer.backward([[1.0, 1.0]], ids=[1], optimizer=opt)
    >>> layer.weight.round(6)
    array([[0.95, 1.9 ],
           [2.35, 3.3 ]])
    """

    is_decoupled = True

    def __init__(
        self,
        layers_and_parameters: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        **rows: Any,
    ) -> None:
        super().__init__(layers_and_parameters, lr, betas, eps, weight_decay, **rows)

    def _decay(self, options: Options) -> dict[str, float]:
        return {"decay": options["lr"] * options["weight_decay"]}


class SparseAdam(Optimizer):
    """Adam of the rows of the batch only: other rows keep their values and averages.

    Parameters
    ----------
    layers_and_parameters, lr, betas, eps, trainable_rows, lr_multipliers, master_rows,
    stochastic_rounding
        As in `Adam`.

    Notes
    -----
    torch.optim.SparseAdam, with one step count t for all rows::

        m = m + (1 - b1) (g - m)
        v = v + (1 - b2) (g g - v)
        w = w - (lr sqrt(1 - b2^t) / (1 - b1^t) m) / (sqrt(v) + eps)

    Examples
    --------
    >>> import fastembed as fe
    >>> layer = fe.Embedding.from_pretrained([[1.0, 2.0], [3.0, 4.0]])
    >>> layer.backward([[1.0, 1.0]], ids=[1], optimizer=fe.optim.SparseAdam(layer, lr=0.5))
    >>> layer.weight.round(5)
    array([[1. , 2. ],
           [2.5, 3.5]])
    """

    rule = "sparse_adam"
    state_names = ("exp_avg", "exp_avg_sq")
    options: ClassVar[Checks] = {"lr": _checks.non_negative, "betas": _checks.betas, "eps": _checks.eps}
    betas: tuple[float, float]

    def __init__(
        self,
        layers_and_parameters: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        **rows: Any,
    ) -> None:
        super().__init__(layers_and_parameters, {"lr": lr, "betas": betas, "eps": eps}, **rows)

    def scalars(self, options: Options, t: int) -> Array:
        beta1, beta2 = options["betas"]
        lr = options["lr"] * math.sqrt(1.0 - beta2**t) / (1.0 - beta1**t)
        return scalars(lr=lr, alpha1=1.0 - beta1, alpha2=1.0 - beta2, eps=options["eps"])
