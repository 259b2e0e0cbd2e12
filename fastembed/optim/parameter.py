"""Parameter: a dense array that is trained beside layers; and clip_grad_norm for both."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from .. import _checks
from .._kernels.backend import kernels
from .._kernels.floats import own_floats
from ..functional.batch import Batch, plain_batch
from ..functional.row_grad import clip_factor, norm_of
from ..tables.attribute import TableAttribute
from ..tables.trainable import Trainable
from .groups import kind_of

if TYPE_CHECKING:
    from .._typing import Array, ArrayLike


def matrices(array: Array, n_axes: int = 2) -> list[Array]:
    """Views over the last ``n_axes`` axes of an array; an array with fewer axes is one row."""
    if array.ndim < n_axes:
        return [array.reshape((1, -1)[:n_axes])]
    return [array[index] for index in np.ndindex(array.shape[: array.ndim - n_axes])]


class Parameter(Trainable):
    """A dense array that an optimiser updates beside the layers.

    Parameters
    ----------
    array : array_like of float32 or float64
        Used without a copy if it is an array that can be written in place.

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

    by_rows = False
    grad: Array | None

    def __init__(self, array: ArrayLike) -> None:
        given = array if isinstance(array, np.ndarray) else np.array(_checks.as_array("array", array))
        if _checks.native(given.dtype) not in _checks.DTYPES:
            raise TypeError(f"array must be float32 or float64, got {_checks.shown(given.dtype, str)}")
        super().__init__({"data": _checks.writable("array", given)})
        self.grad = None

    data = TableAttribute("The array itself; writable.")

    def zero_grad(self) -> None:
        """Drop the gradient."""
        self.grad = None

    @property
    def has_grad(self) -> bool:
        return self.grad is not None

    @own_floats
    def checked_grad(self) -> Array:
        """The gradient with the dtype and shape of ``data``, checked."""
        grad = np.zeros_like(self.data) if self.grad is None else self.grad
        return _checks.rounded(_checks.convertible_array("grad", grad, self.data.shape, self.data.dtype), self.data.dtype)

    def batches(self) -> dict[str, list[Batch]]:
        grads = matrices(self.checked_grad())
        return {"data": [plain_batch(np.arange(len(grad)), np.ascontiguousarray(grad)) for grad in grads]}

    def gradient_arrays(self) -> list[Array]:
        return [] if self.grad is None else [self.checked_grad()]

    @own_floats
    def add_scaled(self, commit: kernels.Commit, factor: float) -> None:
        for grad in self.gradient_arrays():
            commit.set_attribute(self, "grad", grad * grad.dtype.type(factor) + grad.dtype.type(0))

    def __repr__(self) -> str:
        return f"Parameter(shape={self.data.shape}, dtype={self.data.dtype})"


def clip_grad_norm(
    layers_and_parameters: Trainable | Iterable[Trainable], max_norm: float, *, error_if_nonfinite: bool = True
) -> float:
    """Scale the accumulated gradients so that their common norm is at most ``max_norm``.

    Parameters
    ----------
    layers_and_parameters : layer, Parameter, or iterable of them
        One that is there twice counts once.
    max_norm : float
    error_if_nonfinite : bool
        Whether an infinite or NaN norm is an error. If not, gradients are scaled as in PyTorch,
        where that is the default: by a norm of NaN all become NaN, by an infinite one zero, or NaN
        where they are infinite.

    Returns
    -------
    float
        The norm of all elements of all gradients before scaling, computed in float64.

    Raises
    ------
    ValueError, TypeError
        The norm is not finite, or an argument is invalid. Nothing is scaled.

    Notes
    -----
    As ``torch.nn.utils.clip_grad_norm_``: every gradient is multiplied by max_norm / (norm + 1e-6)
    where that is below 1.

    Examples
    --------
    >>> import fastembed as fe
    >>> layer = fe.Embedding(5, 2, rng=0)
    >>> layer.backward([[3.0, 4.0]], ids=[1])
    >>> fe.optim.clip_grad_norm([layer], max_norm=1.0)
    5.0
    >>> layer.grads()["weight"].rows.round(3)
    array([[0.6, 0.8]], dtype=float32)
    """
    items = distinct_items(layers_and_parameters)
    norm = norm_of([array for item in items for array in item.gradient_arrays()])
    scale_gradients(items, clip_factor(norm, max_norm, error_if_nonfinite))
    return norm


def distinct_items(layers_and_parameters: Trainable | Iterable[Trainable]) -> list[Trainable]:
    """The layers and Parameters, checked, each once."""
    items = [layers_and_parameters] if isinstance(layers_and_parameters, Trainable) else list(layers_and_parameters)
    items = list({id(item): item for item in items}.values())
    for k, item in enumerate(items):
        if not isinstance(item, Trainable):
            raise TypeError(f"item {k} must be a layer or a Parameter, got {kind_of(item)}")
    return items


def scale_gradients(items: Iterable[Trainable], factor: float) -> None:
    """Multiply all accumulated gradients, or none of them if one cannot be."""
    if factor != 1:
        commit = kernels.Commit()
        for item in items:
            item.add_scaled(commit, factor)
        commit.run()
