"""Random options and arguments for the layers over PyTorch, compared with PyTorch's own answers."""
