"""The two ways in which a peer does not give what it was asked for. Both mean: ask the store."""

from __future__ import annotations

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.peer.wire import Reason


class PeerRefusal(CacheError):
    """The owner answers that it cannot."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(ErrorKind.UNAVAILABLE, message)
        self.reason = reason


class PeerFault(CacheError):
    """The owner cannot be reached, does not answer in time, or answers nonsense: it is left alone for a while."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorKind.UNAVAILABLE, message)
