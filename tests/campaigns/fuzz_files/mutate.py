"""Mutations of a file: of its bytes, or of its JSON with lengths and checksums made right again."""

from __future__ import annotations

import copy
import json
import random
import struct
import zlib
from typing import Any

_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 7, 2**31, 2**62, 2**63, 2**64, 10**30, -(2**70), 0.5, -0.0, 1e308, 1e400, float("nan"), "",
    "x", "F32", "F64", "BF16", "F16", "I64", "F8_E4M3", "BOOL", "../t", "t/x", "\x00", "\ud800", "\x1b[2J", "é" * 9,
    [], [0], [1, 2], [[]], {}, {"a": 1}, [2**63, 2], [True, 4], [3, 4, 5], ["a"],
)  # fmt: skip


def mutated(rng: random.Random, kind: str, content: bytes) -> bytes:
    """The content of a file of that kind, changed."""
    by_kind = {
        "npy": _npy, "half_npy": _npy, "record": _record, "journal": _journal, "index": _record, "gguf": _gguf,
        "split_gguf": _gguf,
    }  # fmt: skip
    structured = by_kind.get(kind, _safetensors)
    if rng.random() < 0.7:
        content = structured(rng, content)
        if rng.random() < 0.8:
            return content
    return _bytes(rng, content)


def _bytes(rng: random.Random, content: bytes) -> bytes:
    """A few bytes flipped, set, cut off, inserted, doubled or moved."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at, n = rng.randrange(len(data) + 1), rng.choice((1, 1, 2, 4, 8, 30))
        how = rng.randrange(6)
        if how == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif how == 1 and at < len(data):
            data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif how == 2:
            del data[at:]
        elif how == 3:
            data[at:at] = rng.randbytes(n)
        elif how == 4:
            data[at:at] = data[at : at + n]
        else:
            del data[at : at + n]
    return bytes(data)


def _places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path to every value within a JSON value, itself included."""
    inner: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(found for key, part in inner for found in _places(part, (*place, key)))]


def _json(rng: random.Random, value: Any) -> Any:
    """The value with a part of it replaced, removed, doubled or renamed."""
    value = copy.deepcopy(value)
    place = rng.choice(_places(value))
    if not place:
        return rng.choice(_VALUES) if rng.random() < 0.2 else value
    parent = value
    for key in place[:-1]:
        parent = parent[key]
    key, how = place[-1], rng.randrange(6)
    if how < 3:
        parent[key] = rng.choice(_VALUES)
    elif how == 3:
        del parent[key]
    elif how == 4 and isinstance(parent[key], int) and not isinstance(parent[key], bool):
        parent[key] += rng.choice((-1, 1, 2**32))
    elif isinstance(parent, dict):
        parent[rng.choice(("weight", "__metadata__", "t", "", "a.b", "\x1b[2J", f"{key}x"))] = parent.pop(key)
    else:
        parent.insert(rng.randrange(len(parent) + 1), rng.choice(_VALUES))
    return value


def _text(rng: random.Random, value: Any) -> bytes:
    text = json.dumps(value)
    if rng.random() < 0.03:
        text = text.replace("{", '{"weight": 1, ', 1)  # perhaps a name twice
    if rng.random() < 0.01:
        text = "[" * 100_000
    return text.encode()


def _safetensors(rng: random.Random, content: bytes) -> bytes:
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    if rng.random() < 0.4 and "fastembed" in header.get("__metadata__", {}):
        description = _json(rng, json.loads(header["__metadata__"]["fastembed"]))
        header["__metadata__"]["fastembed"] = json.dumps(description)
    else:
        header = _json(rng, header)
    text = _text(rng, header)
    off = rng.choice((0, 0, 0, 0, 0, 0, 0, 1, -1, 2**40, -len(text)))
    return struct.pack("<Q", max(len(text) + off, 0)) + text + content[8 + length :]


