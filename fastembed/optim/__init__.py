"""Optimisers that cost what a batch's rows cost, and the dense `Parameter` that they update beside layers."""

from .algorithms import SGD, Adagrad, Adam, AdamW, RowWiseAdagrad, SparseAdam
from .parameter import Parameter, clip_grad_norm

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Parameter", "RowWiseAdagrad", "SparseAdam", "clip_grad_norm"]
