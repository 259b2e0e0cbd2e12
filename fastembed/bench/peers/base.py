"""What a contender is, what it works on, and which libraries there are.

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
# Each peer: the module to look for, and the distribution whose version counts ("" for Python itself).
PEERS = {
    "python": ("", ""),
    "numpy": ("numpy", "numpy"),
    "torch": ("torch", "torch"),
    "fbgemm": ("fbgemm_gpu", "fbgemm-gpu-cpu"),
    "thinc": ("thinc", "thinc"),
    "numba": ("numba", "numba"),
    "faiss": ("faiss", "faiss-cpu"),
}


@dataclass(frozen=True)
class Inputs:
    """What the contenders of one case work on: two tables, and a pool of batches.

    Attributes
    ----------
    wte, wpe : ndarray of shape (V, C) and (P, C)
    ids : sequence of int64 ndarray, each of shape (B, T) or of one shape of the workload's own
    douts : sequence of ndarray of shape (B, T, C)
        Gradients, for work that needs them; batch k has the k-th in rotation.
    path : str
        Of a file that holds ``wte``, for work on files.
    is_cold : bool
        Whether that has to be read from the disk in each call.
    """

    wte: Array = field(default_factory=lambda: np.empty((0, 0)))
    wpe: Array = field(default_factory=lambda: np.empty((0, 0)))
    ids: Sequence[Array] = ()
    douts: Sequence[Array] = ()
    path: str = ""
    is_cold: bool = False

    @functools.cached_property
    def stacked(self) -> Array:
        """Both tables one below the other, for libraries that sum several rows of one table."""
        return np.concatenate([self.wte, self.wpe])

    @functools.cached_property
    def pairs(self) -> list[Array]:
        """For each batch the two rows of `stacked` that each id means, shape (B * T, 2)."""
        n_tokens, n_vocab = self.ids[0].shape[-1], len(self.wte)
        positions = np.broadcast_to(np.arange(n_vocab, n_vocab + n_tokens), self.ids[0].shape)
        return [np.stack([ids.ravel(), positions.ravel()], axis=1) for ids in self.ids]

    def buffer(self) -> Array:
        """A result array of its own, each page of it in memory."""
        return np.full((*self.ids[0].shape, self.wte.shape[1]), 0.0, self.wte.dtype)

    def positions(self) -> Array:
        """The rows of the position table that a batch needs."""
        return self.wpe[: self.ids[0].shape[-1]]

    def gradients(self) -> tuple[Array, Array]:
        """Zeros for the gradients of both tables, each page of them in memory."""
        return np.full(self.wte.shape, 0.0, self.wte.dtype), np.full(self.positions().shape, 0.0, self.wte.dtype)

    def dout(self, batch: int) -> Array:
        return self.douts[batch % len(self.douts)]


@dataclass(frozen=True)
class Contender:
    """One way of doing a workload.

    Attributes
    ----------
    peer, way : str
        Whose it is, and what it calls.
    setup : callable
        What times it on the inputs of a case: a function of the number of a batch, or a `Ready`. Its library is imported there
        and not earlier: ImportError says that the peer is absent.
    """

    peer: str
    way: str
    setup: Callable[[Inputs], Call | Ready]

    @property
    def name(self) -> str:
        return f"{self.peer} {self.way}"

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
    """Let ours, those of the chosen peers that are there and have threads, and those of BLAS (threadpoolctl) be this many."""
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
    """Decorates what sets a contender up."""
    return lambda setup: Contender(peer, way, setup)
