"""The definition of every operation, in pure Python: nested lists, the standard library only.

The names are those of `fastembed`; arrays are nested lists, and ``dtype`` ("float64", "float32",
"float16" or "bfloat16") says how each sum, product, quotient and root is rounded. Generators are
`random.Random`. Everything else in the package is compared with this. It computes in the default
floating-point environment, whatever its caller has set.
"""

from .. import _float_env
from .._interactive import completion
from . import formats, halves, hashed, losses, norms, optim, quantized, rules, statistics
from ._nested import arithmetic, rounding
from .bags import EmbeddingBag, EmbeddingCollection, embedding_bag, embedding_bag_backward, embedding_bags
from .hashed import HashEmbedding, NgramEmbedding, NgramHash, hash_ids, murmur_hash
from .layers import Embedding, Parameter, RowGrad
from .ops import accumulate, gather, gather_add, gather_add_backward, resolve_ids, scatter_add
from .search import analogy, nearest
from .sequences import TokenPositionEmbedding

__all__ = [
    "Embedding",
    "EmbeddingBag",
    "EmbeddingCollection",
    "HashEmbedding",
    "NgramEmbedding",
    "NgramHash",
    "Parameter",
    "RowGrad",
    "TokenPositionEmbedding",
    "accumulate",
    "analogy",
    "arithmetic",
    "embedding_bag",
    "embedding_bag_backward",
    "embedding_bags",
    "formats",
    "gather",
    "gather_add",
    "gather_add_backward",
    "halves",
    "hash_ids",
    "hashed",
    "losses",
    "murmur_hash",
    "nearest",
    "norms",
    "optim",
    "quantized",
    "resolve_ids",
    "rounding",
    "rules",
    "scatter_add",
    "statistics",
]
__dir__ = completion.names_of(__all__)

for _module in (formats, halves, hashed, losses, norms, optim, quantized, rules, statistics):
    _float_env.protect(_module.__name__, _module.__name__)
_float_env.protect(__name__, __name__)
