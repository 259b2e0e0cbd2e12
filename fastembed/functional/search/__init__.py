"""Nearest rows, exactly; by an index too."""
