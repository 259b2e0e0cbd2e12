"""Optimisers whose steps cost only the rows of the batch; `Parameter`, a dense array for them."""

from .._interactive import completion
from .adam import Adam, AdamW, SparseAdam
from .algorithms import SGD, Adagrad, RowWiseAdagrad
from .parameter import Parameter, clip_grad_norm

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Parameter", "RowWiseAdagrad", "SparseAdam", "clip_grad_norm"]
__dir__ = completion.names_of(__all__)
