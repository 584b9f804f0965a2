"""One connection to another pod, from the side that asks: handshake and frames, with a time limit on everything.

Blocking; used by one thread at a time. Raises PeerFault for whatever goes wrong, and is of no use afterwards.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import socket
import time

from fusecache.peer.errors import PeerFault
from fusecache.peer.wire import (
    CARD_HEAD_BYTES,
    CHECKSUM,
    FRAME,
    GREETING,
    MAC_BYTES,
    NONCE_BYTES,
    Card,
    Frame,
    asker_mac,
    card_head,
    owner_mac,
)

CONNECT_SECONDS = 0.3  # two pods of one cluster are milliseconds apart; who is not there says so at once
HANDSHAKE_SECONDS = 1.0
# Of an owner that is at it: it says WAIT every half a second. A process that was stopped, or a node without power, says nothing.
SILENCE_SECONDS = 2.0
FRAME_SECONDS = 10.0  # for the bytes of a block, once they have begun: slower than that the store is better


class PeerConnection:
    def __init__(self, place: tuple[str, int], token: bytes) -> None:
        """Connect, and prove to each other that both know the token. Raises: PeerFault."""
        self.place = place
        if not token:
            raise PeerFault("there is no token to prove to other cache pods who we are")
        try:
            self._socket = socket.create_connection(place, CONNECT_SECONDS)
        except OSError as error:
            raise PeerFault(f"{self}: {error.strerror or error}") from None
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._head = bytearray(FRAME.size)
            self.card = self._shake_hands(token)
        except BaseException:
            self.close()
            raise

    def __str__(self) -> str:
        return f"peer {self.place[0]} port {self.place[1]}"

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()

    def _shake_hands(self, token: bytes) -> Card:
        deadline = time.monotonic() + HANDSHAKE_SECONDS
        greeting = self._exactly(len(GREETING) + NONCE_BYTES, deadline)
        if greeting[: len(GREETING)] != GREETING:
            raise PeerFault(f"{self}: what listens there is no cache pod of this version")
        theirs, ours = bytes(greeting[len(GREETING) :]), os.urandom(NONCE_BYTES)
        self.send(GREETING + ours + asker_mac(token, theirs, ours))
        try:
            mac = bytes(self._exactly(MAC_BYTES, deadline))
        except PeerFault as error:
            raise PeerFault(f"{error}; it may have another token") from None
        head = bytes(self._exactly(CARD_HEAD_BYTES, deadline))
        try:
            owns, block_size, granule_size, length = card_head(head)
            node = bytes(self._exactly(length, deadline))
            card = Card(node.decode(), owns, block_size, granule_size)
        except ValueError as error:
            raise PeerFault(f"{self}: {error}") from None
        if not hmac.compare_digest(mac, owner_mac(token, theirs, ours, head + node)):
            raise PeerFault(f"{self}: it does not know the Dataset's token")
        return card

    def send(self, data: bytes) -> None:
        """Raises: PeerFault."""
        try:
            self._socket.settimeout(SILENCE_SECONDS)
            self._socket.sendall(data)
        except OSError as error:
            raise PeerFault(f"{self}: {error.strerror or error}") from None

    def next_frame(self) -> Frame:
        """Wait for the head of a frame. Raises: PeerFault."""
        self.fill(memoryview(self._head), time.monotonic() + SILENCE_SECONDS)
        try:
            return Frame.unpack(self._head)
        except ValueError as error:
            raise PeerFault(f"{self}: {error}") from None

    def checksums(self, count: int) -> list[int]:
        data = self._exactly(count * CHECKSUM.size, time.monotonic() + FRAME_SECONDS)
        return [value for (value,) in CHECKSUM.iter_unpack(data)]

    def text(self, length: int) -> str:
        return self._exactly(length, time.monotonic() + SILENCE_SECONDS).decode(errors="replace")

    def _exactly(self, length: int, deadline: float) -> bytearray:
        data = bytearray(length)
        self.fill(memoryview(data), deadline)
        return data

    def fill(self, target: memoryview, deadline: float) -> None:
        """Receive as many bytes as the target has. Raises: PeerFault, after SILENCE_SECONDS without any, or at the deadline."""
        filled = 0
        try:
            while filled < len(target):
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError("it is too slow")
                self._socket.settimeout(min(SILENCE_SECONDS, left))
                count = self._socket.recv_into(target[filled:])
                if not count:
                    raise ConnectionError("it closed the connection")
                filled += count
        except OSError as error:
            raise PeerFault(f"{self}: {error.strerror or error}") from None
