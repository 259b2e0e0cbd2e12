"""PeerError: what a call raises when another rank does not take its part in it."""

from __future__ import annotations

from collections.abc import Sequence


class PeerError(RuntimeError):
    """Another rank did not answer in time, is gone, refused the call, or sent what it must not.

    Attributes
    ----------
    step : str
        What was exchanged, such as "look-up of ShardedEmbedding(1000, 16): ids".
    peers : tuple of int
        The ranks concerned.
    """

    def __init__(self, step: str, peers: Sequence[int], why: str) -> None:
        self.step, self.peers = step, tuple(peers)
        ranks = ", ".join(map(str, self.peers)) or "unknown"
        super().__init__(f"{step}: rank{'s' if len(self.peers) > 1 else ''} {ranks}: {why}")


class Unfinished(Exception):
    """Messages of these peers did not arrive, or could not be sent."""

    def __init__(self, peers: Sequence[int], why: str) -> None:
        self.peers, self.why = tuple(peers), why
        super().__init__(why)
