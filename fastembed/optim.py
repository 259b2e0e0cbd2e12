"""Optimisers with dense meaning: every element of every table moves in every step, whether the batch touched its row or not.

The order of operations is that of `fastembed.reference.optim`, which these follow to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _checks
from .embedding import _Layer

if TYPE_CHECKING:
    from ._typing import Array, ArrayLike


class Parameter:
    """A dense array that an optimiser updates beside the layers.

    Parameters
    ----------
    array : array_like of float32 or float64
        Kept as it is, without a copy, if it is an array that can be written in place.

    Attributes
    ----------
    data : ndarray
    grad : ndarray of the shape of ``data``, or None for zeros

    Examples
    --------
    >>> import numpy as np, fastembed as fe
    >>> w = fe.Parameter(np.ones(2))
    >>> w.grad = np.array([1.0, 2.0])
    >>> fe.optim.SGD([w], lr=0.5).step()
    >>> w.data
    array([0.5, 0. ])
    """

    def __init__(self, array: ArrayLike) -> None:
        self._data = _checks.writable("array", array if isinstance(array, np.ndarray) else np.array(array))
        self.grad: Array | None = None

    @property
    def data(self) -> Array:
        """The array itself: write into it to change it."""
        return self._data

    def zero_grad(self) -> None:
        """Forget the gradient."""
        self.grad = None

    def __repr__(self) -> str:
        return f"Parameter(shape={self.data.shape}, dtype={self.data.dtype})"


Item = _Layer | Parameter


_LARGEST = 3.4028234663852886e38  # of float32; np.finfo takes a millisecond of the import
_SMALLEST = 1.1754943508222875e-38  # above 0 in every dtype: without it a row that was never touched gives 0 / 0


def _arrays(item: Item) -> dict[str, Array]:
    """What an item updates, by name."""
    return {"data": item.data} if isinstance(item, Parameter) else item.state_dict()


def _trained_arrays(item: Item) -> dict[str, Array]:
    """What an optimiser may move: nothing of a frozen layer."""
    return _arrays(item) if isinstance(item, Parameter) or item.trainable else {}


def _gradients(item: Item) -> dict[str, Array]:
    """The dense gradient of each of an item's arrays."""
    if isinstance(item, _Layer):
        return {name: grad.to_dense() for name, grad in item.grads().items()}
    grad = np.zeros_like(item.data) if item.grad is None else item.grad
    return {"data": _checks.like("grad", grad, item.data.shape, item.data.dtype)}


