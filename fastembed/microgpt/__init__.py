"""microgpt's GPT around the embedding layer, in NumPy: the losses and samples of the public script; and its training runs."""

from .model import BOS_NAME, GPT, Tokenizer, read_documents, rmsnorm, rmsnorm_backward, shapes, softmax

__all__ = ["BOS_NAME", "GPT", "Tokenizer", "read_documents", "rmsnorm", "rmsnorm_backward", "shapes", "softmax"]
