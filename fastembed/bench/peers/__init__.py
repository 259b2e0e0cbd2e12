"""The contenders: fastembed, and each way in which another library does the same work."""

from .backward import BACKWARD
from .base import OURS, PEERS, Contender, Inputs, set_threads, version
from .forward import FORWARD, FRESH, READ
from .short import IMPORT, ONE_NAME, ONE_TOKEN, POSITION, TOKEN

__all__ = [
    "BACKWARD",
    "FORWARD",
    "FRESH",
    "IMPORT",
    "ONE_NAME",
    "ONE_TOKEN",
    "OURS",
    "PEERS",
    "POSITION",
    "READ",
    "TOKEN",
    "Contender",
    "Inputs",
    "set_threads",
    "version",
]
