"""Checkpoints: the public name of `fastembed.io.checkpoint`."""

from .io.checkpoint import CheckpointError, check, contents, load, load_state, save, save_state, statistics

__all__ = ["CheckpointError", "check", "contents", "load", "load_state", "save", "save_state", "statistics"]
