"""microgpt's GPT around the embedding layer, in NumPy, and its training runs.

Losses and samples are those of the public script.
"""

from .._interactive import completion
from .model import BOS_NAME, GPT, Tokenizer, read_documents, rmsnorm, rmsnorm_backward, shapes, softmax

__all__ = ["BOS_NAME", "GPT", "Tokenizer", "read_documents", "rmsnorm", "rmsnorm_backward", "shapes", "softmax"]
__dir__ = completion.names_of(__all__)
