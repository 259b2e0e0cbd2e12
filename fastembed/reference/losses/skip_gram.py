"""Skip-gram with negative sampling, on two layers."""

from __future__ import annotations

from typing import Any

from .._nested import arithmetic, flat, rounding
from ..bags import embedding_bag
from ..ops import gather, resolve_ids
from ..rules import dot
from .logits import logistic, mean


def skip_gram(
    inputs: Any, outputs: Any, centres: list[int], contexts: list[int], negatives: list[list[int]], optimizer: Any = None
) -> float:
    """Skip-gram with negative sampling; ``inputs`` and ``outputs`` are `Embedding` layers.

    The score of a pair is the product of two rows, of the centre in ``inputs`` and of the context,
    or of a negative, in ``outputs``; a context has the target 1, a negative 0 in `logistic`. The
    loss of a centre is the sum over its context and negatives; the result is the mean over centres.
    A negative that is the context, and what has no row under bounds "zero", counts for nothing.
    """
    n, dtype = len(centres), arithmetic(inputs.dtype)
    r = rounding(dtype)
    of_centres = resolve_ids(centres, len(inputs.weight), inputs.bounds, "centre id")
    of_contexts = resolve_ids(contexts, len(outputs.weight), outputs.bounds, "context id")
    of_negatives = resolve_ids(negatives, len(outputs.weight), outputs.bounds, "negative id")
    n_negatives = len(negatives[0]) if negatives else 0
    targets: list[int | None] = []
    for i, (centre, context) in enumerate(zip(of_centres, of_contexts, strict=True)):
        drawn = of_negatives[i * n_negatives : (i + 1) * n_negatives]
        own = [context, *(None if row == context else row for row in drawn)]
        targets += [None] * len(own) if centre is None else own
    x = gather(inputs.weight, [-1 if row is None else row for row in of_centres], bounds="zero", dtype=dtype)
    width, losses, errors = n_negatives + 1, [], []
    for k, row in enumerate(targets):
        loss, error = 0.0, 0.0
        if row is not None:
            loss, error = logistic(dot(outputs.weight[row], x[k // width], r), float(k % width == 0), float(n), r)
        losses.append(loss)
        errors.append(error)
    ids = [-1 if row is None else row for row in targets]
    dx = embedding_bag(
        outputs.weight, ids, [i * width for i in range(n)], mode="sum", per_sample_weights=errors, bounds="zero", dtype=dtype
    )
    kept = [None if row == outputs.padding_idx else row for row in targets]
    of_pairs = [x_d for k in range(len(targets)) for x_d in x[k // width]]
    inputs.grads()["weight"].accumulate(
        [None if row == inputs.padding_idx else row for row in of_centres], list(flat(dx)), inputs.scale_grad_by_freq
    )
    outputs.grads()["weight"].accumulate(kept, of_pairs, outputs.scale_grad_by_freq, errors)
    if optimizer is not None:
        for layer in (inputs, outputs):
            optimizer.train(layer)
            layer.zero_grad()
    return mean(losses, n)
