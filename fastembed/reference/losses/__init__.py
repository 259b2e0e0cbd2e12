"""Losses of embedding tables: cross-entropies of logits, skip-gram with negative sampling."""

from .exponentials import exp, log, log1p
from .logits import binary_cross_entropy, cross_entropy, logistic, softmax_row
from .skip_gram import skip_gram

__all__ = ["binary_cross_entropy", "cross_entropy", "exp", "log", "log1p", "logistic", "skip_gram", "softmax_row"]
