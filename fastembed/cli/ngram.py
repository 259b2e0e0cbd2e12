"""``ngram info`` and ``ngram bench``: what an n-gram table in a file is, how fast it is here."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._messages import printable
from .progress import with_bar
from .streams import Output, UsageError

if TYPE_CHECKING:
    from .._typing import Array
    from ..functional.ngram.hash import NgramHash
    from ..layers.ngram import PackedNgramEmbedding
    from ..tables.disk import DiskTable

_PAGE = 4096
_N, _HEADS = 3, 8  # of the hash for a table that comes without one


def ngram(arguments: argparse.Namespace, out: Output) -> None:
    {"info": _info, "bench": _bench}[arguments.what](arguments, out)


def _info(arguments: argparse.Namespace, out: Output) -> None:
    from ..io.disk.tensors import tensors_in

    path = Path(arguments.file)
    for name, tensor in tensors_in(path).items():
        if len(tensor.shape) == 2 and tensor.row_size:
            n_rows, n_columns = tensor.shape
            a_row = f"{tensor.row_size:,} bytes a row, {_PAGE / tensor.row_size:.1f} rows a page"
            size = f"{tensor.size / 1e9:.2f} GB"
            out.show(f"{printable(name or path.name)}: {n_rows:,} x {n_columns:,} {tensor.format}, {a_row}, {size}")
    found = _hash_in(path)
    out.show(f"hash: {found if found is not None else 'none in the file'}")


def _hash_in(path: Path) -> NgramHash | None:
    """The hash that the metadata of a GGUF file describe."""
    from ..functional.ngram.hash import NgramHash
    from ..io.formats.gguf_file import open_gguf

    with open(path, "rb") as file:
        if file.read(4) != b"GGUF":
            return None
    try:
        return NgramHash.from_gguf(open_gguf(path).metadata)
    except (KeyError, ValueError):
        return None


def _bench(arguments: argparse.Namespace, out: Output) -> None:
    try:
        _measure(arguments, out)
    except KeyError as error:  # a tensor that is not there
        raise UsageError(error.args[0]) from error


def _measure(arguments: argparse.Namespace, out: Output) -> None:
    from ..io.disk import page_cache
    from ..io.disk.tensors import tensors_in
    from ..layers.ngram import PackedNgramEmbedding

    path, tokens = Path(arguments.file), _tokens(arguments.text, arguments.tokens)
    files = {tensor.path for tensor in tensors_in(path).values()}
    batches = [tokens[k : k + arguments.batch] for k in range(0, len(tokens), arguments.batch)]
    with _table(arguments) as table:
        hash, what = _hash_for(arguments, path, table.num_embeddings)
        out.say(f"{table}")
        out.say(f"{what}: {hash}; {len(tokens):,} tokens, the bytes of the text, {arguments.batch:,} a call")
    for name, look_up in (("cold", _in_turn), ("read ahead", _ahead), ("warm", _again)):
        if name != "warm":
            for file in files:
                page_cache.drop(file)
        n_read = page_cache.n_bytes_read()
        with _table(arguments) as table:
            layer = PackedNgramEmbedding(hash, table)
            seconds, n_tokens = look_up(layer, batches, name)
            of_system = _of_system(n_read, page_cache.n_bytes_read(), [page_cache.n_bytes_cached(file) for file in files])
            out.show(f"{name + ':':12}{_rates(table, n_tokens * hash.width, seconds)}{of_system}")


def _tokens(path: str, most: int) -> Array:
    """The bytes of a text, as tokens."""
    with open(path, "rb") as file:
        tokens = np.frombuffer(file.read(most), np.uint8)
    if len(tokens) == 0:
        raise UsageError(f"TEXT must have a byte at least, and {path} is empty")
    return tokens


def _table(arguments: argparse.Namespace) -> DiskTable:
    from ..tables.disk import DiskTable

    options: dict[str, Any] = {name: getattr(arguments, name) for name in ("scales", "format", "embedding_dim", "engine")}
    return DiskTable(
        arguments.file,
        arguments.name,
        cache_bytes=arguments.cache_mb << 20,
        direct=False if arguments.buffered else None,
        **options,
    )


def _hash_for(arguments: argparse.Namespace, path: Path, n_rows: int) -> tuple[NgramHash, str]:
    """The hash of a table, and where it comes from."""
    from ..functional.ngram.hash import NgramHash

    if arguments.config is not None:
        if arguments.layer is None:
            raise UsageError("--config needs --layer")
        return NgramHash.from_config(json.loads(Path(arguments.config).read_text()), arguments.layer), "hash of the config"
    found = _hash_in(path)
    if found is not None:
        return found, "hash of the file"
    n_heads = _HEADS * (_N - 1)
    if n_rows < n_heads:
        raise UsageError(f"a table must have {n_heads} rows at least, got {n_rows}")
    sizes = [[n_rows // n_heads] * _HEADS] * (_N - 1)
    multipliers = [2654435761, 2246822519, 3266489917]
    return NgramHash(multipliers, sizes, vocab_size=256, fill=0), "hash made for this table"


def _in_turn(layer: PackedNgramEmbedding, batches: Sequence[Array], name: str) -> tuple[float, int]:
    """Seconds and tokens: each batch when it is needed, so that what is not there is waited for."""
    seconds = 0.0
    for batch in with_bar(batches, name):
        began = time.perf_counter()
        layer(batch)
        seconds += time.perf_counter() - began
    return seconds, sum(map(len, batches))


def _ahead(layer: PackedNgramEmbedding, batches: Sequence[Array], name: str) -> tuple[float, int]:
    """The same, the next batch being asked for before one is looked up."""
    seconds = 0.0
    for k in with_bar(range(len(batches)), name):
        began = time.perf_counter()
        if k + 1 < len(batches):
            layer.prefetch(batches[k + 1])
        layer(batches[k])
        seconds += time.perf_counter() - began
    return seconds, sum(map(len, batches))


def _again(layer: PackedNgramEmbedding, batches: Sequence[Array], name: str) -> tuple[float, int]:
    """The same, of batches that have just been looked up."""
    seconds = 0.0
    for batch in with_bar(batches[:20], name):
        layer(batch)
        began = time.perf_counter()
        layer(batch)
        seconds += time.perf_counter() - began
    return seconds, sum(map(len, batches[:20]))


def _rates(table: DiskTable, n_rows: int, seconds: float) -> str:
    found = table.statistics()
    n_ids = max(found.hits + found.misses, 1)
    way = f"{found.engine}, {'direct' if found.direct else 'page cache'}"
    per_row = f"{n_rows / seconds:,.0f} rows/s, {seconds / n_rows * 1e9:,.0f} ns a row"
    read = f"{found.bytes_read / 1e6:,.1f} MB in {found.reads:,} reads ({way})"
    return f"{per_row}; {found.hits / n_ids:.1%} of the rows were there; {read}"


def _of_system(before: int | None, after: int | None, cached: Sequence[int | None]) -> str:
    """What the system says of its reads, and of its page cache, as far as it says something."""
    read = "" if before is None or after is None else f"; {(after - before) / 1e6:,.1f} MB came from the disk"
    found = [n_bytes for n_bytes in cached if n_bytes is not None]
    return read + (f"; {sum(found) / 1e6:,.1f} MB of the file are in the page cache" if found else "")
