"""PyTorch's embedding layers over fastembed's tables, which share the memory of the parameters."""

try:
    import torch  # noqa: F401
except ImportError as error:
    raise ImportError("fastembed.adapters.torch needs PyTorch: pip install 'microgpt-fastembed[torch]'") from error

from ..._interactive import completion
from . import functional, optim
from .layers import Embedding, EmbeddingBag, convert, revert

__all__ = ["Embedding", "EmbeddingBag", "convert", "functional", "optim", "revert"]
__dir__ = completion.names_of(__all__)
