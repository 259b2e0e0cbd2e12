"""Group: what ranks say to each other, in messages whose lengths are agreed before."""

from __future__ import annotations

import contextlib
import time
import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ... import _checks
from ..._messages import limit
from .errors import PeerError, Unfinished
from .transport import Alone, Transport

if TYPE_CHECKING:
    from ..._typing import Array

DEADLINE = 60.0  # seconds
MAX_ITEMS = 2**31 - 1  # ids or gradients that a rank takes in one exchange: kernels number them in 32 bits
_TEXT = 256  # bytes of the text of a refusal
_AGREED, _REFUSED = 0, 1
_WIDTH = 8  # numbers that a message of an agreement has a multiple of, so that any two calls have the same length


class Part(NamedTuple):
    """Items for all ranks: those for rank 0 first, and so on.

    Attributes
    ----------
    values : ndarray of shape (n, ...)
        Contiguous.
    n_sent, n_received : ndarray of int64, shape (size,)
        How many go to each rank, and how many come from it.
    """

    values: Array
    n_sent: Array
    n_received: Array


class Group:
    """The ranks 0 .. size - 1 of a run, each a process; made by `mpi`, `gloo` or `local`.

    Parameters
    ----------
    transport : Transport
    deadline : float
        Seconds in which each exchange of messages must be complete, which includes the time that
        the slowest rank takes to come to it.

    Attributes
    ----------
    rank, size : int
    bytes_sent, messages_sent : int
        To other ranks, so far.
    n_agreements : int
        So far.
    """

    def __init__(self, transport: Transport, *, deadline: float = DEADLINE) -> None:
        self._transport = transport
        self.deadline = _checks.number("deadline", deadline, 0.0, 1e9)
        self.rank, self.size = transport.rank, transport.size
        self.bytes_sent = self.messages_sent = 0
        self.n_agreements = 0
        self._broken: str | None = None

    # ---- agreements: the ranks do the same, and all can ----

    @contextlib.contextmanager
    def checking(self, step: str, width: int = 1) -> Iterator[None]:
        """A context for the checks before `agree`: if they raise here, the other ranks raise too.

        Nothing has been changed then, and the group remains usable. After an agreement within the
        context nothing is refused any more.
        """
        n_before = self.n_agreements
        try:
            yield
        except Exception as error:
            if self._broken is None and self.n_agreements == n_before:
                counts = np.zeros((self.size, width), np.int64)
                with contextlib.suppress(PeerError):  # the error of its own says more
                    self._say(step, _REFUSED, counts, f"{type(error).__name__}: {error}")
            raise

    def agree(self, step: str, counts: Array) -> Array:
        """Tell each rank how much it will get, and hear it from each.

        Parameters
        ----------
        step : str
            What is done: the same text in all ranks.
        counts : ndarray of int64, shape (size, k)
            For each rank; at most MAX_ITEMS in the sum over the ranks that send to one.

        Returns
        -------
        ndarray of int64, shape (size, k)
            From each rank.

        Raises
        ------
        PeerError
            A rank has refused the step, is in another one, or announces an impossible number.
        """
        return self._say(step, _AGREED, counts, "")

    @contextlib.contextmanager
    def all_or_none(self, step: str) -> Iterator[None]:
        """A context after which all ranks go on; if one of them raises here, all do."""
        with self.checking(step):
            yield
        self.agree(step, np.zeros((self.size, 1), np.int64))

    def _say(self, step: str, status: int, counts: Array, text: str) -> Array:
        tag = zlib.crc32(f"{self.n_agreements} {step}".encode())
        self.n_agreements += 1
        width = counts.shape[1]
        said = np.zeros((self.size, -(-(3 + width) // _WIDTH) * _WIDTH), np.int64)
        said[:, :3], said[:, 3 : 3 + width] = (tag, width, status), counts
        heard = self.alltoall(step, said)
        tags, statuses, received = heard[:, 0], heard[:, 2], heard[:, 3 : 3 + width]
        elsewhere = np.flatnonzero((tags != tag) | (heard[:, 1] != width))
        if len(elsewhere):
            raise self.failed(step, elsewhere.tolist(), "in another call, or another number of it: all ranks make the same calls")
        refused = np.flatnonzero(statuses != _AGREED)
        if len(refused):
            texts = self.allgather(step, np.frombuffer(text.encode()[:_TEXT].ljust(_TEXT), np.uint8))
            why = bytes(texts[refused[0]]).decode(errors="replace").strip()
            raise PeerError(step, refused.tolist(), f"refused: {why}")
        wrong = np.flatnonzero(((received < 0) | (received > MAX_ITEMS)).any(axis=1))
        if len(wrong) or (received.sum(axis=0) > MAX_ITEMS).any():
            peers = wrong.tolist() or list(range(self.size))
            shown = _checks.shown(received[peers[0]].tolist())
            raise self.failed(step, peers, f"the numbers of items {shown} must be from 0 to {limit(MAX_ITEMS)} in total")
        return received

    # ---- exchanges ----

    def alltoall(self, step: str, numbers: Array) -> Array:
        """Row r of ``numbers``, shape (size, k), goes to rank r; row r of the result is from it."""
        values = np.ascontiguousarray(numbers)
        return self.alltoallv(step, Part(values, *np.ones((2, self.size), np.int64)))[0]

    def alltoallv(self, step: str, *parts: Part) -> list[Array]:
        """Exchange items of several kinds, in one message from each rank to each.

        Returns
        -------
        list of ndarray
            For each part, a new array of the items received, those of rank 0 first.
        """
        sends = [_slices(part.values, part.n_sent) for part in parts]
        results = [np.empty((int(part.n_received.sum()), *part.values.shape[1:]), part.values.dtype) for part in parts]
        receives = [_slices(result, part.n_received) for result, part in zip(results, parts, strict=True)]
        self._exchange(step, list(zip(*sends, strict=True)), list(zip(*receives, strict=True)))
        return results

    def allgatherv(self, step: str, values: Array, n_received: Array) -> Array:
        """The items of all ranks, those of rank 0 first; ``values`` are this rank's, contiguous."""
        result = np.empty((int(n_received.sum()), *values.shape[1:]), values.dtype)
        self._exchange(step, [(_bytes(values),)] * self.size, [(part,) for part in _slices(result, n_received)])
        return result

    def allgather(self, step: str, values: Array) -> Array:
        """The arrays of all ranks, of one shape and dtype, stacked."""
        return self.allgatherv(step, np.ascontiguousarray(values)[None], np.ones(self.size, np.int64))

    def allreduce(self, step: str, values: Array) -> Array:
        """The sum of the arrays of all ranks, added in the order of the ranks: the same in all."""
        gathered = self.allgather(step, values)
        total = gathered[0].copy()
        for other in gathered[1:]:
            total += other
        return total

    def barrier(self, step: str = "barrier") -> None:
        """Wait until all ranks are here."""
        self.allgather(step, np.zeros(1, np.uint8))

    def _exchange(self, step: str, sends: Sequence[Sequence[Array]], receives: Sequence[Sequence[Array]]) -> None:
        """Send each rank its pieces as one message, and fill the pieces that come from each."""
        if self._broken is not None:
            raise PeerError(step, [], f"the group is unusable after an error: {self._broken}")
        joined = [_joined(pieces) for pieces in sends]
        buffers = [pieces[0] if len(pieces) == 1 else np.empty(sum(map(len, pieces)), np.uint8) for pieces in receives]
        own, joined[self.rank] = joined[self.rank], None
        if own is not None:
            buffers[self.rank][:] = own
        others = [data if len(data) and peer != self.rank else None for peer, data in enumerate(buffers)]
        try:
            self._transport.exchange(joined, others, time.monotonic() + self.deadline)
        except Unfinished as error:
            raise self.failed(step, error.peers, f"{error.why} (deadline {self.deadline:g} s)") from error
        except BaseException as error:
            self.failed(step, [], repr(error))
            raise
        self.bytes_sent += sum(len(data) for data in joined if data is not None)
        self.messages_sent += sum(data is not None for data in joined)
        for pieces, data in zip(receives, buffers, strict=True):
            if len(pieces) > 1:
                ends = np.cumsum([len(piece) for piece in pieces])
                for piece, part in zip(pieces, np.split(data, ends[:-1]), strict=True):
                    piece[:] = part

    # ---- failure ----

    def failed(self, step: str, peers: Sequence[int], why: str) -> PeerError:
        """The error to raise; no exchange is possible afterwards, as messages may be under way."""
        error = PeerError(step, peers, why)
        self._broken = str(error)
        self._transport.break_off()
        return error

    @contextlib.contextmanager
    def applying(self, step: str) -> Iterator[None]:
        """A context for what follows an agreement: an error here makes the group unusable."""
        try:
            yield
        except BaseException as error:
            if self._broken is None:
                self.failed(step, [self.rank], repr(error))
            raise

    def __repr__(self) -> str:
        return f"Group(rank {self.rank} of {self.size}, {self._transport.name}, deadline={self.deadline:g})"

    def __reduce__(self) -> Any:
        raise TypeError("a group of ranks cannot be copied or pickled")

    def __deepcopy__(self, memo: dict[int, Any]) -> Group:
        return self  # a copy of a layer is in the same group


def local(*, deadline: float = DEADLINE) -> Group:
    """The group of this process alone, in which all layers work as in one of many ranks.

    Examples
    --------
    >>> from fastembed import distributed
    >>> distributed.local()
    Group(rank 0 of 1, local, deadline=60)
    """
    return Group(Alone(), deadline=deadline)


def _bytes(values: Array) -> Array:
    """The bytes of a contiguous array, not copied."""
    return values.reshape(-1).view(np.uint8)


def _slices(values: Array, counts: Array) -> list[Array]:
    """The bytes of the items of each rank, not copied."""
    size = values.itemsize * int(np.prod(values.shape[1:], dtype=np.int64))
    ends = (np.cumsum(counts) * size).tolist()
    data = _bytes(values)
    return [data[first:end] for first, end in zip([0, *ends[:-1]], ends, strict=True)]


def _joined(pieces: Sequence[Array]) -> Array | None:
    data = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
    return data if len(data) else None
