"""Calls of skip-gram and of tables that are shared, packed or on disk, and what they are of."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Any

import numpy as np

import fastembed as fe

from .subjects import Call, D, Subject, Trained, V, bytes_of, ngram_hash, nothing, saved

_SECONDS = 30.0  # within which rows of a table on disk are there, on any machine
_ON_DISK, _AT_ONCE = 200, 16  # rows of a table on disk, and the most that one call holds in its cache
_TEXTS = ["one two", "", "two three two"]


class SkipGram(Trained):
    """Two layers that count look-ups, with one optimiser."""

    def __init__(self, kind: str, optimizer: str, folder: Path) -> None:
        self.outputs = fe.Embedding(V, D, rng=2).count_lookups()
        super().__init__(kind, optimizer, folder)

    def new_layer(self, path: Path | None) -> Any:
        return fe.Embedding(V, D, rng=1).count_lookups()

    def layers(self) -> list[Any]:
        return [self.layer, self.outputs]

    def called(self) -> Any:
        rng = np.random.default_rng(next(self.clock))
        return rng.integers(0, V, 4), rng.integers(0, V, 4), rng.integers(0, V, (4, 3))

    def step(self, pairs: Any, optimizer: Any) -> None:
        fe.losses.skip_gram(self.layer, self.outputs, *pairs, optimizer=optimizer)

    def fused(self) -> None:
        self.step(self.called(), self.optimizer)


class Shared(Trained):
    """A layer whose table is shared, and a table that is attached to it."""

    def __init__(self, kind: str, optimizer: str, folder: Path) -> None:
        super().__init__(kind, optimizer, folder)
        self.name = folder / "shared"
        self.layer.share(self.name)
        self.attached = fe.Embedding.attach(self.name)

    def new_layer(self, path: Path | None) -> Any:
        return fe.Embedding(V, D, rng=1)

    @property
    def publisher(self) -> Any:
        return self.layer.storage.publisher

    def held(self) -> dict[str, Any]:
        found = super().held()
        self.layer.flush()  # publishes what an interrupted call has left
        found |= {"shared": None, "is closed": self.publisher.is_closed, "attached": bytes_of(self.attached.snapshot())}
        found["files"] = sorted(path.name for path in self.folder.iterdir())
        if self.name.exists():
            with fe.Embedding.attach(self.name) as table:
                found["shared"] = table.generation, bytes_of(table.snapshot())
        return found

    def later(self) -> dict[str, Any]:
        if self.publisher.is_closed:
            self.layer.share(self.name, replace=True)
        return super().later()

    def close(self) -> None:
        self.publisher.close()
        self.attached.close()


class Packed(Subject):
    """A packed table with scales beside it."""

    def __init__(self, kind: str, optimizer: str, folder: Path) -> None:
        super().__init__(kind, folder)
        rows = np.arange(V * 33, dtype=np.uint8).reshape(V, 33) % 120
        self.table = fe.PackedTable(rows[:, :32], 32, format="float8_e4m3fn", scales=rows[:, 32:])

    def held(self) -> dict[str, Any]:
        return super().held() | {"rows": bytes_of(self.table(np.arange(V)))}


class OnDisk(Subject):
    """A table in a file; of the kind "pread" without io_uring."""

    def __init__(self, kind: str, optimizer: str, folder: Path) -> None:
        super().__init__(kind, folder)
        np.save(folder / "rows.npy", np.arange(_ON_DISK * 8, dtype="f4").reshape(_ON_DISK, 8))
        self.table = self.opened()

    def opened(self) -> Any:
        """A table with the smallest cache, 64 slots, of which a call holds at most a quarter."""
        engine, of_slot = ("pread" if self.kind == "pread" else "auto"), 8 * 4 + fe._kernels.backend.kernels.disk_slot_size(1)
        return fe.DiskTable(self.folder / "rows.npy", cache_bytes=4 * _AT_ONCE * of_slot, engine=engine, in_flight=4)

    def held(self) -> dict[str, Any]:
        with contextlib.suppress(ValueError):  # it is closed
            self.table.prefetch([])
            return super().held() | {"rows": self.rows()}
        return super().held() | {"rows": None}

    def rows(self) -> Any:
        """All rows that may be held at once, which are there only if no call has kept one."""
        found: list[Any] = []

        def hold() -> None:
            with contextlib.ExitStack() as stack:
                for first in (_ON_DISK - 2 * _AT_ONCE, _ON_DISK - _AT_ONCE):
                    cache, places = stack.enter_context(self.table._rows.at_hand(np.arange(first, first + _AT_ONCE)))
                    found.append(bytes_of(cache[places]))

        thread = threading.Thread(target=hold, daemon=True)
        thread.start()
        thread.join(_SECONDS)
        if thread.is_alive():
            raise AssertionError("a call that is over keeps rows of the cache")
        return found

    def close(self) -> None:
        self.table.close()


def _attach(subject: Shared, _: Any) -> None:
    with fe.Embedding.attach(subject.name) as table:
        subject.result = bytes_of(table.snapshot())


def _attached_reads(subject: Shared, _: Any) -> None:
    """Every call of an attached table."""
    table = subject.attached
    results = [
        table([1, 2]), table.bag([[1, 2], [3, 3]]), table.gather_add([1, 2], subject.array), table.snapshot([3]),
        *table.nearest([1], 3),
    ]  # fmt: skip
    subject.result = list(map(bytes_of, results))


def _replaced(subject: Shared) -> None:
    """The attached table finds another generation in its next call."""
    subject.publisher.publish()


def _closed(subject: Shared) -> None:
    subject.publisher.close()


def _removed(subject: Shared) -> None:
    subject.publisher.remove()


def _load_packed(subject: Packed, path: Path) -> None:
    table = fe.PackedTable.load(path)
    subject.result = bytes_of(table(np.arange(V)))


def _saved_packed(subject: Packed) -> Path:
    path = saved(subject)
    subject.table.save(path)
    return path


def _packed_ngrams(subject: Packed, _: Any) -> None:
    layer = fe.PackedNgramEmbedding(ngram_hash(), subject.table)
    subject.result = bytes_of(layer([1, 2, 3, 4, 4], lengths=[3, 2]))


def _encode(subject: Packed, table: Any) -> None:
    words = fe.Vocabulary(["one", "two", "three"])
    encoder = fe.SentenceEncoder(lambda text: words.ids(text.split()), table)
    subject.result = bytes_of(encoder.encode(_TEXTS))


def _disk_reads(subject: OnDisk, table: Any) -> None:
    """More rows than the cache holds for one call, and calls that read ahead."""
    table.prefetch(np.arange(_AT_ONCE))
    results = [table([[3, 1]]), table.bag([[1, 2], [3, 3]]), table(np.arange(3 * _AT_ONCE)), *table.nearest([1], 3)]
    subject.result = list(map(bytes_of, results))


def _open_disk(subject: OnDisk, _: Any) -> None:
    with subject.opened() as table:
        _disk_reads(subject, table)


KINDS = {"skip_gram": SkipGram, "shared": Shared, "packed": Packed, "disk": OnDisk, "pread": OnDisk}
_SKIP_GRAM, _SHARED, _PACKED, _DISK = ("skip_gram",), ("shared",), ("packed",), ("disk", "pread")
CALLS = {
    "skip_gram": Call(SkipGram.called, lambda s, pairs: s.step(pairs, s.optimizer), _SKIP_GRAM),
    "skip_gram gradients": Call(SkipGram.called, lambda s, pairs: s.step(pairs, None), _SKIP_GRAM),
    "shared.step": Call(Shared.called, lambda s, dout: s.layer.backward(dout, optimizer=s.optimizer), _SHARED),
    "shared.resize": Call(nothing, lambda s, _: s.layer.resize(V - 2), _SHARED),
    "publish": Call(nothing, lambda s, _: s.publisher.publish(), _SHARED),
    "share": Call(_removed, lambda s, _: s.layer.share(s.name), _SHARED),
    "share in place": Call(_closed, lambda s, _: s.layer.share(s.name, replace=True), _SHARED),
    "publisher.close": Call(nothing, lambda s, _: s.publisher.close(), _SHARED),
    "publisher.remove": Call(_closed, lambda s, _: s.publisher.remove(), _SHARED),
    "attach": Call(nothing, _attach, _SHARED),
    "attached": Call(_replaced, _attached_reads, _SHARED),
    "packed.save": Call(saved, lambda s, path: s.table.save(path), _PACKED),
    "packed.load": Call(_saved_packed, _load_packed, _PACKED),
    "packed.ngrams": Call(nothing, _packed_ngrams, _PACKED),
    "encode": Call(nothing, lambda s, _: _encode(s, s.table), _PACKED),
    "disk.open": Call(nothing, _open_disk, _DISK),
    "disk": Call(nothing, lambda s, _: _disk_reads(s, s.table), _DISK),
    "disk.close": Call(nothing, lambda s, _: s.table.close(), _DISK),
}
WITHOUT_OPTIMIZER = CALLS.keys() - {"skip_gram", "shared.step", "shared.resize"}
OF_FILES = CALLS.keys() - {"skip_gram", "skip_gram gradients", "shared.step", "attached", "packed.ngrams", "encode"}
