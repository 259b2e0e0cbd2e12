"""Checkpoints: the public name of `fastembed.io.checkpoint`."""

from .io.checkpoint import CheckpointError, check, load, load_state, save, save_state, statistics

__all__ = ["CheckpointError", "check", "load", "load_state", "save", "save_state", "statistics"]
