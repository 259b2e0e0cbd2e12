"""PyTorch's optimisers, with steps of tables that cost the rows of the batch.

Each class is the one of PyTorch of that name, which updates parameters with dense gradients. A
parameter with a row-sparse gradient is updated by the optimiser of `fastembed.optim`: it takes the
same steps, and rows without a gradient take theirs when they are next looked up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch

from ... import optim
from ..._interactive import completion
from . import ops
from .table_steps import TableSteps
from .tables import own_rows

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "RowWiseAdagrad", "SparseAdam", "clip_grad_norm_"]
__dir__ = completion.names_of(__all__)

# Where a group has one of these, PyTorch's own update is used, with a dense gradient.
_DENSE_OPTIONS = ("amsgrad", "capturable", "differentiable")
_SMALLEST_EPS = float(np.finfo(np.float32).tiny)


class RowSteps(torch.optim.Optimizer):
    """An optimiser of PyTorch, whose parameters with row-sparse gradients are updated by rows."""

    _kind: ClassVar[type[Any]]  # the optimiser of fastembed
    _table_steps: dict[torch.Tensor, TableSteps]

    # A table of at most so many elements has dense gradients, unless its layer makes sparse ones:
    # PyTorch's step of the whole table takes less than the fixed cost of one by rows.
    _small: ClassVar[int] = 1 << 19

    # So many elements of a sparse gradient take less time in PyTorch's own sparse step.
    _few: ClassVar[int] = 1 << 16

    # A gradient scaler is to unscale the gradients itself, those of rows too.
    _step_supports_amp_scaling = property(lambda self: False, lambda self, value: None)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; backwards give row-sparse gradients to its tables from now on."""
        super().add_param_group(param_group)
        self.__dict__.setdefault("_table_steps", {})
        self._own(self.param_groups[-1])

    def _own(self, group: dict[str, Any]) -> None:
        for weight in group["params"]:
            if weight.numel() > self._small and self._can_take(group, weight):
                own_rows(weight, self)

    def _kind_of(self, group: dict[str, Any]) -> type[Any]:
        """The optimiser of fastembed for a group."""
        return self._kind

    def _start(self) -> dict[str, Any]:
        """The step count of a new state, as PyTorch's optimiser has it."""
        return {"step": torch.tensor(0.0)}

    def _can_take(self, group: dict[str, Any], weight: torch.Tensor) -> bool:
        """Whether row-sparse gradients of a parameter are taken by rows."""
        is_table = weight.ndim == 2 and weight.device.type == "cpu" and weight.dtype in (torch.float32, torch.float64)
        has_rows = is_table and weight.layout is torch.strided and weight.numel() > 0 and weight.stride(1) == 1
        return has_rows and group.get("eps", 1.0) >= _SMALLEST_EPS and not any(group.get(name) for name in _DENSE_OPTIONS)

    def _takes_sparse(self, group: dict[str, Any]) -> bool:
        """Whether PyTorch's optimiser takes sparse gradients of such a group."""
        return False

    def _is_short(self, group: dict[str, Any], weight: torch.Tensor, grad: torch.Tensor) -> bool:
        """Whether PyTorch's own step with a few sparse rows takes less.

        A large table that has taken steps by rows goes on with them, since another copy of its
        state would cost more.
        """
        is_few = grad._values().numel() <= self._few and (weight.numel() <= self._small or not self._steps_of(weight).has_begun)
        return is_few and self._takes_sparse(group) and not any(group.get(name) for name in ("foreach", "fused", "maximize"))

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; a parameter whose gradient is None takes none.

        Parameters
        ----------
        closure : callable, optional
            Computes the loss and the gradients again, first of all.

        Returns
        -------
        The result of the closure, or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        by_rows, replaced = [], []
        try:
            for group in self.param_groups:
                for weight in group["params"]:
                    grad = weight.grad
                    is_by_rows = _is_by_rows(grad) and self._can_take(group, weight)
                    is_short = is_by_rows and self._is_short(group, weight, grad)
                    if is_by_rows and not is_short:
                        by_rows.append((group, weight, grad))
                        replaced.append((weight, grad))
                        weight.grad = None
                    elif grad is not None:
                        steps = self._steps_of(weight)
                        steps.flush() if is_short else steps.stop()
                        if grad.layout is torch.sparse_coo and not (is_short or self._kind is optim.SparseAdam):
                            replaced.append((weight, grad))
                            weight.grad = grad.to_dense()
            self._step_dense()
            for group, weight, grad in by_rows:
                self._take(group, weight, grad._indices()[0], grad._values())
        finally:
            for weight, grad in replaced:
                weight.grad = grad
        return loss

    def _step_dense(self) -> None:
        """The step of PyTorch's optimiser, without the hooks, which this step has had."""
        step = super().step
        step.__wrapped__(self) if getattr(step, "hooked", False) else step()

    def _take(self, group: dict[str, Any], weight: torch.Tensor, ids: torch.Tensor, values: torch.Tensor) -> None:
        """The step of one parameter with the gradients of some rows."""
        state = self.state[weight]
        if "step" not in state:
            state.update(self._start())
        self._steps_of(weight).step(self._kind_of(group), group, state, ids, values)

    def _steps_of(self, weight: torch.Tensor) -> TableSteps:
        steps = self._table_steps.get(weight)
        if steps is None:
            steps = self._table_steps[weight] = TableSteps(weight)
        return steps

    def flush(self) -> None:
        """Apply the pending updates of all rows, and of their state.

        For tensors that are read by other means than the layers: ``weight`` of a layer, its state
        and the state of the optimiser are up to date without it.
        """
        for steps in self._table_steps.values():
            steps.flush()

    def state_dict(self) -> dict[str, Any]:
        """The state, up to date, as PyTorch's optimiser has it."""
        self.flush()
        return super().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state of this optimiser, or of PyTorch's of the same name."""
        self.flush()
        super().load_state_dict(state_dict)

    def __getstate__(self) -> dict[str, Any]:
        self.flush()
        return super().__getstate__()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._table_steps = {}
        for group in self.param_groups:
            self._own(group)


