"""Names of the formats that a foreign file may have, for errors."""

from __future__ import annotations

import re

N_BYTES = 4096  # bytes from the beginning of a file that tell its format

_BEGINNINGS = (
    (b"\x93NUMPY", "a .npy array, which numpy.load reads, and fastembed.load_vectors"),
    (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19", "a PyTorch file of an old version: save its arrays from PyTorch"),
    (b"\x80\x02", "a pickle, which can run any code and is not read"),
    (b"\x80\x04", "a pickle, which can run any code and is not read"),
    (b"\x80\x05", "a pickle, which can run any code and is not read"),
    (b"\x89HDF", "an HDF5 file, which h5py reads"),
    (b"GGUF", "a GGUF file"),
    (b"PAR1", "a Parquet file: fastembed.load_vectors reads vectors in it"),
    (b"ARROW1", "an Arrow file: fastembed.load_vectors reads vectors in it"),
    (b"\xba\x16\x4f\x2f", "a model of fastText: save its vectors as .vec"),
    (b"\xff\xfe", "text in UTF-16: convert it to UTF-8"),
    (b"\xfe\xff", "text in UTF-16: convert it to UTF-8"),
    (b"BZh", "compressed by bzip2: decompress it first"),
    (b"\xfd7zXZ\x00", "compressed by xz: decompress it first"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd: decompress it first"),
    (b"\x1f\x8b", "compressed by gzip: decompress it first, unless it holds vectors, which fastembed.load_vectors reads"),
)
_NUMBER = rb"[-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?"
_TEXT = re.compile(rb"[^\x00-\x08\x0e-\x1f\x7f]*")


def description(head: bytes) -> str | None:
    """What a file that begins with these bytes is, or None if that is unknown."""
    if not head:
        return "it is empty"
    if head[8:9] == b"{":  # a safetensors file: its first 8 bytes are a length, and may look like anything
        return None
    if head.startswith(b"PK\x03\x04"):
        return f"it is {_archive(head)}"
    for beginning, what in _BEGINNINGS:
        if head.startswith(beginning):
            return f"it is {what}"
    line, *more = head.split(b"\n", 1)
    if re.fullmatch(rb"[0-9]+ [0-9]+\r?", line) and more:
        return "it holds vectors in the format of word2vec: fastembed.load_vectors reads it"
    if not is_text(head):
        return None
    if re.match(rb"[^ \t]+([ \t]" + _NUMBER + rb"){2,}", line):
        return "it is text with a vector on each line, as those of GloVe or fastText: fastembed.load_vectors reads it"
    return "it is text"


def is_text(head: bytes) -> bool:
    """Whether bytes have none of the control characters that texts do not have."""
    return _TEXT.fullmatch(head) is not None


def _archive(head: bytes) -> str:
    """Which kind of zip file; the name of its first member begins at byte 30."""
    name = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    if name.endswith(b".npy"):
        return "a .npz archive, which numpy.load reads, and fastembed.load_vectors"
    if name.endswith((b"/data.pkl", b"/.format_version", b"/version", b"/byteorder")):
        return "a PyTorch file: save its arrays from PyTorch"
    return "a zip archive: unpack it first"
