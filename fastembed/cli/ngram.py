"""``ngram info`` and ``ngram bench``: what an n-gram table in a file is, how fast it is here."""

from __future__ import annotations

import argparse
import functools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._messages import first_few, printable
from ..io.disk import page_cache
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
    from ..functional.ngram.layouts import layers_of_gguf
    from ..io.disk.tensors import tensors_in

    path = Path(arguments.file)
    for name, tensor in tensors_in(path).items():
        if len(tensor.shape) == 2 and tensor.row_size:
            n_rows, n_columns = tensor.shape
            a_row = f"{tensor.row_size:,} bytes a row, {_PAGE / tensor.row_size:.1f} rows a page"
            size = f"{tensor.size / 1e9:.2f} GB" if tensor.size >= 1e7 else f"{tensor.size / 1e6:.2f} MB"
            out.show(f"{printable(name or path.name)}: {n_rows:,} x {n_columns:,} {tensor.format}, {a_row}, {size}")
    metadata = _metadata(path)
    layers = layers_of_gguf(metadata)
    for layer in layers:
        out.show(f"hash{f' of layer {layer}' if len(layers) > 1 else ''}: {_hash_in(path, metadata, layer)}")
    if not layers:
        out.show("hash: none in the file")


def _metadata(path: Path) -> dict[str, Any]:
    """Those of a GGUF file; of other files none."""
    from ..io.formats.gguf_file import open_gguf

    with open(path, "rb") as file:
        is_gguf = file.read(4) == b"GGUF"
    return dict(open_gguf(path).metadata) if is_gguf else {}


def _hash_in(path: Path, metadata: dict[str, Any], layer: Any) -> NgramHash:
    """The hash that the metadata of a file describe for a layer."""
    from ..functional.ngram.hash import NgramHash

    try:
        return NgramHash.from_gguf(metadata, layer)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"the hash of layer {layer} in {path}: {error.args[0]}") from error


def _bench(arguments: argparse.Namespace, out: Output) -> None:
    try:
        _measure(arguments, out)
    except KeyError as error:  # a tensor that is not there
        raise UsageError(error.args[0]) from error


def _measure(arguments: argparse.Namespace, out: Output) -> None:
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
        with _table(arguments) as table:
            meter = _Meter(table)
            look_up(PackedNgramEmbedding(hash, table), batches, meter, name)
            cached = [page_cache.n_bytes_cached(file) for file in files]
            out.show(f"{name + ':':12}{meter.rates(hash.width)}{_of_page_cache(cached)}")


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
    from ..functional.ngram.layouts import layers_of_gguf

    if arguments.config is not None:
        if arguments.layer is None:
            raise UsageError("--config needs --layer")
        try:
            config = json.loads(Path(arguments.config).read_text())
        except ValueError as error:  # no text, or no JSON
            raise UsageError(f"--config: {arguments.config} is no JSON file: {error}") from error
        return NgramHash.from_config(config, arguments.layer), "hash of the config"
    metadata = _metadata(path)
    layers = layers_of_gguf(metadata)
    if layers:
        if arguments.layer is None and len(layers) > 1:
            raise UsageError(f"--layer must be given, one of {first_few(list(map(str, layers)))}")
        return _hash_in(path, metadata, layers[0] if arguments.layer is None else arguments.layer), "hash of the file"
    if arguments.layer is not None:
        raise UsageError(f"--layer needs --config, as there is no hash in {path}")
    n_heads = _HEADS * (_N - 1)
    if n_rows < n_heads:
        raise UsageError(f"a table must have {n_heads} rows at least, got {n_rows}")
    sizes = [[n_rows // n_heads] * _HEADS] * (_N - 1)
    multipliers = [2654435761, 2246822519, 3266489917]
    return NgramHash(multipliers, sizes, vocab_size=256, fill=0), "hash made for this table"


class _Meter:
    """The seconds and tokens of calls, and what a table and the disk did during them."""

    def __init__(self, table: DiskTable) -> None:
        self._table = table
        self._seconds, self._n_tokens, self._n_from_disk = 0.0, 0, 0
        self._counts = np.zeros(4, np.int64)  # hits, misses, reads, bytes read
        self._is_known = page_cache.n_bytes_read() is not None  # what came from the disk

    def _counts_so_far(self) -> tuple[Array, int]:
        found = self._table.statistics()
        return np.array([found.hits, found.misses, found.reads, found.bytes_read]), page_cache.n_bytes_read() or 0

    def time(self, call: Callable[[], Any], n_tokens: int) -> None:
        """Make a call that looks up the rows of so many tokens."""
        counts, n_from_disk = self._counts_so_far()
        began = time.perf_counter()
        call()
        self._seconds += time.perf_counter() - began
        self._n_tokens += n_tokens
        counts_after, n_after = self._counts_so_far()
        self._counts += counts_after - counts
        self._n_from_disk += n_after - n_from_disk

    def rates(self, width: int) -> str:
        """What was measured, of tokens with so many rows."""
        n_rows, found = self._n_tokens * width, self._table.statistics()
        hits, misses, reads, bytes_read = self._counts.tolist()
        way = f"{found.engine}, {'direct' if found.direct else 'page cache'}"
        per_row = f"{n_rows / self._seconds:,.0f} rows/s, {self._seconds / n_rows * 1e9:,.0f} ns a row"
        read = f"{bytes_read / 1e6:,.1f} MB in {reads:,} reads ({way})"
        from_disk = f"; {self._n_from_disk / 1e6:,.1f} MB came from the disk" if self._is_known else ""
        return f"{per_row}; {hits / max(hits + misses, 1):.1%} of the rows were there; {read}{from_disk}"


def _in_turn(layer: PackedNgramEmbedding, batches: Sequence[Array], meter: _Meter, name: str) -> None:
    """Each batch when it is needed, so that what is not there is waited for."""
    for batch in with_bar(batches, name):
        meter.time(functools.partial(layer, batch), len(batch))


def _ahead(layer: PackedNgramEmbedding, batches: Sequence[Array], meter: _Meter, name: str) -> None:
    """The next batch is asked for before one is looked up."""

    def call(k: int) -> None:
        if k + 1 < len(batches):
            layer.prefetch(batches[k + 1])
        layer(batches[k])

    for k in with_bar(range(len(batches)), name):
        meter.time(functools.partial(call, k), len(batches[k]))


def _again(layer: PackedNgramEmbedding, batches: Sequence[Array], meter: _Meter, name: str) -> None:
    """Batches that have just been looked up."""
    for batch in with_bar(batches[:20], name):
        layer(batch)
        meter.time(functools.partial(layer, batch), len(batch))


def _of_page_cache(cached: Sequence[int | None]) -> str:
    """What the system says of its page cache, as far as it says something."""
    found = [n_bytes for n_bytes in cached if n_bytes is not None]
    return f"; {sum(found) / 1e6:,.1f} MB of the file are in the page cache" if found else ""
