"""Embedding and EmbeddingBag: PyTorch's modules over tables of fastembed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import nn
from torch._C import _get_tracing_state
from torch.nn.modules import module as of_all_modules

from .functional import embedding, embedding_bag
from .tables import bring_up_to_date, in_large_pages


class _OverTable(nn.Module):
    """A module whose weight may have rows with pending updates: readers see it up to date."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """nn.Module's call, which is ``forward`` where no hook, graph or tracer has a part in it.

        It makes the same tests, but for a few ids its own take a fifth of the look-up.
        """
        own = self.__dict__
        if (
            kwargs
            or not args
            or type(args[0]) is not torch.Tensor
            or own["_forward_hooks"]
            or own["_forward_pre_hooks"]
            or own["_backward_hooks"]
            or own["_backward_pre_hooks"]
            or of_all_modules._global_forward_hooks
            or of_all_modules._global_forward_pre_hooks
            or of_all_modules._global_backward_hooks
            or of_all_modules._global_backward_pre_hooks
            or self._compiled_call_impl
            or _get_tracing_state() is not None
        ):
            return super().__call__(*args, **kwargs)
        return self.forward(*args)

    def reset_parameters(self) -> None:
        """Draw the rows anew; the memory of a new layer is in large pages from the start."""
        in_large_pages(self._stored_weight())
        super().reset_parameters()

    def __getattr__(self, name: str) -> Any:
        value = super().__getattr__(name)
        if name == "weight" and not torch.compiler.is_compiling():  # a graph has the memory itself
            bring_up_to_date(value)
        return value

    def _stored_weight(self) -> torch.Tensor:
        """The weight as it is; a parametrisation's is an attribute of another kind."""
        weight = self._parameters.get("weight")
        return self.weight if weight is None else weight

    def _bring_up_to_date(self) -> None:
        weight = self._parameters.get("weight")
        if weight is not None:
            bring_up_to_date(weight)

    def __getstate__(self) -> dict[str, Any]:
        """The state for copies."""
        self._bring_up_to_date()
        return self.__dict__

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        self._bring_up_to_date()
        return super()._apply(fn, recurse)

    def _save_to_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._bring_up_to_date()
        super()._save_to_state_dict(*args, **kwargs)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._bring_up_to_date()
        super()._load_from_state_dict(*args, **kwargs)


class Embedding(_OverTable, nn.Embedding):
    """torch.nn.Embedding, looked up by fastembed.

    Constructor, state and results are those of the base class. The gradient is sparse with
    ``sparse=True``, and where an optimiser of `fastembed.adapters.torch` has the weight.

    Examples
    --------
    >>> import torch
    >>> from fastembed.adapters.torch import Embedding
    >>> layer = Embedding(10, 3, padding_idx=0)
    >>> layer(torch.tensor([[1, 2], [0, 4]])).shape
    torch.Size([2, 2, 3])
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """The rows of the ids, shape S + (D,)."""
        weight = self._parameters.get("weight")  # of `_stored_weight`, which takes a fortieth of a short look-up more
        if weight is None:
            weight = self.weight
        return embedding(input, weight, self.padding_idx, self.max_norm, self.norm_type, self.scale_grad_by_freq, self.sparse)


class EmbeddingBag(_OverTable, nn.EmbeddingBag):
    """torch.nn.EmbeddingBag, looked up by fastembed.

    Constructor, state and results are those of the base class. The gradient is as in `Embedding`.

    Examples
    --------
    >>> import torch
    >>> from fastembed.adapters.torch import EmbeddingBag
    >>> bag = EmbeddingBag(10, 3, mode="sum")
    >>> bag(torch.tensor([1, 2, 4, 4]), torch.tensor([0, 2])).shape
    torch.Size([2, 3])
    """

    def forward(
        self, input: torch.Tensor, offsets: torch.Tensor | None = None, per_sample_weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        """One row for each bag, shape (B, D)."""
        return embedding_bag(
            input,
            self._stored_weight(),
            offsets,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.mode,
            self.sparse,
            per_sample_weights,
            self.include_last_offset,
            self.padding_idx,
        )


_CLASSES = {nn.Embedding: Embedding, nn.EmbeddingBag: EmbeddingBag}


def convert(module: nn.Module) -> nn.Module:
    """Make every nn.Embedding and nn.EmbeddingBag in a module one of fastembed, in place.

    Each stays the same object, with its weight, hooks and state: only its class changes, and the
    memory of its table is moved into large pages where the system can
    (`fastembed.use_large_pages`). Modules of classes derived from the two are left as they are.

    Returns
    -------
    torch.nn.Module
        The module that was given.

    Examples
    --------
    >>> import torch
    >>> from fastembed.adapters.torch import convert, revert
    >>> model = convert(torch.nn.Sequential(torch.nn.Embedding(5, 2), torch.nn.Linear(2, 1)))
    >>> type(model[0]).__module__
    'fastembed.adapters.torch.layers'
    >>> type(revert(model)[0]).__module__
    'torch.nn.modules.sparse'
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, got {type(module).__name__}")
    for part in module.modules():
        weight = part._parameters.get("weight") if type(part) in _CLASSES else None
        if weight is not None:
            in_large_pages(weight)
    return _with_classes(module, _CLASSES)


def revert(module: nn.Module) -> nn.Module:
    """Undo `convert`: make the layers of fastembed in a module PyTorch's own again, in place.

    An optimiser of `fastembed.adapters.torch` must not go on with their weights.
    """
    for part in module.modules():
        if type(part) in _CLASSES.values():
            part._bring_up_to_date()
    return _with_classes(module, {ours: theirs for theirs, ours in _CLASSES.items()})


def _with_classes(module: nn.Module, classes: dict[type[nn.Module], type[nn.Module]]) -> nn.Module:
    for part in module.modules():
        part.__class__ = classes.get(type(part), type(part))
    return module
