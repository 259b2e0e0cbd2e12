"""Names, tables and files for the tests of vectors, and what becomes of files that are changed."""

from __future__ import annotations

import importlib.util
import random
import re
import warnings
from pathlib import Path

import numpy as np

import fastembed as fe
from fastembed.checkpoint import CheckpointError

SUFFIXES = (".txt", ".glove", ".bin", ".txt.gz", ".bin.gz", ".npy", ".npz", ".safetensors", ".parquet", ".arrow")
OPTIONAL = (".parquet", ".arrow")  # need pyarrow

LETTERS = "abcXYZ019_.-,é中😀\u00a0\u2028\u0085\x1c\r\t"


def names(rng: random.Random, n: int, letters: str = LETTERS + "  ") -> list[str]:
    """Distinct names that any format of text can hold: one empty, one of 10,000 characters."""
    found = {"": None, "x" * 10_000: None}
    while len(found) < n:
        name = "".join(rng.choice(letters) for _ in range(rng.randrange(1, 12)))
        *before, last = re.split("[ \t]", name.rstrip(" \t"))
        if not before or not re.fullmatch("[0-9.-]+", last):  # else it might end in a number
            found[name] = None
    chosen = list(found)
    rng.shuffle(chosen)
    return chosen


def table(rng: random.Random, n: int, width: int, dtype: str = "float32") -> np.ndarray:
    """Values of all sizes, subnormal ones and infinities too."""
    bits = np.random.default_rng(rng.randrange(2**32)).integers(0, 256, n * width * np.dtype(dtype).itemsize, np.uint8)
    values = bits.view(dtype).reshape(n, width)
    return np.where(np.isnan(values), np.array(-0.0, dtype), values)


def layer(rng: random.Random, n: int = 20, width: int = 3, dtype: str = "float32", letters: str = LETTERS) -> fe.Embedding:
    made = fe.Embedding.from_pretrained(table(rng, n, width, dtype))
    made.vocabulary = names(rng, n, letters)
    return made


def assert_same(one: fe.Embedding, other: fe.Embedding) -> None:
    assert one.weight.dtype == other.weight.dtype
    assert one.weight.shape == other.weight.shape
    assert one.weight.tobytes() == other.weight.tobytes()
    assert one.vocabulary == other.vocabulary


def mutated(rng: random.Random, content: bytes) -> bytes:
    """The content with a few bytes or lines changed, removed, doubled or moved."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at, n = rng.randrange(len(data) + 1), rng.choice((1, 1, 2, 4, 8, 40))
        how = rng.randrange(8)
        if how == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif how == 1 and at < len(data):
            data[at] = rng.choice((0, 10, 32, 46, 101, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif how == 2:
            del data[at:]
        elif how == 3:
            data[at:at] = rng.randbytes(n)
        elif how == 4:
            data[at:at] = data[at : at + n]
        elif how == 5:
            del data[at : at + n]
        elif how == 6:
            data[at:at] = rng.choice((b"\n", b" ", b" 0.5", b"99999999999 ", b"nan", b"\xef\xbb\xbf", b"1e999 ", b"2 2\n"))
        else:
            lines = bytes(data).split(b"\n")
            rng.shuffle(lines)
            data = bytearray(b"\n".join(lines))
    return bytes(data)


def faults(folder: Path, seed: int, n: int) -> list[str]:
    """What is wrong with how mutated files are read, by their numbers."""
    has_arrow = importlib.util.find_spec("pyarrow") is not None
    suffixes = [suffix for suffix in SUFFIXES if has_arrow or suffix not in OPTIONAL]
    seeds = {}
    for suffix in suffixes:
        made = layer(random.Random(1), 6, 3, letters=LETTERS if ".bin" in suffix else f"{LETTERS}  ")
        made.vocabulary = [name if len(name) < 100 else "long" for name in made.vocabulary]
        made.save_vectors(folder / f"seed{suffix}")
        seeds[suffix] = (folder / f"seed{suffix}").read_bytes()
    found = []
    for number in range(n):
        rng = random.Random(f"{seed} {number}")
        suffix, into = rng.choice(suffixes), rng.choice((None, None, folder / "into.safetensors"))
        path = folder / f"mutated{suffix}"
        path.write_bytes(mutated(rng, seeds[suffix]))
        fault = fault_of(path, into, rng.choice(("raise", "raise", "skip")))
        if fault is not None:
            found.append(f"SEED={seed} CASE={number}, {suffix}: {fault!r}")
        if into is not None:
            into.unlink(missing_ok=True)
    return found


def fault_of(path: Path, into: Path | None, errors: str) -> Exception | None:
    """What reading a file raised if it may not; None if it gave a table, or said what is wrong."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = fe.load_vectors(path, into=into, errors=errors)
        rows = made.weight
        assert made.vocabulary is None or len(made.vocabulary) == len(rows)
        made.close()
    except Exception as error:
        if into is not None and into.exists():
            return AssertionError(f"{into} is there after {error!r}")
        is_clear = type(error) is CheckpointError and str(path) in str(error) and len(str(error)) < 1000
        return None if is_clear and "\n" not in str(error) else error
    return None
