"""SGD and the two Adagrads; `adam` has the others.

SGD, Adagrad, Adam and AdamW give the same result as dense updates of every element. The order of
operations is that of `fastembed.reference.optim`, to the bit. docs/training.md says which to use
when.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from .. import _checks
from .optimizer import Optimizer, scalars
from .state import Checks, Options, Rate

if TYPE_CHECKING:
    from typing import Unpack

    from .._typing import Array, RowOptions


class SGD(Optimizer):
    """Stochastic gradient descent with momentum and weight decay, equal to dense updates.

    Parameters
    ----------
    layers_and_parameters : layer, Parameter, or iterable of them, or of parameter groups
        A group is a mapping with ``"params"``, its items, and the options that differ for it.
    lr : float, or function of int that returns float
        The learning rate, or that of each step: of an item that has taken n steps the next one has
        ``lr(n)``, as with `fastembed.schedule`. Like every option it can be changed at any time, as
        an attribute or in a group of ``param_groups`` (docs/training.md).
    momentum : float
    weight_decay : float
        L2 decay: weight_decay times the element is added to its gradient.
    nesterov : bool
        Requires a momentum and no dampening.
    dampening : float
        The gradient is multiplied by ``1 - dampening`` before it is added to the momentum, but in
        the first step.
    maximize : bool
        Whether the negative of each gradient is used, so that the objective grows.
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
    step_without_grad : bool
        Whether `step` moves items without a gradient too, by a gradient of zeros. If not, they take
        no step, as in PyTorch. An item has a gradient if it has one for any of its rows.

    Notes
    -----
    torch.optim.SGD::

        g = g + weight_decay w           if weight_decay is not 0
        b = momentum b + (1 - dampening) g          if momentum is not 0
        g = g + momentum b with nesterov, else b    if momentum is not 0
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
        "lr": _checks.learning_rate,
        "momentum": _checks.non_negative,
        "weight_decay": _checks.non_negative,
        "nesterov": _checks.flag,
        "dampening": _checks.non_negative,
        "maximize": _checks.flag,
    }

    def __init__(
        self,
        layers_and_parameters: Any,
        lr: Rate = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        dampening: float = 0.0,
        maximize: bool = False,
        **rows: Unpack[RowOptions],
    ) -> None:
        options = {
            "lr": lr, "momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov,
            "dampening": dampening, "maximize": maximize,
        }  # fmt: skip
        super().__init__(layers_and_parameters, options, **rows)

    def _group(self, given: Mapping[str, Any]) -> dict[str, Any]:
        group = super()._group(given)
        if group["nesterov"] and (group["momentum"] == 0 or group["dampening"] != 0):
            got = f"momentum {group['momentum']} and dampening {group['dampening']}"
            raise ValueError(f"nesterov requires a momentum above 0 and no dampening, got {got}")
        return group

    def needs_state(self, options: Options) -> bool:
        return bool(options["momentum"] != 0)

    def moves_without_gradient(self, options: Options) -> bool:
        return bool(options["momentum"] != 0 or options["weight_decay"] != 0)

    def scalars(self, options: Options, t: int) -> Array:
        return scalars(
            lr=options["lr"],
            beta1=options["momentum"],
            alpha1=1.0 if t == 1 else 1.0 - options["dampening"],
            l2=options["weight_decay"],
            nesterov=float(options["nesterov"] and options["momentum"] != 0),
        )


class Adagrad(Optimizer):
    """Adagrad, equal to dense updates.

    Parameters
    ----------
    layers_and_parameters, lr, weight_decay, maximize, trainable_rows, lr_multipliers, master_rows,
    stochastic_rounding, step_without_grad
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
        "lr": _checks.learning_rate,
        "lr_decay": _checks.non_negative,
        "weight_decay": _checks.non_negative,
        "initial_accumulator_value": _checks.non_negative,
        "eps": _checks.eps,
        "maximize": _checks.flag,
    }

    def __init__(
        self,
        layers_and_parameters: Any,
        lr: Rate = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        maximize: bool = False,
        **rows: Unpack[RowOptions],
    ) -> None:
        options = {
            "lr": lr, "lr_decay": lr_decay, "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value, "eps": eps, "maximize": maximize,
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
    layers_and_parameters, lr, maximize, trainable_rows, lr_multipliers, master_rows,
    stochastic_rounding, step_without_grad
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
        "lr": _checks.learning_rate,
        "eps": _checks.eps,
        "weight_decay": _checks.non_negative,
        "weight_decay_mode": _checks.weight_decay_mode,
        "maximize": _checks.flag,
    }

    def __init__(
        self,
        layers_and_parameters: Any,
        lr: Rate = 1e-2,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        weight_decay_mode: str = "l2",
        maximize: bool = False,
        **rows: Unpack[RowOptions],
    ) -> None:
        options = {
            "lr": lr, "eps": eps, "weight_decay": weight_decay, "weight_decay_mode": weight_decay_mode,
            "maximize": maximize,
        }  # fmt: skip
        super().__init__(layers_and_parameters, options, **rows)

    def state_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape[:-1]

    def scalars(self, options: Options, t: int) -> Array:
        lr, decay = options["lr"], options["weight_decay"]
        if options["weight_decay_mode"] == "l2":
            return scalars(lr=lr, eps=options["eps"], l2=decay)
        return scalars(lr=lr, eps=options["eps"], decay=lr * decay)
