"""Cross-entropies of logits, and their gradients.

C: classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .. import _checks
from .._kernels.backend import kernels
from .._kernels.floats import own_floats

if TYPE_CHECKING:
    from .._typing import Array, ArrayLike


def mean(losses: Array, n: int) -> float:
    """The sum of losses, none of them negative, over n; 0 for none."""
    return float(kernels.sum_powers(losses.reshape(1, -1), 1)[0]) / n if n else 0.0


def _logits(value: ArrayLike, n_axes: int | None = None) -> Array:
    """Logits, side by side."""
    logits = _checks.as_array("logits", value)
    if logits.dtype.kind in "iu":
        logits = logits.astype(np.float64)
    if _checks.native(logits.dtype) not in _checks.DTYPES:
        raise TypeError(f"logits must be float32 or float64, got {_checks.shown(logits.dtype, str)}")
    if n_axes is not None and logits.ndim < n_axes:
        raise ValueError(f"logits must have an axis of classes, got shape {logits.shape}")
    return np.require(_checks.rounded(logits, _checks.native(logits.dtype)), requirements="C")


@own_floats
def binary_cross_entropy(logits: ArrayLike, targets: ArrayLike) -> tuple[float, Array]:
    """The mean cross-entropy of probabilities and the sigmoids of logits, and its gradient.

    Parameters
    ----------
    logits : array_like of shape S, float32 or float64
    targets : array_like of shape S
        Probabilities, from 0 to 1; booleans and the integers 0 and 1 too.

    Returns
    -------
    loss : float
        In nats; 0 without logits.
    dlogits : ndarray of shape S
        The gradient of ``loss`` by the logits, in their dtype.

    Raises
    ------
    TypeError, ValueError
        A dtype or shape is invalid, or a target is no probability.

    Notes
    -----
    As torch.nn.functional.binary_cross_entropy_with_logits. With ``t = exp(-abs(x))`` the loss of
    one logit x with target y is ``max(x, 0) - x y + log(1 + t)``, and its gradient
    ``sigmoid(x) - y``. Both are computed in float64 without cancellation; the gradient is rounded
    once. Bits do not depend on the machine.

    Examples
    --------
    >>> import fastembed as fe
    >>> loss, dlogits = fe.losses.binary_cross_entropy([2.0, -1.0], [1, 0])
    >>> f"{loss:.4f}", dlogits.round(4).tolist()
    ('0.2201', [-0.0596, 0.1345])
    """
    x = _logits(logits)
    y = _checks.as_array("targets", targets)
    if y.shape != x.shape:
        raise ValueError(f"targets must have the shape of the logits, {x.shape}, got {y.shape}")
    if y.dtype.kind not in "biuf" and not _checks.is_half(y.dtype):
        raise TypeError(f"targets must be numbers, got {_checks.shown(y.dtype, str)}")
    y = np.require(_checks.rounded(y, x.dtype), requirements=["C", "A"])
    outside = np.flatnonzero(~((y >= 0) & (y <= 1)))
    if outside.size:
        place = tuple(int(k) for k in np.unravel_index(outside[0], y.shape))
        raise ValueError(f"targets must be from 0 to 1, got {y[place]} at position {place}")
    gradients, losses = kernels.logistic(x, y, float(x.size))
    return mean(losses, x.size), gradients


@own_floats
def cross_entropy(logits: ArrayLike, targets: ArrayLike, *, ignore_index: int = -100) -> tuple[float, Array]:
    """The mean cross-entropy of classes and the softmax of logits, and its gradient.

    Parameters
    ----------
    logits : array_like of shape S + (C,), float32 or float64
    targets : array_like of integers, shape S
        The class of each row of logits.
    ignore_index : int
        A target whose row counts for nothing and has no gradient.

    Returns
    -------
    loss : float
        The mean over the rows that count, in nats; 0 if none does.
    dlogits : ndarray of shape S + (C,)
        The gradient of ``loss`` by the logits, in their dtype.

    Raises
    ------
    IndexError
        A target is neither a class nor ``ignore_index``.
    TypeError, ValueError
        A dtype or shape is invalid.

    Notes
    -----
    As torch.nn.functional.cross_entropy, with classes along the last axis. The loss of a row is
    ``log(sum(exp(x - m))) + m - x[target]`` with its largest logit m, and its gradient
    ``softmax(x) - onehot(target)``. Exponentials and sums are in float64, sums in 16 parts;
    exponentials are rounded to the logits' dtype before they are divided by their sum. Bits do not
    depend on the machine. Of infinite logits the loss may be NaN.

    Examples
    --------
    >>> import fastembed as fe
    >>> loss, dlogits = fe.losses.cross_entropy([[1.0, 1.0], [0.0, 3.0]], [0, -100])
    >>> f"{loss:.4f}", dlogits.tolist()
    ('0.6931', [[-0.5, 0.5], [0.0, 0.0]])
    """
    x = _logits(logits, 1)
    n_classes, ignored = x.shape[-1], _checks.integer("ignore_index", ignore_index)
    classes = _checks.integers("target", targets)
    if classes.shape != x.shape[:-1]:
        raise ValueError(f"targets must have shape {x.shape[:-1]}, that of the logits without the classes, got {classes.shape}")
    is_kept = classes != ignored
    outside = np.flatnonzero(is_kept & ~((classes >= 0) & (classes < n_classes)))
    if outside.size:
        place = tuple(int(k) for k in np.unravel_index(outside[0], classes.shape))
        raise IndexError(
            f"target {_checks.shown(int(classes[place]))} at position {place} is out of range for {n_classes} classes"
        )
    rows = np.full(classes.size, -1)
    rows[is_kept.reshape(-1)] = classes[is_kept]
    n_kept = int(np.count_nonzero(is_kept))
    gradients, losses = kernels.cross_entropy(
        x.reshape(-1, n_classes) if x.size else x.reshape(len(rows), n_classes), rows, n_kept
    )
    return mean(losses, n_kept), gradients.reshape(x.shape)
