"""Checkpoints of several ranks, whole or as changes, for any number of ranks to load."""
