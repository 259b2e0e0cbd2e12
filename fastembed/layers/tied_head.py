"""TiedHead: the base of layers whose token table is the output layer too.

V: rows of the token table; D: columns; S: the shape of the ids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .. import _checks
from .._kernels.floats import own_floats
from ..functional.row_grad import RowGrad
from .base import Layer
from .files.saving import Saving

if TYPE_CHECKING:
    from .._typing import Array, ArrayLike


class TiedHead(Saving):
    """A layer with a token table, ``wte``, that also turns hidden states into logits."""

    _hidden: Any = None  # the argument of the last call of logits in train mode

    def train(self, mode: bool = True) -> Self:
        if not mode:
            self._hidden = None
        return super().train(mode)

    train.__doc__ = Layer.train.__doc__

    @own_floats
    def logits(self, h: ArrayLike) -> Array:
        """``h @ wte.T``: one number for each token, with the token table as output weights.

        Parameters
        ----------
        h : array_like of shape S + (D,)
            In train mode a reference to it is kept for `logits_backward`.

        Returns
        -------
        ndarray of shape S + (V,), of the arithmetic dtype
            Computed by BLAS, on which the last bits depend.
        """
        hidden = self._check_hidden(h)
        if self.training:
            self._hidden = h
        weight = self._output_weight()
        return np.matmul(hidden, weight.T)

    @own_floats
    def logits_backward(self, dlogits: ArrayLike, h: ArrayLike | None = None) -> Array:
        """Add the gradient of `logits` to that of ``wte``, all rows; return the gradient of ``h``.

        Parameters
        ----------
        dlogits : array_like of shape S + (V,)
        h : array_like of shape S + (D,), optional
            The argument of that call; by default that of the last call in train mode.
        """
        if h is None and self._hidden is None:
            raise RuntimeError("logits_backward needs h: there was no call of logits in train mode, and none was given")
        hidden = self._check_hidden(self._hidden if h is None else h)
        wte = self._output_weight()
        n_rows, width = wte.shape
        gradients = _checks.rows("dlogits", dlogits, (*hidden.shape[:-1], n_rows), self._arithmetic)
        dh = np.matmul(gradients, wte)
        dwte = gradients.reshape(-1, n_rows).T @ hidden.reshape(-1, width)
        self._grads["wte"] = self._grads["wte"] + RowGrad(np.arange(n_rows), dwte, wte.shape)
        return dh

    def _output_weight(self) -> Array:
        """The token table, up to date, in the arithmetic dtype."""
        self.apply_pending()
        return _checks.rounded(self.tables["wte"], self._arithmetic)

    def _check_hidden(self, h: ArrayLike) -> Array:
        """``h`` as contiguous rows of the arithmetic dtype."""
        array = _checks.as_array("h", h)
        return _checks.rows("h", array, (*array.shape[:-1], self.tables["wte"].shape[1]), self._arithmetic)
