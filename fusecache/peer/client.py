"""Asks one other pod for bytes. State: idle connections, whether the pod is left alone for now. Any thread of fetch.

Invariant: no byte is passed on that is not of the version that was asked for, at the offset that was asked for, by its checksum.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from fusecache.peer.connection import FRAME_SECONDS, PeerConnection
from fusecache.peer.errors import PeerFault, PeerRefusal
from fusecache.peer.token_file import read_token
from fusecache.peer.wire import Card, Frame, FrameKind, RangeRequest, Reason, widened
from fusecache.tiers.checksums import damaged_granule

MAX_IDLE = 8  # connections that wait for the next request; as many as requests to all peers are under way
# How long an owner may take for the next block. It has the same store, and the asker's reader a deadline that is far longer.
PATIENCE_SECONDS = 15.0

Take = Callable[[memoryview], None]


class PeerLink:
    """One pod. `is_usable` turns false with the first fault, and stays so: membership makes a new link when the pod answers,
    after a while. `has_worked`: something came through this link."""

    def __init__(self, card: Card, place: tuple[str, int], token_file: str) -> None:
        self.card = card
        self.place = place
        self.is_usable = True
        self.has_worked = False
        self._token_file = token_file
        self._lock = threading.Lock()
        self._idle: list[PeerConnection] = []

    def read_through(self, wanted: RangeRequest, buffer: memoryview, take: Take) -> int:
        """Give the bytes of each block to `take`, in order: all of a block that lies in the widened range (wire.widened).

        The buffer goes round, and holds a block. Return how many bytes the owner had when it was asked. What was taken before an
        error was right; errors of `take` pass. Raises: PeerRefusal, PeerFault."""
        if not self.is_usable:
            raise PeerRefusal(Reason.SILENT, f"node {self.card.node} did not answer lately")
        connection, is_new = self._connected()
        try:
            try:
                frame = self._begun(connection, wanted)
            except PeerFault:  # an idle connection may have ended long ago
                if is_new:
                    raise
                connection.close()
                connection = PeerConnection(self.place, read_token(self._token_file))
                self._check_card(connection.card)
                frame = self._begun(connection, wanted)
            had = self._received(connection, wanted, frame, buffer, take)
        except PeerRefusal as refusal:
            if refusal.reason is Reason.SILENT:  # it would be so for everything that it has not cached
                self._give_up(connection)
            else:
                self._keep(connection)
            raise
        except PeerFault:
            self._give_up(connection)
            raise
        except BaseException:
            connection.close()
            raise
        self.has_worked = True
        self._keep(connection)
        return had

    def read_into(self, wanted: RangeRequest, target: memoryview) -> int:
        """Fill the target with exactly the range. Otherwise as `read_through`."""
        start, stop = widened(wanted.offset, wanted.length, wanted.size, self.card.granule_size)
        position = start

        def take(piece: memoryview) -> None:
            nonlocal position
            first, last = max(position, wanted.offset), min(position + len(piece), wanted.offset + wanted.length)
            if first < last:
                target[first - wanted.offset : last - wanted.offset] = piece[first - position : last - position]
            position += len(piece)

        with memoryview(bytearray(min(self.card.block_size, stop - start))) as buffer:
            return self.read_through(wanted, buffer, take)

    def _begun(self, connection: PeerConnection, wanted: RangeRequest) -> Frame:
        connection.send(wanted.pack())
        return connection.next_frame()

    def _received(self, connection: PeerConnection, wanted: RangeRequest, frame: Frame, buffer: memoryview, take: Take) -> int:
        position, stop = widened(wanted.offset, wanted.length, wanted.size, self.card.granule_size)
        had, patience = 0, time.monotonic() + PATIENCE_SECONDS
        while True:
            if frame.kind == FrameKind.REFUSAL:
                raise self._refusal(frame, connection.text(frame.length))
            if frame.kind == FrameKind.DATA:
                piece = self._piece(connection, wanted, frame, position, stop, buffer)
                take(piece)
                had += len(piece) if frame.detail else 0
                position += len(piece)
                if position == stop:
                    return had
                patience = time.monotonic() + PATIENCE_SECONDS
            elif time.monotonic() > patience:
                raise PeerRefusal(Reason.SILENT, f"node {self.card.node} waits for the store for too long")
            frame = connection.next_frame()

    def _refusal(self, frame: Frame, text: str) -> Exception:
        try:
            reason = Reason(frame.detail)
        except ValueError:
            return PeerFault(f"node {self.card.node} refuses for no known reason")
        return PeerRefusal(reason, f"node {self.card.node}: {text}")

    def _piece(
        self, connection: PeerConnection, wanted: RangeRequest, frame: Frame, position: int, stop: int, buffer: memoryview
    ) -> memoryview:
        """Receive the next block's bytes and compare them. Raises: PeerFault."""
        granule_size, block_size = self.card.granule_size, self.card.block_size
        length = min(stop, position - position % block_size + block_size) - position
        if (frame.identity, frame.offset, frame.length) != (wanted.identity, position, length):
            raise PeerFault(f"node {self.card.node} sent other bytes than it was asked for")
        if frame.checksums != -(-length // granule_size):
            raise PeerFault(f"node {self.card.node} sent {frame.checksums} checksums for {length} bytes")
        checksums = connection.checksums(frame.checksums)
        piece = buffer[:length]
        connection.fill(piece, time.monotonic() + FRAME_SECONDS)
        if damaged_granule(piece, checksums, wanted.identity, position, granule_size, 0) is not None:
            raise PeerFault(f"node {self.card.node} sent bytes that do not match their checksum")
        return piece

    # -- connections

    def _connected(self) -> tuple[PeerConnection, bool]:
        with self._lock:
            if self._idle:
                return self._idle.pop(), False
        try:
            connection = PeerConnection(self.place, read_token(self._token_file))
        except PeerFault:
            self.is_usable = False
            raise
        try:
            self._check_card(connection.card)
        except PeerFault:
            self.is_usable = False
            connection.close()
            raise
        return connection, True

    def _check_card(self, card: Card) -> None:
        if card != self.card:
            raise PeerFault(f"node {card.node} is where {self.card.node} was, or has other settings by now")

    def _keep(self, connection: PeerConnection) -> None:
        with self._lock:
            if self.is_usable and len(self._idle) < MAX_IDLE:
                self._idle.append(connection)
                return
        connection.close()

    def _give_up(self, connection: PeerConnection) -> None:
        self.is_usable = False
        connection.close()
        self.close()

    def close(self) -> None:
        """Let idle connections go; those in use end with their requests."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


def introduce(place: tuple[str, int], token_file: str) -> Card:
    """Ask who is there. Raises: PeerFault."""
    connection = PeerConnection(place, read_token(token_file))
    connection.close()
    return connection.card
