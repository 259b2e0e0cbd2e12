"""fastembed: the embedding layer on the CPU. Token and position tables in, vectors out, gradients scattered back."""

from . import _distribution, optim
from .embedding import Embedding, TokenPositionEmbedding
from .ops import gather, gather_add, gather_add_backward, scatter_add
from .optim import Parameter
from .rowgrad import RowGrad
from .runtime import show_config, show_runtime

__version__ = _distribution.VERSION

__all__ = [
    "Embedding",
    "Parameter",
    "RowGrad",
    "TokenPositionEmbedding",
    "__version__",
    "gather",
    "gather_add",
    "gather_add_backward",
    "optim",
    "scatter_add",
    "show_config",
    "show_runtime",
]

_distribution.warn_of_namesake()
