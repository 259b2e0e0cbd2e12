"""Layers and optimisers for other frameworks, each in a module that is imported by itself."""
