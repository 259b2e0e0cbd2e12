"""Rows of FP8, 256 elements and 8 scales, as functions of their numbers; and a file of them."""

import functools
import json
import os

import numpy as np

N_COLS, ROW = 256, 264
WORDS = ROW // 8
_BLOCK = 1 << 13  # rows
_FREE = np.full(WORDS, 0xFEFEFEFEFEFEFEFE, np.uint64)  # bits that may be any
_FREE[-1] = 0x0707070707070707
_FLUSHED = 1 << 28  # bytes after which what is written leaves the page cache


def bytes_of(rows):
    """The bytes of these rows, uint8 of shape (n, 264).

    Those of a block are random words, which a number of the block turns over bit by bit. No element
    is NaN, and scales are from 2 ** -7 to 1, so that a search has something to compare.
    """
    blocks, places = np.divmod(np.asarray(rows, np.uint64), np.uint64(_BLOCK))
    words = _words()[places.astype(np.int64)]
    words ^= (blocks * np.uint64(0x9E3779B97F4A7C15))[:, None] & _FREE
    return words.view(np.uint8)


@functools.cache
def _words():
    words = np.random.default_rng(0).integers(0, 2**64, (_BLOCK, WORDS), np.uint64) & _FREE
    words[:, -1] |= np.uint64(0x7878787878787878)
    return words


def write(path, n_rows, said):
    """A safetensors file of so many rows, none of which is left in the page cache."""
    header = json.dumps({"rows": {"dtype": "U8", "shape": [n_rows, ROW], "data_offsets": [0, n_rows * ROW]}}).encode()
    header += b" " * (-len(header) % 8)
    n_pending = 0
    with open(path, "wb", buffering=0) as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for first in range(0, n_rows, _BLOCK):
            n_pending += file.write(bytes_of(np.arange(first, min(first + _BLOCK, n_rows))))
            if n_pending >= _FLUSHED or first + _BLOCK >= n_rows:
                os.fdatasync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                n_pending = 0
                said(first / n_rows)