def _is_by_rows(grad: torch.Tensor | None) -> bool:
    return grad is not None and grad.layout is torch.sparse_coo and grad.sparse_dim() == 1 and grad.dense_dim() == 1


class SGD(RowSteps, torch.optim.SGD):
    """torch.optim.SGD; row-sparse gradients with momentum and weight decay too.

    Examples
    --------
    >>> import torch
    >>> from fastembed.adapters.torch import Embedding, optim
    >>> layer = Embedding.from_pretrained(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), freeze=False)
    >>> opt = optim.SGD(layer.parameters(), lr=0.5)
    >>> layer(torch.tensor([1])).sum().backward()
    >>> opt.step()
    >>> layer.weight.tolist()
    [[1.0, 2.0], [2.5, 3.5]]
    """

    _kind = optim.SGD

    def _takes_sparse(self, group: dict[str, Any]) -> bool:
        return group["momentum"] == 0 == group["weight_decay"]

    def _start(self) -> dict[str, Any]:
        return {}


class Adagrad(RowSteps, torch.optim.Adagrad):
    """torch.optim.Adagrad; row-sparse gradients with weight decay too.

    Examples
    --------
    >>> import torch
    >>> from fastembed.adapters.torch import Embedding, optim
    >>> layer = Embedding.from_pretrained(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), freeze=False)
    >>> opt = optim.Adagrad(layer.parameters(), lr=0.5)
    >>> layer(torch.tensor([1])).sum().backward()
    >>> opt.step()
    >>> layer.weight.tolist()
    [[1.0, 2.0], [2.5, 3.5]]
    """

    _kind = optim.Adagrad

    def _takes_sparse(self, group: dict[str, Any]) -> bool:
        return group["weight_decay"] == 0


