"""TiedHead: a layer's token table as the output layer of a model.

V: rows of the token table; D: columns; S: the shape of the hidden states.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .. import _checks
from ..functional.row_grad import RowGrad
from .base import Layer

if TYPE_CHECKING:
    from .._typing import Array, ArrayLike


class TiedHead(Layer):
    """A layer with a table ``wte`` that is its output layer too."""

    _hidden: Any = None  # of the last call of logits

    def train(self, mode: bool = True) -> Self:
        if not mode:
            self._hidden = None
        return super().train(mode)

    train.__doc__ = Layer.train.__doc__

    def logits(self, h: ArrayLike) -> Array:
        """``h @ wte.T``: one number for each token of the vocabulary, by the table that tokens are looked up in.

        Parameters
        ----------
        h : array_like of shape S + (D,)
            In train mode a reference to it is kept for `logits_backward`.

        Returns
        -------
        ndarray of shape S + (V,), of the arithmetic dtype
            Through BLAS, so that the last bits depend on it.
        """
        hidden = self._hidden_of(h)
        if self.training:
            self._hidden = h
        return np.matmul(hidden, self._head().T)

    def logits_backward(self, dlogits: ArrayLike, h: ArrayLike | None = None) -> Array:
        """Add the gradient of `logits` to that of ``wte`` in `grads`, which then has all rows; returns the gradient of ``h``.

        Parameters
        ----------
        dlogits : array_like of shape S + (V,)
        h : array_like of shape S + (D,), optional
            As it was in that call; by default that of the last call in train mode.
        """
        if h is None and self._hidden is None:
            raise RuntimeError("logits_backward needs h: there was no call of logits in train mode, and none was given")
        hidden = self._hidden_of(self._hidden if h is None else h)
        wte = self._head()
        n_rows, width = wte.shape
        gradients = _checks.rows("dlogits", dlogits, (*hidden.shape[:-1], n_rows), self._arithmetic)
        dh = np.matmul(gradients, wte)
        dwte = gradients.reshape(-1, n_rows).T @ hidden.reshape(-1, width)
        self._grads["wte"] = self._grads["wte"] + RowGrad(np.arange(n_rows), dwte, wte.shape)
        return dh

    def _head(self) -> Array:
        """The table, up to date, for arithmetic."""
        self.apply_pending()
        return self.tables["wte"].astype(self._arithmetic, copy=False)

    def _hidden_of(self, h: ArrayLike) -> Array:
        array = _checks.array_of("h", h)
        return _checks.rows("h", array, (*array.shape[:-1], self.tables["wte"].shape[1]), self._arithmetic)
