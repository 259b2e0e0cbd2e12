"""What type checkers see of the public names: `make lint` checks this file, and nothing runs it.

An option that does not exist must be an error: mypy says so of an ignored error that is none.
"""

from typing import Any

import fastembed as fe
from fastembed.checkpoint import CheckpointError


def layers() -> tuple[fe.Vocabulary | None, Any, bool, type[ValueError]]:
    layer = fe.Embedding(3, 2, padding_idx=0, rng=0)
    fe.Embedding(3, 2, padding_index=0)  # type: ignore[call-arg]
    layer.trainable_row = [1]  # type: ignore[attr-defined]
    small = fe.QuantizedEmbedding.from_float(layer)
    found = layer.nearest("king", exclude=["queen"]).ids + small.nearest([1], 3).ids
    return small.vocabulary, layer["king"] + small["king"] + found, "king" in layer and "king" in small, CheckpointError


def optimizers(layer: fe.Embedding) -> None:
    fe.optim.SGD(layer, lr=fe.schedule.cosine(0.1, 100), trainable_rows=[1])
    fe.optim.Adam(layer, lr=0.1, stochastic_rounding=3)
    fe.optim.Adam(layer, learning_rate=0.1)  # type: ignore[call-arg]
    fe.optim.AdamW([layer], trainable_row=[1])  # type: ignore[call-arg]
    fe.optim.SparseAdam([layer], weight_decay=0.1)  # type: ignore[call-arg]
    fe.optim.Adagrad([layer], master_row=True)  # type: ignore[call-arg]


def modules() -> tuple[Any, ...]:
    fe.microgpt.GPTs  # type: ignore[attr-defined]  # noqa: B018
    return (
        fe.checkpoint.load,
        fe.distributed.local,
        fe.explorer.save,
        fe.losses.skip_gram,
        fe.microgpt.GPT,
        fe.plots.rows,
        fe.reference.gather,
        fe.search.Searchable,
        fe.training.Run,
    )
