"""A drawn call, made by fastembed's function and by PyTorch's: results, gradients, errors.

PyTorch answers in float32 where the table is of half precision, since it sums in half precision
itself. Where its answer is wrong (docs/torch.md), the right one comes from indexing.
"""

from unittest import mock

import torch
import torch.nn.functional as F

from fastembed.adapters.torch import functional, tables

from .draws import Call, draw

FULL = (torch.float32, torch.float64)


class Optimizer:
    """What owns the rows of a table."""


def check(seed: int, case: int) -> bool:
    """Compare one call; whether both raised."""
    call = draw(seed, case)
    try:
        theirs = outcome(by_indexing if is_wrong_in_torch(call) else by_torch, call)
        ours = outcome(by_fastembed, call)
        if isinstance(ours, Exception) or isinstance(theirs, Exception):
            assert isinstance(ours, Exception), f"PyTorch raised {theirs!r}"
            assert isinstance(theirs, Exception), f"only fastembed raised {ours!r}"
            assert type(ours) is type(theirs) or isinstance(ours, IndexError), f"{ours!r}, {theirs!r}"
            return True
        for name, value in theirs.items():
            compare(name, ours[name], value, call)
    except Exception as error:
        error.add_note(f"python -m torch_draws --only calls --seed {seed} --case {case}")
        raise
    return False


def is_wrong_in_torch(call: Call) -> bool:
    """The list of docs/torch.md: errors without a reason, and wrong counts of ids."""
    if call.bags is None:
        return call.options["sparse"] and (call.options["scale_grad_by_freq"] or call.ids.ndim == 0)
    if call.bags["mode"] == "max" and (call.options["sparse"] or call.options["scale_grad_by_freq"]):
        return False  # an error
    if call.bags["mode"] != "sum" and call.bags["per_sample_weights"] is not None:
        return False  # an error
    is_empty = call.weight.shape[1] == 0 or (call.ids.ndim == 2 and call.ids.shape[1] == 0)
    return is_empty or call.options["scale_grad_by_freq"]


def outcome(function, call):
    try:
        return function(call)
    except (RuntimeError, ValueError, IndexError, NotImplementedError) as error:
        return error


def with_gradients(result, weight, weights, rows):
    """Result, changed table and gradients; each element of the result has another gradient."""
    dout = torch.arange(1, result.numel() + 1, dtype=torch.float64).reshape(result.shape).remainder(7).sub(2).to(result.dtype)
    result.backward(dout)
    return {
        "result": result.detach(),
        "weight": weight.detach(),
        "grad": weight.grad if rows is None else rows.grad,
        "dweights": None if weights is None else weights.grad,
    }


def arguments(call: Call, to: torch.dtype):
    """A leaf of a graph with the table's values in that dtype, the weights, and other arguments."""
    values, bags, options = call.weight, dict(call.bags or {}), dict(call.options)
    if options["max_norm"] is not None and to is not values.dtype and values.numel() and not has_bad_id(call):
        values = values.clone()  # rows that are scaled down are rounded to the table's dtype
        torch.embedding_renorm_(values, call.ids.contiguous(), options["max_norm"], options["norm_type"])
        options["max_norm"] = None
    weight = torch.empty_strided(values.shape, call.weight.stride(), dtype=to).copy_(values).requires_grad_()
    weights = bags.get("per_sample_weights")
    if weights is not None:
        bags["per_sample_weights"] = weights = weights.detach().to(to).requires_grad_(weights.requires_grad)
    return weight, weights, bags | options


def has_bad_id(call: Call) -> bool:
    return bool(((call.ids < 0) | (call.ids >= len(call.weight))).any())


def padding_row(call: Call):
    padding_idx = call.options["padding_idx"]
    return padding_idx if padding_idx is None else padding_idx % max(len(call.weight), 1)


def by_fastembed(call: Call):
    weight, weights, others = arguments(call, call.weight.dtype)
    optimizer = Optimizer()
    if call.is_owned:
        tables.table_of(weight)
        tables.own_rows(weight, optimizer)
    with mock.patch.object(functional, "SMALL", call.small):
        function = functional.embedding if call.bags is None else functional.embedding_bag
        answer = with_gradients(function(call.ids, weight, **others), weight, weights, None)
    grad = answer["grad"]
    assert grad.is_sparse == (call.options["sparse"] or call.is_owned)
    if grad.is_sparse and call.is_owned:
        indices = grad._indices()[0]
        assert indices.dtype is torch.int64
        is_listed = call.bags is None and call.ids.ndim and not call.options["scale_grad_by_freq"]
        if is_listed and grad.dtype in FULL and grad.shape[1]:  # as PyTorch's
            assert indices.tolist() == [k for k in call.ids.reshape(-1).tolist() if k != padding_row(call)]
        else:
            assert bool((indices.diff() > 0).all())
    return answer


