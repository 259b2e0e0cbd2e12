"""Layers: tables with a call, a row-sparse gradient, and pending updates of an optimiser."""
