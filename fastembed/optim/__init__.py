"""Optimisers whose steps cost only the rows of the batch; `Parameter`, a dense array for them."""

from .algorithms import SGD, Adagrad, Adam, AdamW, RowWiseAdagrad, SparseAdam
from .parameter import Parameter, clip_grad_norm

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Parameter", "RowWiseAdagrad", "SparseAdam", "clip_grad_norm"]