def _npy(rng: random.Random, content: bytes) -> bytes:
    """A header with other values, or with other literals that Python could read."""
    (length,) = struct.unpack("<H", content[8:10])
    descr = rng.choice(("<f4", ">f4", "<f8", "<f2", "|O", "<i4", "|b1", "x", "<c8", "<M8[s]", [("a", "<f4")], None, 4))
    shape = tuple(rng.choice((0, 1, 3, 6, -1, 2**40, 2**62, 2**70, True, "x", None, 2.0)) for _ in range(rng.randrange(4)))
    header = {
        "descr": descr if rng.random() < 0.3 else content[10 : 10 + length].split(b"'descr': '")[1][:3].decode(),
        "fortran_order": rng.choice((False, False, False, True, 0, None, "x")),
        "shape": shape if rng.random() < 0.5 else rng.choice(((6, 3), (3, 6), (18,), (6, 3, 1), [6, 3], 6)),
    }
    if rng.random() < 0.1:
        del header[rng.choice(tuple(header))]
    if rng.random() < 0.1:
        header["more"] = 1
    text = rng.choice((repr(header), "(" * 3000, "f()", repr(header)[:-1], "{1, 2}")) if rng.random() < 0.2 else repr(header)
    encoded = text.encode().ljust(length - 1) + b"\n"
    version = rng.choice(((1, 0), (1, 0), (1, 0), (2, 0), (3, 0), (9, 9)))
    packed = struct.pack("<H" if version == (1, 0) else "<I", len(encoded))
    return content[:6] + bytes(version) + packed + encoded + content[10 + length :]


def _record(rng: random.Random, content: bytes) -> bytes:
    return _text(rng, _json(rng, json.loads(content)))


def _journal(rng: random.Random, content: bytes) -> bytes:
    """Its head, its runs or its data changed, and the checksum made right again."""
    body = content[8:-8]
    (length,) = struct.unpack("<Q", body[:8])
    head, rest = body[8 : 8 + length], body[8 + length :]
    if rng.random() < 0.6:
        head = _text(rng, _json(rng, json.loads(head)))
        head += b" " * (-len(head) % 8)
    else:
        n = rng.randrange(len(rest) // 8)
        number = rng.choice((0, 1, 5, 6, -1, 2**62, 2**63 - 1, -(2**63)))
        rest = rest[: 8 * n] + struct.pack("<q", number) + rest[8 * n + 8 :]
    if rng.random() < 0.2:
        rest = rest[: rng.randrange(len(rest))]
    body = struct.pack("<Q", len(head) if rng.random() < 0.95 else rng.choice((0, 2**62, len(head) + 8))) + head + rest
    return content[:8] + body + struct.pack("<Q", zlib.crc32(body))


def _gguf(rng: random.Random, content: bytes) -> bytes:
    """One or two of the numbers of the header changed: lengths, counts, types, axes, places."""
    data, places = bytearray(content), _gguf_numbers(content)
    for _ in range(rng.choice((1, 1, 2))):
        at, size = rng.choice(places)
        value = int.from_bytes(data[at : at + size], "little")
        value = rng.choice((0, 1, 2, 7, 8, 9, 30, 99, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1, value + 1, value - 1, value * 2))
        data[at : at + size] = (value % 256**size).to_bytes(size, "little")
    return bytes(data)


def _gguf_numbers(content: bytes) -> list[tuple[int, int]]:
    """The place and size of each number in the header of a GGUF file."""
    found, at = [(4, 4), (8, 8), (16, 8)], 24

    def number(size: int) -> int:
        nonlocal at
        found.append((at, size))
        at += size
        return int.from_bytes(content[at - size : at], "little")

    def text() -> None:
        nonlocal at
        length = number(8)
        at += length

    def value(kind: int) -> None:
        if kind == 8:
            text()
        elif kind == 9:
            of_items = number(4)
            for _ in range(number(8)):
                value(of_items)
        else:
            number({0: 1, 1: 1, 2: 2, 3: 2, 7: 1, 10: 8, 11: 8, 12: 8}.get(kind, 4))

    n_tensors, n_keys = struct.unpack("<QQ", content[8:24])
    for _ in range(n_keys):
        text()
        value(number(4))
    for _ in range(n_tensors):
        text()
        for _ in range(number(4)):
            number(8)
        number(4)
        number(8)
    return found
