"""Layers whose rows are spread over processes of several machines, with the bits of one process.

A group of ranks comes from `mpi`, `gloo` or `local`. What a layer of it does (`__call__`, `call`,
`backward`, `to_array`) all ranks do together: the same calls in the same order, each with ids of
its own, also none. The results are those of one process that has the ids of all ranks, those of
rank 0 first. An error in one rank's arguments is raised there, and `PeerError` in the others.
docs/scale.md has the protocol.
"""

from .._interactive import completion
from .bag import ShardedEmbeddingBag
from .clipping import clip_grad_norm
from .embedding import ShardedEmbedding, ShardedNgramEmbedding
from .ranks.errors import PeerError
from .ranks.gloo import gloo
from .ranks.group import Group, local
from .ranks.mpi import mpi
from .replicated import ReplicatedEmbedding, ReplicatedTokenPositionEmbedding
from .saves.checkpoints import Checkpoints
from .together import backward_together, look_up_together

__all__ = [
    "Checkpoints",
    "Group",
    "PeerError",
    "ReplicatedEmbedding",
    "ReplicatedTokenPositionEmbedding",
    "ShardedEmbedding",
    "ShardedEmbeddingBag",
    "ShardedNgramEmbedding",
    "backward_together",
    "clip_grad_norm",
    "gloo",
    "local",
    "look_up_together",
    "mpi",
]
__dir__ = completion.names_of(__all__)
