"""The embedding stage of thinc on the CPU: `FastEmbedOps`, `Embed` and `HashEmbed`.

thinc finds them by their entry points: `get_ops("fastembed")`, and in configs the layers
`fastembed.Embed.v1` and `fastembed.HashEmbed.v1`.
"""

try:
    import thinc  # noqa: F401
except ImportError as error:
    raise ImportError("fastembed.adapters.thinc needs thinc: pip install 'microgpt-fastembed[thinc]'") from error

from ..._interactive import completion
from .layers import Embed, HashEmbed
from .ops import FastEmbedOps

__all__ = ["Embed", "FastEmbedOps", "HashEmbed"]
__dir__ = completion.names_of(__all__)
