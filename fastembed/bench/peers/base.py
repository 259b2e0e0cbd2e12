"""Contenders, their inputs, and the libraries they come from.

V, P: rows of the tables; C: columns; B, T: the shape of a batch of ids.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ... import set_num_threads
from ..timing import Array, Call, Ready, ready_call

OURS = "fastembed"
# By peer: the module to look for, and the distribution whose version is shown ("": Python itself).
PEERS = {
    "python": ("", ""),
    "numpy": ("numpy", "numpy"),
    "torch": ("torch", "torch"),
    "fbgemm": ("fbgemm_gpu", "fbgemm-gpu-cpu"),
    "thinc": ("thinc", "thinc"),
    "numba": ("numba", "numba"),
    "faiss": ("faiss", "faiss-cpu"),
    "itself": ("fastembed", "microgpt-fastembed"),  # with one thread, or with a private table
}


@dataclass(frozen=True)
class Inputs:
    """What the contenders of one case work on: two tables, and a pool of batches.

    Attributes
    ----------
    wte, wpe : ndarray of shape (V, C) and (P, C)
    ids : sequence of int64 ndarray, each of shape (B, T) or of one shape of the workload's own
    douts : sequence of ndarray of shape (B, T, C)
        Gradients, for work that needs them; batch k has number k modulo their length.
    tables : sequence of ndarray
        Of many features, for work on many tables; ``ids`` are then those of one table after the
        other, and ``douts`` of shape (B, sum of C).
    lengths : ndarray of int64
        How many ids each bag has, then, B bags of each table.
    path : str
        The file that holds ``wte``, for work on files.
    is_cold : bool
        Whether the file is read from the disk, not the page cache, in each call.
    """

    wte: Array = field(default_factory=lambda: np.empty((0, 0)))
    wpe: Array = field(default_factory=lambda: np.empty((0, 0)))
    ids: Sequence[Array] = ()
    douts: Sequence[Array] = ()
    tables: Sequence[Array] = ()
    lengths: Array = field(default_factory=lambda: np.empty(0, np.int64))
    path: str = ""
    is_cold: bool = False

    @functools.cached_property
    def offsets(self) -> Array:
        """Where each bag of many tables begins, and where the last one ends."""
        return np.concatenate(([0], np.cumsum(self.lengths)))

    @functools.cached_property
    def stacked(self) -> Array:
        """wte above wpe in one table, for libraries that sum several rows of one table."""
        return np.concatenate([self.wte, self.wpe])

    @functools.cached_property
    def pairs(self) -> list[Array]:
        """For each batch the two rows of `stacked` that each id means, shape (B * T, 2)."""
        n_tokens, n_vocab = self.ids[0].shape[-1], len(self.wte)
        positions = np.broadcast_to(np.arange(n_vocab, n_vocab + n_tokens), self.ids[0].shape)
        return [np.stack([ids.ravel(), positions.ravel()], axis=1) for ids in self.ids]

    def buffer(self) -> Array:
        """A new result array with every page of it in memory."""
        return np.full((*self.ids[0].shape, self.wte.shape[1]), 0.0, self.wte.dtype)

    def positions(self) -> Array:
        """The rows of the position table that a batch needs."""
        return self.wpe[: self.ids[0].shape[-1]]

    def gradients(self) -> tuple[Array, Array]:
        """Zeros for the gradients of both tables, with every page in memory."""
        return np.full(self.wte.shape, 0.0, self.wte.dtype), np.full(self.positions().shape, 0.0, self.wte.dtype)

    def dout(self, batch: int) -> Array:
        """The gradient of a batch."""
        return self.douts[batch % len(self.douts)]


def sums_of_rows(table: Array, rows: Array) -> Array:
    """The sum of some rows each, of shape (n, k), in order from 0 on: the bits of the reference."""
    sums = np.zeros((len(rows), table.shape[1]), table.dtype)
    for column in rows.T:
        sums += table[column]
    return sums


@dataclass(frozen=True)
class Contender:
    """One way of doing a workload.

    Attributes
    ----------
    peer, way : str
        The library, and what is called in it.
    setup : callable
        Makes, of the inputs of a case, what is timed: a function of the number of a batch, or a
        `Ready`. It imports the library, so that ImportError means that the peer is absent.
    """

    peer: str
    way: str
    setup: Callable[[Inputs], Call | Ready]

    def ready(self, inputs: Inputs) -> Ready:
        made = self.setup(inputs)
        return made if isinstance(made, Ready) else ready_call(made)


def version(peer: str) -> str | None:
    """The installed version of a peer; None for one that is absent."""
    module, distribution = PEERS[peer]
    if not module:
        return sys.version.split()[0]
    if importlib.util.find_spec(module) is None:
        return None
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "version unknown"


def set_threads(n_threads: int, peers: Sequence[str]) -> None:
    """Set the threads of fastembed, of the chosen peers that are installed, and of BLAS.

    BLAS needs threadpoolctl.
    """
    set_num_threads(n_threads)
    if {"torch", "fbgemm"} & set(peers):
        with contextlib.suppress(ImportError, OSError):
            import torch

            torch.set_num_threads(n_threads)
    if "numba" in peers:
        with contextlib.suppress(ImportError, OSError):
            import numba

            numba.set_num_threads(min(n_threads, numba.config.NUMBA_NUM_THREADS))
    if "faiss" in peers:
        with contextlib.suppress(ImportError, OSError):
            import faiss

            faiss.omp_set_num_threads(n_threads)
    with contextlib.suppress(ImportError):
        import threadpoolctl

        threadpoolctl.threadpool_limits(n_threads, "blas")


def contender(peer: str, way: str) -> Callable[[Callable[[Inputs], Call | Ready]], Contender]:
    """Decorate a setup function: it becomes a `Contender`."""
    return lambda setup: Contender(peer, way, setup)
