"""The look-ups of `ops` as operators that torch.compile keeps in its graphs, with gradients."""

from __future__ import annotations

from typing import Any

import torch

from . import ops

# A gradient in a graph is dense. No padding row is -1.


def _padding(index: int | None) -> int:
    return -1 if index is None else index


def _options(padding_idx: int, scale_grad_by_freq: bool) -> ops.Options:
    return ops.Options(None if padding_idx < 0 else padding_idx, scale_grad_by_freq)


@torch.library.custom_op("fastembed::embedding", mutates_args=())
def _embedding(weight: torch.Tensor, ids: torch.Tensor, padding_idx: int, scale_grad_by_freq: bool) -> torch.Tensor:
    return ops.look_up(weight, ids)


@_embedding.register_fake
def _(weight: torch.Tensor, ids: torch.Tensor, padding_idx: int, scale_grad_by_freq: bool) -> torch.Tensor:
    return weight.new_empty((*ids.shape, weight.shape[1]))


@torch.library.custom_op("fastembed::embedding_backward", mutates_args=())
def _embedding_backward(
    dout: torch.Tensor, ids: torch.Tensor, n_rows: int, padding_idx: int, scale_grad_by_freq: bool
) -> torch.Tensor:
    return ops.dense_gradient(dout, ids, n_rows, _options(padding_idx, scale_grad_by_freq))


@_embedding_backward.register_fake
def _(dout: torch.Tensor, ids: torch.Tensor, n_rows: int, padding_idx: int, scale_grad_by_freq: bool) -> torch.Tensor:
    return dout.new_empty((n_rows, dout.shape[-1]))


def _save_embedding(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    weight, ids, *ctx.options = inputs
    ctx.n_rows = weight.shape[0]
    ctx.save_for_backward(ids)


def _differentiate_embedding(ctx: Any, dout: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    (ids,) = ctx.saved_tensors
    return torch.ops.fastembed.embedding_backward(dout, ids, ctx.n_rows, *ctx.options), None, None, None


_embedding.register_autograd(_differentiate_embedding, setup_context=_save_embedding)


@torch.library.custom_op("fastembed::embedding_bag", mutates_args=())
def _embedding_bag(
    weight: torch.Tensor,
    ids: torch.Tensor,
    offsets: torch.Tensor | None,
    weights: torch.Tensor | None,
    mode: str,
    include_last_offset: bool,
    padding_idx: int,
    scale_grad_by_freq: bool,
) -> torch.Tensor:
    options = ops.BagOptions(mode, include_last_offset, *_options(padding_idx, scale_grad_by_freq))
    return ops.look_up_bags(weight, ops.Bags(ids, offsets, weights), options)


@_embedding_bag.register_fake
def _(
    weight: torch.Tensor,
    ids: torch.Tensor,
    offsets: torch.Tensor | None,
    weights: torch.Tensor | None,
    mode: str,
    include_last_offset: bool,
    padding_idx: int,
    scale_grad_by_freq: bool,
) -> torch.Tensor:
    n_bags = ids.shape[0] if offsets is None else offsets.shape[0] - include_last_offset
    return weight.new_empty((n_bags, weight.shape[1]))


@torch.library.custom_op("fastembed::embedding_bag_backward", mutates_args=())
def _embedding_bag_backward(
    dout: torch.Tensor,
    weight: torch.Tensor,
    ids: torch.Tensor,
    offsets: torch.Tensor | None,
    weights: torch.Tensor | None,
    mode: str,
    include_last_offset: bool,
    padding_idx: int,
    scale_grad_by_freq: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    options = ops.BagOptions(mode, include_last_offset, *_options(padding_idx, scale_grad_by_freq))
    grad, dweights = ops.bag_gradient(dout, weight, ops.Bags(ids, offsets, weights), options)
    return ops.as_dense(grad, dout.dtype), dout.new_empty(0) if dweights is None else dweights


@_embedding_bag_backward.register_fake
def _(
    dout: torch.Tensor,
    weight: torch.Tensor,
    ids: torch.Tensor,
    offsets: torch.Tensor | None,
    weights: torch.Tensor | None,
    *options: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty_like(weight), dout.new_empty(0 if weights is None else ids.shape)


def _save_bags(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    weight, ids, offsets, weights, *ctx.options = inputs
    ctx.save_for_backward(weight, ids, offsets, weights)


def _differentiate_bags(ctx: Any, dout: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    saved = ctx.saved_tensors
    dweight, dweights = torch.ops.fastembed.embedding_bag_backward(dout, *saved, *ctx.options)
    return dweight, None, None, None if saved[-1] is None else dweights, None, None, None, None


_embedding_bag.register_autograd(_differentiate_bags, setup_context=_save_bags)


def embedding(weight: torch.Tensor, ids: torch.Tensor, options: ops.Options) -> torch.Tensor:
    """`ops.look_up` in a graph."""
    return torch.ops.fastembed.embedding(weight, ids, _padding(options.padding_idx), options.scale_grad_by_freq)


def embedding_bag(weight: torch.Tensor, bags: ops.Bags, options: ops.BagOptions) -> torch.Tensor:
    """`ops.look_up_bags` in a graph."""
    mode, include_last_offset, padding_idx, scale_grad_by_freq = options
    return torch.ops.fastembed.embedding_bag(weight, *bags, mode, include_last_offset, _padding(padding_idx), scale_grad_by_freq)
