"""Formats of files, read with every number checked: safetensors, .npy, GGUF, shards."""
