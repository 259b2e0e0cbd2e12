"""The steps of one parameter by an optimiser of fastembed, which shares its memory and state."""

from __future__ import annotations

import gc
from typing import Any

import torch

from ... import Embedding as Table
from ... import optim
from .layers import Embedding, EmbeddingBag
from .tables import array_of, is_looked_up, table_of, tensor_of


class TableSteps:
    """Steps of a parameter, with the gradients of some of its rows.

    The state of the optimiser is PyTorch's: its tensors are the arrays of fastembed. Where these
    are no longer the tensors in the state (it was loaded, or PyTorch has taken steps), or the
    parameter has other memory, the optimiser of fastembed is made anew from the state.

    Updates of rows without a gradient are left pending only if the layers here alone read the
    parameter: no other module has it, and every gradient so far came from them.

    Attributes
    ----------
    shape : tuple of int
        Of the table: that of the parameter, if it has two axes.
    """

    def __init__(self, weight: torch.Tensor) -> None:
        self._weight = weight
        self.shape = (-1, weight.shape[-1]) if weight.ndim else (1, 1)
        self._optimizer: Any = None
        self._tensors: dict[str, torch.Tensor] = {}
        self._is_read_by_others: bool | None = None  # not known yet

    def step(
        self, kind: type[Any], group: dict[str, Any], state: dict[str, Any], ids: torch.Tensor, values: torch.Tensor
    ) -> None:
        """One step with the gradients ``values`` of rows; those of one row are added in order."""
        options = {name: _number(group[name]) for name in kind.options}
        table = self._table()
        if not self._continues(kind, options, state, table):
            self._begin(kind, options, state, table)
        self._optimizer.param_groups[0].update(options)
        table.backward(array_of(values), ids.numpy(), optimizer=self._optimizer)
        if "step" in state:
            state["step"] += 1
        torch.autograd.graph.increment_version(self._weight)
        if self._is_read_by_others is None:
            self._is_read_by_others = _is_held_by_others(self._weight)
        if self._is_read_by_others or not is_looked_up(self._weight):
            self.flush()

    def _table(self) -> Table:
        if self._weight.ndim == 2:
            return table_of(self._weight)
        return Table.from_pretrained(array_of(self._weight).reshape(self.shape))

    def _continues(self, kind: type[Any], options: dict[str, Any], state: dict[str, Any], table: Table) -> bool:
        """Whether the optimiser of fastembed is at the state, and is the one for it."""
        if self._optimizer is None or type(self._optimizer) is not kind or self._optimizer.items[0] is not table:
            return False
        needs_state = kind is not optim.SGD or options["momentum"] != 0
        if needs_state and not self._tensors:
            return False
        is_same = all(state.get(name) is tensor for name, tensor in self._tensors.items())
        return is_same and ("step" not in state or int(state["step"]) == self._optimizer.step_counts[0])

    def _begin(self, kind: type[Any], options: dict[str, Any], state: dict[str, Any], table: Table) -> None:
        """Make the optimiser of fastembed from a state, whose tensors become its arrays."""
        self.flush()
        optimizer = kind(table, **options)
        given = {name: _array(value) for name, value in state.items() if isinstance(value, torch.Tensor) and name != "step"}
        if given:
            # SGD counts no steps: with a buffer it is past the first, in which momentum begins.
            given["step"] = int(state.get("step", 1))
            optimizer.load_torch_state_dict({"state": {0: given}, "param_groups": [{"params": [0]}]})
        of_item = optimizer.state_dict()["items"][0]
        self._tensors = {name: tensor_of(arrays["weight"]) for name, arrays in of_item.items() if name != "step"}
        self._optimizer = optimizer
        state.update(self._tensors)

    @property
    def has_begun(self) -> bool:
        """Whether a step by rows has been taken."""
        return self._optimizer is not None

    def flush(self) -> None:
        """Apply the pending updates of the rows and of the state."""
        if self._optimizer is not None:
            self._optimizer.flush()

    def stop(self) -> None:
        """Leave the parameter to PyTorch, which reads it and its state as they are."""
        self.flush()
        self._is_read_by_others = True


def _is_held_by_others(weight: torch.Tensor) -> bool:
    """Whether a module that is none of the layers here has the parameter too, as a tied head has.

    Modules are found from the parameter upwards, which takes a tenth of a look at all objects.
    """
    holders = [part for part in gc.get_referrers(weight) if isinstance(part, dict)]  # among them the modules' _parameters
    attributes = gc.get_referrers(*holders)
    owners = attributes + gc.get_referrers(*(part for part in attributes if isinstance(part, dict)))
    modules = (part for part in owners if issubclass(type(part), torch.nn.Module))
    others = (module for module in modules if not isinstance(module, Embedding | EmbeddingBag))
    return any(own is weight for module in others for own in module._parameters.values())


def _number(value: Any) -> Any:
    """The value of an option, which PyTorch may hold as a tensor."""
    if isinstance(value, torch.Tensor):
        return value.item()
    return tuple(map(_number, value)) if isinstance(value, list | tuple) else value


def _array(value: torch.Tensor) -> Any:
    """A state tensor as an array; PyTorch's momentum of sparse gradients is sparse."""
    return array_of(value.to_dense())
