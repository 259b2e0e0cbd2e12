"""fastembed: embedding layers on the CPU, with look-ups, gradients and optimisers."""

import importlib
from typing import TYPE_CHECKING

from . import _float_env, _version
from ._memory import memory_errors

with _float_env.default_floats(), _version.settings_checked():
    from ._runtime import show_config, show_runtime
    from ._threads import get_num_threads, set_num_threads, threads
    from .functional.lookup import gather, gather_add, gather_add_backward, scatter_add
    from .functional.row_grad import RowGrad
    from .functional.statistics import TableStatistics, table_statistics
    from .layers.embedding import Embedding
    from .layers.token_position import TokenPositionEmbedding
    from .tables.vocabulary import Vocabulary

if TYPE_CHECKING:
    from . import checkpoint as checkpoint
    from . import distributed as distributed
    from . import explorer as explorer
    from . import losses as losses
    from . import microgpt as microgpt
    from . import optim
    from . import plots as plots
    from . import reference as reference
    from . import schedule as schedule
    from . import search as search
    from . import training as training
    from .functional.bags import embedding_bag, embedding_bag_backward
    from .functional.large_pages import use_large_pages
    from .functional.ngram.hash import NgramHash
    from .io.formats.gguf_file import open_gguf
    from .io.formats.shards import open_shards
    from .layers.bag import EmbeddingBag
    from .layers.files.saved import load
    from .layers.files.vectors import load_vectors
    from .layers.groups.collection import EmbeddingCollection
    from .layers.hashed import HashEmbedding, hash_ids, murmur_hash
    from .layers.ngram import NgramEmbedding, PackedNgramEmbedding
    from .layers.quantized import QuantizedEmbedding
    from .layers.sentences import SentenceEncoder
    from .optim import Parameter
    from .tables.attached import AttachedTable
    from .tables.disk import DiskTable
    from .tables.packed import PackedTable
    from .tables.split import SplitTable

__version__ = _version.VERSION

__all__ = [
    "AttachedTable",
    "DiskTable",
    "Embedding",
    "EmbeddingBag",
    "EmbeddingCollection",
    "HashEmbedding",
    "NgramEmbedding",
    "NgramHash",
    "PackedNgramEmbedding",
    "PackedTable",
    "Parameter",
    "QuantizedEmbedding",
    "RowGrad",
    "SentenceEncoder",
    "SplitTable",
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
    "load",
    "load_vectors",
    "murmur_hash",
    "open_gguf",
    "open_shards",
    "optim",
    "scatter_add",
    "set_num_threads",
    "show_config",
    "show_runtime",
    "table_statistics",
    "threads",
    "use_large_pages",
]

_version.warn_of_namesake()


# What an import of the package alone does not load: it would take a third of its time.
_MODULES = (
    "checkpoint",
    "distributed",
    "explorer",
    "losses",
    "microgpt",
    "optim",
    "plots",
    "reference",
    "schedule",
    "search",
    "training",
)
_NAMES = {
    "AttachedTable": "tables.attached",
    "DiskTable": "tables.disk",
    "EmbeddingBag": "layers.bag",
    "EmbeddingCollection": "layers.groups.collection",
    "HashEmbedding": "layers.hashed",
    "NgramEmbedding": "layers.ngram",
    "NgramHash": "functional.ngram.hash",
    "PackedNgramEmbedding": "layers.ngram",
    "PackedTable": "tables.packed",
    "Parameter": "optim",
    "QuantizedEmbedding": "layers.quantized",
    "SentenceEncoder": "layers.sentences",
    "SplitTable": "tables.split",
    "embedding_bag": "functional.bags",
    "embedding_bag_backward": "functional.bags",
    "hash_ids": "layers.hashed",
    "load": "layers.files.saved",
    "load_vectors": "layers.files.vectors",
    "murmur_hash": "layers.hashed",
    "open_gguf": "io.formats.gguf_file",
    "open_shards": "io.formats.shards",
    "use_large_pages": "functional.large_pages",
}


@memory_errors()
def _loaded(name: str) -> object:
    return _float_env.in_default_floats(importlib.import_module, (f".{name}", __name__), {})


def __getattr__(name: str) -> object:
    """A public module or name that is loaded when it is first asked for."""
    if name in _MODULES:
        return _loaded(name)
    if name in _NAMES:
        found = getattr(_loaded(_NAMES[name]), name)
        globals()[name] = found
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES, "__doc__", "__file__", "__name__"})
