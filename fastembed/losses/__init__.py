"""Losses that train embedding tables: skip-gram with negative sampling, cross-entropies."""

from .._interactive import completion
from .logits import binary_cross_entropy, cross_entropy
from .skip_gram import skip_gram

__all__ = ["binary_cross_entropy", "cross_entropy", "skip_gram"]
__dir__ = completion.names_of(__all__)
