"""Ranks as processes of a gloo group of PyTorch (``torch.distributed``)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from .errors import Unfinished
from .group import DEADLINE, Group
from .transport import chunks

if TYPE_CHECKING:
    from ..._typing import Array


def gloo(process_group: Any = None, *, deadline: float = DEADLINE) -> Group:
    """The group of the processes of ``torch.distributed``, whose backend is gloo.

    Parameters
    ----------
    process_group : torch.distributed.ProcessGroup, optional
        By default the one of ``init_process_group``.
    deadline : float
        As in `Group`.

    Raises
    ------
    ImportError
        PyTorch is missing.
    RuntimeError
        ``torch.distributed.init_process_group`` has not been called, or with another backend.
    """
    try:
        import torch
        from torch import distributed
    except ImportError:
        raise ImportError("distributed.gloo needs PyTorch: pip install 'microgpt-fastembed[torch]'") from None
    if not distributed.is_initialized():
        raise RuntimeError("torch.distributed.init_process_group('gloo') must come first")
    group = distributed.group.WORLD if process_group is None else process_group
    backend = distributed.get_backend(group)
    if backend != "gloo":
        raise RuntimeError(f"the backend of the process group must be gloo, got {backend}")
    return Group(GlooTransport(torch, distributed, group), deadline=deadline)


class GlooTransport:
    """Messages over a process group.

    Parameters
    ----------
    torch, distributed : module
    group : torch.distributed.ProcessGroup
    """

    name = "gloo"

    def __init__(self, torch: Any, distributed: Any, group: Any) -> None:
        self._torch, self._distributed, self._group = torch, distributed, group
        self.rank, self.size = distributed.get_rank(group), distributed.get_world_size(group)
        self._ranks = distributed.get_process_group_ranks(group)  # their numbers among all processes

    def exchange(self, sends: Sequence[Array | None], receives: Sequence[Array | None], deadline: float) -> None:
        begun: list[tuple[int, Any]] = []
        try:
            for call, arrays in ((self._distributed.irecv, receives), (self._distributed.isend, sends)):
                for peer, data in enumerate(arrays):
                    for part in chunks(data):
                        begun.append((peer, None))  # should it fail, that was the peer
                        tensor = self._torch.from_numpy(part if part.flags.writeable else part.copy())
                        begun[-1] = peer, call(tensor, self._ranks[peer], group=self._group)
            for k, (peer, work) in enumerate(begun):
                begun[k] = peer, None
                work.wait(timeout=timedelta(seconds=max(deadline - time.monotonic(), 0.001)))
        except RuntimeError as error:
            peer = [peer for peer, work in begun if work is None][-1]
            why = "no answer within the deadline" if time.monotonic() >= deadline else f"gloo failed: {error!s:.200}"
            raise Unfinished([peer], why) from error

    def break_off(self) -> None: ...