def by_torch(call: Call):
    weight, weights, others = arguments(call, arithmetic(call))
    function = F.embedding if call.bags is None else F.embedding_bag
    return with_gradients(function(call.ids, weight, **others), weight, weights, None)


def by_indexing(call: Call):
    """What embedding and embedding_bag mean; of maxima, those of nothing."""
    weight, weights, others = arguments(call, arithmetic(call))
    n_rows, ids = len(weight), call.ids.long()
    if has_bad_id(call):
        raise IndexError("an id is out of range")
    if others["max_norm"] is not None:
        with torch.no_grad():
            torch.embedding_renorm_(weight, ids.contiguous(), others["max_norm"], others["norm_type"])
    counts = torch.bincount(ids.reshape(-1), minlength=n_rows)
    rows = weight.detach().clone().requires_grad_()
    scaled = _ScaledGradient.apply(
        rows[ids], 1 / counts[ids][..., None].to(rows.dtype) if others["scale_grad_by_freq"] else torch.ones(())
    )
    padding = -1 if others["padding_idx"] is None else others["padding_idx"] % n_rows
    is_kept = (ids != padding)[..., None]
    if call.bags is None:
        return with_gradients(torch.where(is_kept, scaled, weight.detach()[ids]), weight, weights, rows)
    factors = is_kept * (torch.ones_like(scaled[..., :1]) if weights is None else weights[..., None])
    bag_of = bag_numbers(call)
    n_bags = len(ids) if ids.ndim == 2 else len(others["offsets"]) - others["include_last_offset"]
    sums = torch.zeros(n_bags, weight.shape[1], dtype=weight.dtype).index_add(0, bag_of, (scaled * factors).flatten(0, -2))
    if others["mode"] == "mean":
        counts = torch.zeros(n_bags, dtype=torch.int64).index_add(0, bag_of, is_kept.long().reshape(-1))
        sums = sums / counts.clamp(min=1)[:, None]
    return with_gradients(sums, weight, weights, rows)


def bag_numbers(call: Call) -> torch.Tensor:
    if call.ids.ndim == 2:
        return torch.arange(len(call.ids)).repeat_interleave(call.ids.shape[1])
    offsets = call.bags["offsets"].long()
    ends = offsets if call.bags["include_last_offset"] else torch.cat([offsets, torch.tensor([len(call.ids)])])
    return torch.arange(len(ends) - 1).repeat_interleave(ends.diff())


class _ScaledGradient(torch.autograd.Function):
    """The values, whose gradient is multiplied by factors."""

    @staticmethod
    def forward(ctx, values, factors):
        ctx.save_for_backward(factors)
        return values.clone()

    @staticmethod
    def backward(ctx, dout):
        return dout * ctx.saved_tensors[0], None


def arithmetic(call: Call) -> torch.dtype:
    return torch.float64 if call.weight.dtype is torch.float64 else torch.float32


def compare(name, ours, theirs, call: Call):
    """The bits of a plain look-up and its gradient; rounding of sums that are grouped otherwise."""
    if theirs is None:
        assert ours is None, name
        return
    assert ours.shape == theirs.shape, (name, ours.shape, theirs.shape)
    ours, theirs = ours.to_dense(), theirs.to_dense()
    assert ours.dtype is call.weight.dtype, (name, ours.dtype)
    is_plain = call.bags is None and call.options["max_norm"] is None and not call.options["scale_grad_by_freq"]
    if is_plain:
        assert torch.equal(ours, theirs.to(ours.dtype)), name
    else:
        rounding = max(torch.finfo(ours.dtype).eps, 2e-5 if ours.dtype is not torch.float64 else 1e-12)
        atol = min(rounding, 2e-5)
        torch.testing.assert_close(ours, theirs.to(ours.dtype), rtol=rounding, atol=atol, msg=lambda text: f"{name}: {text}")
