"""Transport: what a group of ranks needs of MPI or gloo; and the one of a group of one rank."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ..._typing import Array

CHUNK = 1 << 28  # bytes of a message: libraries count them in 32 bits


class Transport(Protocol):
    """Messages of bytes between the ranks 0 .. size - 1, of which this process is one.

    Attributes
    ----------
    name : str
    rank, size : int
    """

    name: str
    rank: int
    size: int

    def exchange(self, sends: Sequence[Array | None], receives: Sequence[Array | None], deadline: float) -> None:
        """Send each peer its bytes, and fill an array with the bytes of each; both may be None.

        All arrays are contiguous, of uint8 and one axis. Two peers agree on each length.

        Parameters
        ----------
        sends, receives : list of ndarray or None
            By rank; None for nothing, as for this rank itself.
        deadline : float
            In the time of ``time.monotonic``.

        Raises
        ------
        Unfinished
            The messages of some peers are not complete by then, or a peer is known to be gone.
        """

    def break_off(self) -> None:
        """Note that no further exchange is possible, so that the process can end."""


def chunks(data: Array | None) -> Iterator[Array]:
    """The pieces in which an array is sent."""
    for first in range(0, 0 if data is None else len(data), CHUNK):
        assert data is not None
        yield data[first : first + CHUNK]


class Alone:
    """The transport of a group of one rank, which has nobody to send to."""

    name = "local"
    rank, size = 0, 1

    def exchange(self, sends: Sequence[Array | None], receives: Sequence[Array | None], deadline: float) -> None: ...

    def break_off(self) -> None: ...
