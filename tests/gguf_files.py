"""GGUF files as bytes, made from their parts."""

import struct


def string(text):
    return struct.pack("<Q", len(text.encode())) + text.encode()


def header(keys=(), tensors=(), version=3, n_tensors=None):
    """Keys are (name, type, bytes of the value), tensors (name, axes in the file, type, offset)."""
    n = len(tensors) if n_tensors is None else n_tensors
    parts = [struct.pack("<4sIQQ", b"GGUF", version, n, len(keys))]
    parts += [string(name) + struct.pack("<I", kind) + value for name, kind, value in keys]
    for name, axes, kind, offset in tensors:
        parts.append(string(name) + struct.pack(f"<I{len(axes)}QIQ", len(axes), *axes, kind, offset))
    return b"".join(parts)


def padded(head, data=b"", multiple=32):
    return head + bytes(-len(head) % multiple) + data
