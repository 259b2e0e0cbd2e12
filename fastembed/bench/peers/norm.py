"""Forward, then RMSNorm of each row, without gain."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import TokenPositionEmbedding, gather_add
from ..timing import Answer, Array, Call
from .base import OURS, Inputs, contender

EPS = 1e-5


def sum_in_parts(x: Array) -> Array:
    """The sum over the last axis: 16 interleaved partial sums, added in pairs, as the reference."""
    padded = np.zeros((*x.shape[:-1], -(-x.shape[-1] // 16) * 16), x.dtype)
    padded[..., : x.shape[-1]] = x
    parts = np.zeros((*x.shape[:-1], 16), x.dtype)
    for d in range(0, padded.shape[-1], 16):
        parts += padded[..., d : d + 16]
    while parts.shape[-1] > 1:
        half = parts.shape[-1] // 2
        parts = parts[..., :half] + parts[..., half:]
    return parts


def norm_answer(inputs: Inputs) -> Answer:
    """The formula in NumPy, with the reference's order of sums."""
    x, of = inputs.wte[inputs.ids[0]] + inputs.positions(), inputs.wte.dtype.type
    scale = of(1) / np.sqrt(sum_in_parts(x * x) / of(x.shape[-1]) + of(EPS))
    return (x * scale,)


@contender(OURS, "TokenPositionEmbedding(norm=), out=")
def _ours(inputs: Inputs) -> Call:
    layer, ids, out = (
        TokenPositionEmbedding.from_arrays(inputs.wte, inputs.wpe, norm="rms", norm_eps=EPS),
        inputs.ids,
        inputs.buffer(),
    )
    return lambda k: layer(ids[k], out=out)


@contender("numpy", "norm of fastembed's gather_add(out=)")
def _ours_and_numpy(inputs: Inputs) -> Call:
    wte, wpe, ids, out, eps = inputs.wte, inputs.wpe, inputs.ids, inputs.buffer(), inputs.wte.dtype.type(EPS)

    def call(k: int) -> Array:
        x = gather_add(wte, ids[k], wpe, out=out)
        return np.divide(x, np.sqrt((x * x).mean(-1, keepdims=True) + eps), out=out)

    return call


@contender("numpy", "take(out=) + add(out=), norm")
def _numpy(inputs: Inputs) -> Call:
    wte, wpe, ids, out, eps = inputs.wte, inputs.positions(), inputs.ids, inputs.buffer(), inputs.wte.dtype.type(EPS)

    def call(k: int) -> Array:
        np.take(wte, ids[k], axis=0, out=out, mode="clip")
        np.add(out, wpe, out=out)
        return np.divide(out, np.sqrt((out * out).mean(-1, keepdims=True) + eps), out=out)

    return call


@contender("torch", "F.rms_norm(index_select(out=) + add_)")
def _torch(inputs: Inputs) -> Call:
    import torch

    wte, wpe, out = torch.from_numpy(inputs.wte), torch.from_numpy(inputs.positions()), inputs.buffer()
    ids, target, width = [torch.from_numpy(ids.ravel()) for ids in inputs.ids], torch.from_numpy(out), out.shape[-1]

    def call(k: int) -> Any:
        torch.index_select(wte, 0, ids[k], out=target.view(-1, width))
        return torch.nn.functional.rms_norm(target.add_(wpe), (width,), eps=EPS)

    return call


NORM = (_ours, _ours_and_numpy, _numpy, _torch)
