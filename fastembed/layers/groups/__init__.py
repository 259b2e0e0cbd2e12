"""Layers that hold many tables."""
