"""Checkpoints: the public name of `fastembed.io.checkpoint`."""

from ._interactive import completion
from .io.checkpoint import CheckpointError, check, contents, load, load_state, save, save_state, statistics

__all__ = ["CheckpointError", "check", "contents", "load", "load_state", "save", "save_state", "statistics"]
__dir__ = completion.names_of(__all__)
