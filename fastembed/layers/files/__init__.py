"""Layers in files: their own, with names and options, and those of vectors."""