class _Optimizer:
    """What to update, how far each item has come, and the state arrays of each. Subclasses say how one array moves."""

    _state_names: tuple[str, ...] = ()
    _options: tuple[str, ...] = ("lr",)

    def __init__(self, layers_and_parameters: Item | Iterable[Item], lr: float) -> None:
        if isinstance(layers_and_parameters, Item):
            layers_and_parameters = [layers_and_parameters]
        if not isinstance(layers_and_parameters, Iterable):
            raise TypeError(f"expected a layer, a Parameter, or an iterable of them, got {type(layers_and_parameters).__name__}")
        items: list[Item] = list(layers_and_parameters)
        seen: list[tuple[str, Array]] = []
        for k, item in enumerate(items):
            if not isinstance(item, Item):
                raise TypeError(f"item {k} must be a layer or a Parameter, got {type(item).__name__}")
            for name, array in _trained_arrays(item).items():
                what = f"{name} of item {k}"
                _checks.writable(what, array)
                for other_name, other in seen:
                    _checks.apart(what, array, **{other_name: other})
                seen.append((what, array))
        self.items = items
        self.lr = lr
        self._steps = [0] * len(items)
        self._state = [self._new_state(item) for item in items]

    @property
    def lr(self) -> float:
        """The learning rate of the steps to come."""
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._lr = _checks.number("lr", value, 0.0, _LARGEST)

    def _new_state(self, item: Item) -> dict[str, dict[str, Array]]:
        return {state: {name: np.zeros_like(array) for name, array in _arrays(item).items()} for state in self._state_names}

    def zero_grad(self) -> None:
        """Forget the gradients of all items."""
        for item in self.items:
            item.zero_grad()

    def step(self) -> None:
        """Take one step with the accumulated gradients; an item without one takes a step with a gradient of zeros.

        Raises
        ------
        ValueError, TypeError
            A `Parameter`'s gradient does not fit, or an array has become read-only. Nothing has moved.
        """
        gradients = []
        for k, item in enumerate(self.items):
            trained = {name: _checks.writable(f"{name} of item {k}", array) for name, array in _trained_arrays(item).items()}
            gradients.append(_gradients(item) if trained else {})
        for k, item in enumerate(self.items):
            self._steps[k] += 1
            arrays = _arrays(item)
            for name, grad in gradients[k].items():
                self._update(arrays[name], grad, self._steps[k], *(self._state[k][state][name] for state in self._state_names))

    def _update(self, array: Array, grad: Array, t: int, *state: Array) -> None:
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """The options, and for each item its step count and its state arrays (themselves, not copies).

        Returns
        -------
        dict
            Option names to numbers, and ``"items"`` to a list of ``{"step": int, state: {name: ndarray}}``.
        """
        items = [{"step": step, **state} for step, state in zip(self._steps, self._state, strict=True)]
        return {name: getattr(self, name) for name in self._options} | {"items": items}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Copy what `state_dict` returned into this optimiser.

        Raises
        ------
        KeyError, ValueError, TypeError
            A name is missing or unexpected, or an array has another shape. Nothing is changed.
        """
        _same_names("the state", state, {*self._options, "items"})
        items = state["items"]
        if not isinstance(items, list | tuple) or len(items) != len(self.items):
            raise ValueError(f"items of the state must be a list of {len(self.items)}, got {items!r:.80}")
        steps, loaded = [], []
        for k, (mine, given) in enumerate(zip(self._state, items, strict=True)):
            _same_names(f"item {k}", given, {*self._state_names, "step"})
            steps.append(_checks.size(f"step of item {k}", given["step"]))
            for kind, arrays in mine.items():
                _same_names(f"{kind} of item {k}", given[kind], set(arrays))
                for name, array in arrays.items():
                    loaded.append((array, _checks.like(f"{kind}.{name}", given[kind][name], array.shape, array.dtype)))
        options = type(self)([], **{name: state[name] for name in self._options})
        for name in self._options:
            setattr(self, name, getattr(options, name))
        self._steps = steps
        _checks.copy_into(loaded)

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={getattr(self, name)}" for name in self._options)
        return f"{type(self).__name__}({len(self.items)} items, {options})"


def _same_names(what: str, given: Mapping[str, Any], expected: set[str]) -> None:
    if not isinstance(given, Mapping):
        raise TypeError(f"{what} must be a mapping, got {type(given).__name__}")
    if set(given) != expected:
        raise KeyError(f"{what} must have the names {sorted(expected)}, got {sorted(map(str, given))}")


class SGD(_Optimizer):
    """Stochastic gradient descent: ``w = w - lr g``.

    Parameters
    ----------
    layers_and_parameters : layer, Parameter, or iterable of them
    lr : float
        The learning rate, settable at any time.

    Examples
    --------
    >>> import fastembed as fe
    >>> layer = fe.Embedding.from_pretrained([[1.0, 2.0], [3.0, 4.0]])
    >>> layer.backward([[1.0, 1.0]], ids=[1])
    >>> fe.optim.SGD(layer, lr=0.5).step()
    >>> layer.weight
    array([[1. , 2. ],
           [2.5, 3.5]])
    """

    def __init__(self, layers_and_parameters: Item | Iterable[Item], lr: float = 1e-3) -> None:
        super().__init__(layers_and_parameters, lr)

    def _update(self, array: Array, grad: Array, t: int, *state: Array) -> None:
        array -= array.dtype.type(self.lr) * grad


class Adam(_Optimizer):
    """Adam over every element of every table, with L2 weight decay.

    Parameters
    ----------
    layers_and_parameters : layer, Parameter, or iterable of them
    lr : float
        The learning rate, settable at any time.
    betas : tuple of float
        Decay rates of the averages of the gradient and of its square, each in [0, 1).
    eps : float
        Added to the root of the second average; above 0 in float32.
    weight_decay : float
        This many times the element is added to its gradient.

    Notes
    -----
    Kingma and Ba, "Adam: a method for stochastic optimization" (2015). In the dtype of each array, with the scalars of step t
    computed in float64 and rounded once::

        g = g + weight_decay w           if weight_decay is not 0
        m = b1 m + (1 - b1) g
        v = b2 v + ((1 - b2) g) g
        w = w - (lr / (1 - b1^t) m) / (sqrt(v) / sqrt(1 - b2^t) + eps)

    Examples
    --------
    >>> import fastembed as fe
    >>> layer = fe.Embedding.from_pretrained([[1.0, 2.0], [3.0, 4.0]])
    >>> opt = fe.optim.Adam(layer, lr=0.5)
    >>> layer.backward([[1.0, 1.0]], ids=[1])
    >>> opt.step()
    >>> layer.weight.round(6)
    array([[1. , 2. ],
           [2.5, 3.5]])
    """

    _state_names = ("exp_avg", "exp_avg_sq")
    _options = ("lr", "betas", "eps", "weight_decay")

    def __init__(
        self,
        layers_and_parameters: Item | Iterable[Item],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(layers_and_parameters, lr)
        if not isinstance(betas, tuple | list) or len(betas) != 2:
            raise TypeError(f"betas must be two numbers, got {betas!r}")
        below_one = math.nextafter(1.0, 0.0)
        self.betas = (_checks.number("betas[0]", betas[0], 0.0, below_one), _checks.number("betas[1]", betas[1], 0.0, below_one))
        self.eps = _checks.number("eps", eps, _SMALLEST, _LARGEST)
        self.weight_decay = _checks.number("weight_decay", weight_decay, 0.0, _LARGEST)

    def _update(self, array: Array, grad: Array, t: int, *state: Array) -> None:
        m, v = state
        r = array.dtype.type
        beta1, beta2 = self.betas
        if self.weight_decay != 0:
            grad = grad + r(self.weight_decay) * array
        m *= r(beta1)
        m += r(1.0 - beta1) * grad
        v *= r(beta2)
        v += r(1.0 - beta2) * grad * grad
        step_size, correction = r(self.lr / (1.0 - beta1**t)), r(1.0 / math.sqrt(1.0 - beta2**t))
        array -= step_size * m / (np.sqrt(v) * correction + r(self.eps))
