"""fastembed: embedding layers on the CPU, with look-ups, gradients and optimisers."""

import importlib

from . import _version, optim
from ._runtime import show_config, show_runtime
from ._threads import get_num_threads, set_num_threads, threads
from .functional.bags import embedding_bag, embedding_bag_backward
from .functional.lookup import gather, gather_add, gather_add_backward, scatter_add
from .functional.row_grad import RowGrad
from .functional.statistics import TableStatistics, table_statistics
from .layers.bag import EmbeddingBag
from .layers.embedding import Embedding
from .layers.hashed import HashEmbedding, hash_ids
from .layers.quantized import QuantizedEmbedding
from .layers.token_position import TokenPositionEmbedding
from .layers.vocabulary import Vocabulary
from .optim import Parameter

__version__ = _version.VERSION

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

_version.warn_of_namesake()


def __getattr__(name: str) -> object:
    """Import modules that are loaded only when they are used."""
    if name in ("checkpoint", "microgpt", "reference", "search", "training"):
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
