"""fastembed: the embedding layer on the CPU. Token and position tables in, vectors out, gradients scattered back."""

import importlib

from . import _distribution, optim
from .bag import EmbeddingBag
from .bag_ops import embedding_bag, embedding_bag_backward
from .embedding import Embedding
from .hashed import HashEmbedding, hash_ids
from .ops import gather, gather_add, gather_add_backward, scatter_add
from .optim import Parameter
from .quantized import QuantizedEmbedding
from .rowgrad import RowGrad
from .runtime import show_config, show_runtime
from .statistics import TableStatistics, table_statistics
from .threads import get_num_threads, set_num_threads, threads
from .token_position import TokenPositionEmbedding
from .vocabulary import Vocabulary

__version__ = _distribution.VERSION

__all__ = [
    "Embedding",
    "EmbeddingBag",
    "HashEmbedding",
    "Parameter",
    "QuantizedEmbedding",
    "RowGrad",
    "TableStatistics",
    "TokenPositionEmbedding",
    "Vocabulary",
    "__version__",
    "embedding_bag",
    "embedding_bag_backward",
    "gather",
    "gather_add",
    "gather_add_backward",
    "get_num_threads",
    "hash_ids",
    "optim",
    "scatter_add",
    "set_num_threads",
    "show_config",
    "show_runtime",
    "table_statistics",
    "threads",
]

_distribution.warn_of_namesake()


def __getattr__(name: str) -> object:
    """The modules that an import of the package alone does not load."""
    if name in ("checkpoint", "microgpt", "reference", "training"):
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
