"""Skip-gram with negative sampling.

B: pairs of a batch; K: negatives of a pair; D: columns of a table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _checks
from .._kernels.backend import kernels
from .._kernels.floats import own_floats
from ..functional.lookup import gather, readable_rows, resolve_ids
from ..layers.differentiable import accumulate_or_step
from ..layers.embedding import Embedding
from .logits import mean

if TYPE_CHECKING:
    from .._typing import Array, ArrayLike


@own_floats
def skip_gram(
    inputs: Embedding, outputs: Embedding, centres: ArrayLike, contexts: ArrayLike, negatives: ArrayLike, *, optimizer: Any = None
) -> float:
    """Skip-gram with negative sampling: the loss of a batch, and its gradients or a step.

    Parameters
    ----------
    inputs, outputs : Embedding
        word2vec's tables ``syn0`` and ``syn1neg``, of one width and dtype, without ``max_norm``.
        The vectors that are used later are those of ``inputs``.
    centres : array_like of integers, shape (B,)
        Rows of ``inputs``.
    contexts : array_like of integers, shape (B,)
        Rows of ``outputs``: a word near each centre.
    negatives : array_like of integers, shape (B, K)
        Rows of ``outputs``: words drawn at random. One that is the context of its pair counts for
        nothing, as in word2vec.
    optimizer : one of fastembed.optim, or a sequence of them, optional
        Takes a step of both tables with the gradients: both of them, or none. It holds both layers,
        or each of several holds one. Without it the gradients are added to those of the layers,
        for ``step``.

    Returns
    -------
    float
        The mean over the pairs of ``-log(sigmoid(x y)) - sum of log(sigmoid(-x n))``, in nats, with
        the rows x of the centre, y of the context and n of the negatives before the step. It is 0
        for no pairs, for which ``negatives`` may be an empty list; an optimiser then takes a step
        with zero gradients, as it does in `Embedding.backward` of no ids.

    Raises
    ------
    IndexError
        An id is out of range. Nothing is changed.
    TypeError, ValueError
        An argument is invalid. Nothing is changed.
    RuntimeError
        With an optimiser: an accumulated gradient is pending.

    Notes
    -----
    The formula is (4) of Mikolov et al., "Distributed Representations of Words and Phrases and
    their Compositionality" (2013). All pairs see the tables as they were before the step. Gradients
    are those of the mean: ``fe.optim.SGD(lr=B * alpha)`` moves a row by word2vec's step for each of
    its pairs, with its learning rate alpha. The gradient of an input row is summed over its pairs
    in their order, and within a pair over the context, then the negatives; that of an output row
    over pairs and targets in the same order. Scores are sums in 16 parts in the dtype of the tables
    (float32 for half precision); what comes of them is in float64, rounded once. So the bits do not
    depend on the machine. ``padding_idx``, ``scale_grad_by_freq``, ``trainable_rows``, ``bounds``
    and counts of look-ups of a layer mean what they do in its own calls; an id that has no row
    under ``bounds="zero"`` counts for nothing.

    Examples
    --------
    >>> import fastembed as fe
    >>> inputs, outputs = fe.Embedding(4, 8, std=0.1, rng=0), fe.Embedding(4, 8, std=0.1, rng=1)
    >>> opt = fe.optim.Adagrad([inputs, outputs], lr=0.5)
    >>> pairs = [0, 1, 2, 3], [1, 0, 3, 2], [[2, 3], [2, 3], [0, 1], [0, 1]]
    >>> losses = [fe.losses.skip_gram(inputs, outputs, *pairs, optimizer=opt) for _ in range(20)]
    >>> f"{losses[0]:.2f}", losses[-1] < 0.1
    ('2.09', True)
    """
    _check_tables(inputs, outputs)
    of_centres, targets = _rows_of_pairs(inputs, outputs, centres, contexts, negatives)
    n_pairs, n_targets = targets.shape
    dtype, rows, commit = _checks.arithmetic_dtype(inputs.dtype), targets.reshape(-1), kernels.Commit()
    with inputs.reading(of_centres, commit) as table:
        x = gather(table, of_centres, bounds="zero", out_dtype=dtype)
    pairs = np.repeat(np.arange(n_pairs, dtype=np.int32), n_targets)
    labels = np.zeros(targets.shape, dtype)
    labels[:, 0] = 1
    with outputs.reading(rows, commit) as table:
        table, own = readable_rows(table, rows, dtype)
        scores = kernels.dots(table, own, pairs, x) if n_pairs else np.empty(0, dtype)
        errors, losses = kernels.logistic(scores, labels.reshape(-1), float(n_pairs))
        errors[rows < 0] = losses[rows < 0] = 0
        dx = np.empty((n_pairs, inputs.embedding_dim), dtype)
        ends = np.arange(0, rows.size + 1, n_targets)
        kernels.embedding_bag(table, own, ends, "sum", errors, -1, dx, "zero", None)
    of_inputs = inputs.gradient_of(of_centres, dx)
    of_outputs = outputs.gradient_of(rows, x, sources=pairs, factors=errors.astype(np.float64))
    accumulate_or_step([(inputs, {"weight": of_inputs}), (outputs, {"weight": of_outputs})], optimizer, commit)
    return mean(losses, n_pairs)


def _check_tables(inputs: Embedding, outputs: Embedding) -> None:
    for name, layer in (("inputs", inputs), ("outputs", outputs)):
        if not isinstance(layer, Embedding):
            raise TypeError(f"{name} must be a fastembed.Embedding, got {type(layer).__name__}")
        if layer.max_norm is not None:
            raise ValueError(f"{name} must be without max_norm, got max_norm={layer.max_norm}")
    if inputs is outputs:
        raise ValueError("inputs and outputs must be two layers, got one as both")
    if (inputs.embedding_dim, inputs.dtype) != (outputs.embedding_dim, outputs.dtype):
        shapes = " and ".join(f"{layer.embedding_dim} columns of {layer.dtype}" for layer in (inputs, outputs))
        raise ValueError(f"inputs and outputs must have one width and one dtype, got {shapes}")


def _rows_of_pairs(inputs: Embedding, outputs: Embedding, *ids: ArrayLike) -> tuple[Array, Array]:
    """The row of each centre, (B,), and of its context and negatives, (B, K + 1); -1 for none."""
    layers, names = (inputs, outputs, outputs), ("centre", "context", "negative")
    found = [
        resolve_ids(given, layer.num_embeddings, bounds=layer.bounds, name=f"{name} id")
        for given, layer, name in zip(ids, layers, names, strict=True)
    ]
    of_centres, of_contexts, of_negatives = found
    n_pairs = len(of_centres) if of_centres.ndim == 1 else -1
    if n_pairs == 0 and of_negatives.shape == (0,):  # an empty list says nothing of K
        of_negatives = found[2] = of_negatives.reshape(0, 0)
    if of_contexts.shape != (n_pairs,) or of_negatives.shape[:-1] != (n_pairs,):
        shapes = ", ".join(f"{name}s {rows.shape}" for name, rows in zip(names, found, strict=True))
        raise ValueError(f"centres and contexts must have shape (B,), and negatives (B, K), got {shapes}")
    targets = np.column_stack([of_contexts, np.where(of_negatives == of_contexts[:, None], -1, of_negatives)])
    targets[of_centres < 0] = -1
    return of_centres, targets