class RowWiseAdagrad(RowSteps):
    """`fastembed.optim.RowWiseAdagrad` for parameters of PyTorch: one state number for each row.

    Parameters
    ----------
    params : iterable of torch.Tensor, or of dict
        float32 or float64, on the CPU. Of a parameter of one axis all elements are one row, of one
        with more than two each line of the last axis is.
    lr, eps, weight_decay : float
    weight_decay_mode : {"l2", "decoupled"}
    maximize : bool
        As in `fastembed.optim.RowWiseAdagrad`.

    Raises
    ------
    TypeError
        A parameter is of another kind.

    Examples
    --------
    >>> import torch
    >>> from fastembed.adapters.torch import Embedding, optim
    >>> layer = Embedding.from_pretrained(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), freeze=False)
    >>> opt = optim.RowWiseAdagrad(layer.parameters(), lr=0.5)
    >>> layer(torch.tensor([1])).sum().backward()
    >>> opt.step()
    >>> layer.weight.tolist()
    [[1.0, 2.0], [2.5, 3.5]]
    """

    _kind = optim.RowWiseAdagrad
    _small = 0  # PyTorch has no such optimiser

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        weight_decay_mode: str = "l2",
        *,
        maximize: bool = False,
    ) -> None:
        options = {"lr": lr, "eps": eps, "weight_decay": weight_decay, "weight_decay_mode": weight_decay_mode}
        super().__init__(params, {**options, "maximize": maximize})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; TypeError for what is no float32 or float64 on the CPU."""
        super().add_param_group(param_group)
        for weight in self.param_groups[-1]["params"]:
            if weight.device.type != "cpu" or weight.dtype not in (torch.float32, torch.float64):
                raise TypeError(f"parameters must be float32 or float64 on the CPU, got {weight.dtype} on {weight.device}")

    def _step_dense(self) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    values = weight.grad.reshape(self._steps_of(weight).shape)
                    self._take(group, weight, torch.arange(len(values)), values)


class Adam(RowSteps, torch.optim.Adam):
    """torch.optim.Adam; row-sparse gradients have the meaning of dense ones.

    Examples
    --------
    >>> import torch
    >>> from fastembed.adapters.torch import Embedding, optim
    >>> layer = Embedding.from_pretrained(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), freeze=False)
    >>> opt = optim.Adam(layer.parameters(), lr=0.5)
    >>> layer(torch.tensor([1])).sum().backward()
    >>> opt.step()
    >>> layer.weight.tolist()
    [[1.0, 2.0], [2.5, 3.5]]
    """

    _kind = optim.Adam

    def _kind_of(self, group: dict[str, Any]) -> type[Any]:
        return optim.AdamW if group["decoupled_weight_decay"] else optim.Adam


class AdamW(Adam, torch.optim.AdamW):
    """torch.optim.AdamW; row-sparse gradients have the meaning of dense ones.

    Examples
    --------
    >>> import torch
    >>> from fastembed.adapters.torch import Embedding, optim
    >>> layer = Embedding.from_pretrained(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), freeze=False)
    >>> opt = optim.AdamW(layer.parameters(), lr=0.5, weight_decay=0.5)
    >>> layer(torch.tensor([1])).sum().backward()
    >>> opt.step()
    >>> layer.weight.tolist()
    [[0.75, 1.5], [1.75, 2.5]]
    """


class SparseAdam(RowSteps, torch.optim.SparseAdam):
    """torch.optim.SparseAdam: rows without a gradient keep their values and averages.

    Examples
    --------
    >>> import torch
    >>> from fastembed.adapters.torch import Embedding, optim
    >>> layer = Embedding.from_pretrained(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), freeze=False)
    >>> opt = optim.SparseAdam(layer.parameters(), lr=0.5)
    >>> layer(torch.tensor([1])).sum().backward()
    >>> opt.step()
    >>> layer.weight.round(decimals=3).tolist()
    [[1.0, 2.0], [2.5, 3.5]]
    """

    _kind = optim.SparseAdam
    _small = 0  # it takes no dense gradients

    def _takes_sparse(self, group: dict[str, Any]) -> bool:
        return True

    def _start(self) -> dict[str, Any]:
        return {"step": 0}


def clip_grad_norm_(
    parameters: torch.Tensor | Iterable[torch.Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> torch.Tensor:
    """torch.nn.utils.clip_grad_norm_, for row-sparse gradients too.

    Parameters
    ----------
    parameters : torch.Tensor, or iterable of them
    max_norm, norm_type : float
    error_if_nonfinite : bool
    foreach : bool, optional
        As in PyTorch's function.

    Returns
    -------
    torch.Tensor
        The norm of all elements of all gradients before.

    Examples
    --------
    >>> import torch
    >>> from fastembed.adapters.torch import Embedding, optim
    >>> layer = Embedding(5, 2, sparse=True)
    >>> layer(torch.tensor([1])).backward(torch.tensor([[3.0, 4.0]]))
    >>> optim.clip_grad_norm_(layer.parameters(), 1.0)
    tensor(5.)
    """
    given = [parameters] if isinstance(parameters, torch.Tensor) else list(parameters)
    parts = []
    for weight in given:
        if weight.grad is not None and weight.grad.layout is torch.sparse_coo:
            weight.grad = merged(weight.grad)
            parts.append(SimpleNamespace(grad=weight.grad._values()))
        else:
            parts.append(weight)
    return torch.nn.utils.clip_grad_norm_(parts, max_norm, norm_type, error_if_nonfinite, foreach)


def merged(grad: torch.Tensor) -> torch.Tensor:
    """A row-sparse gradient with each row once, its parts added in their order; in new memory."""
    if not _is_by_rows(grad) or grad.dtype not in (torch.float32, torch.float64):
        return grad.clone().coalesce()
    indices, values = grad._indices()[0], grad._values()
    return ops.as_sparse(ops.row_gradient(values, indices, grad.shape[0], ops.Options(None, False)), grad.dtype)
