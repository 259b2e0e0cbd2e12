"""Adam, AdamW, and the Adam of the rows of the batch alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from .. import _checks
from .optimizer import Optimizer, scalars
from .state import Checks, Options, Rate

if TYPE_CHECKING:
    from typing import Unpack

    from .._typing import Array, RowOptions


class Adam(Optimizer):
    """Adam with L2 weight decay, equal to dense updates at the cost of the batch's rows.

    Parameters
    ----------
    layers_and_parameters, lr, maximize, trainable_rows, lr_multipliers, master_rows,
    stochastic_rounding, step_without_grad
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
        "lr": _checks.learning_rate,
        "betas": _checks.betas,
        "eps": _checks.eps,
        "weight_decay": _checks.non_negative,
        "maximize": _checks.flag,
    }
    betas: tuple[float, float]

    def __init__(
        self,
        layers_and_parameters: Any,
        lr: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        maximize: bool = False,
        **rows: Unpack[RowOptions],
    ) -> None:
        options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
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
    layers_and_parameters, lr, betas, eps, maximize, trainable_rows, lr_multipliers, master_rows,
    stochastic_rounding, step_without_grad
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
        lr: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        maximize: bool = False,
        **rows: Unpack[RowOptions],
    ) -> None:
        super().__init__(layers_and_parameters, lr, betas, eps, weight_decay, maximize, **rows)

    def _decay(self, options: Options) -> dict[str, float]:
        return {"decay": options["lr"] * options["weight_decay"]}


class SparseAdam(Optimizer):
    """Adam of the rows of the batch only: other rows keep their values and averages.

    Parameters
    ----------
    layers_and_parameters, lr, betas, eps, maximize, trainable_rows, lr_multipliers, master_rows,
    stochastic_rounding, step_without_grad
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
    options: ClassVar[Checks] = {
        "lr": _checks.learning_rate,
        "betas": _checks.betas,
        "eps": _checks.eps,
        "maximize": _checks.flag,
    }
    betas: tuple[float, float]

    def __init__(
        self,
        layers_and_parameters: Any,
        lr: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        maximize: bool = False,
        **rows: Unpack[RowOptions],
    ) -> None:
        options = {"lr": lr, "betas": betas, "eps": eps, "maximize": maximize}
        super().__init__(layers_and_parameters, options, **rows)

    def scalars(self, options: Options, t: int) -> Array:
        beta1, beta2 = options["betas"]
        lr = options["lr"] * math.sqrt(1.0 - beta2**t) / (1.0 - beta1**t)
        return scalars(lr=lr, alpha1=1.0 - beta1, alpha2=1.0 - beta2, eps=options["eps"])
