"""Answers other nodes' cache pods: handshake, requests, frames. What bytes there are, a `Provider` says.

Runs in fetch's event loop, one task for each connection. Bounded: connections, strangers among them, sizes, and the time that
anybody may take to say or to take something. It asks no other node, so that requests never go round.
"""

from __future__ import annotations

import errno
import hmac
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol

import trio

from fusecache.contract.mount_spec import PeersSpec
from fusecache.peer.errors import PeerRefusal
from fusecache.peer.token_file import read_token
from fusecache.peer.wire import (
    CHECKSUM,
    GREETING,
    MAC_BYTES,
    MAX_REASON_BYTES,
    NONCE_BYTES,
    REQUEST,
    WAIT_SECONDS,
    Card,
    Frame,
    FrameKind,
    RangeRequest,
    RequestHead,
    asker_mac,
    owner_mac,
)

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 512
MAX_STRANGERS = 64  # connections whose asker has not said the token yet
HANDSHAKE_SECONDS = 2.0
IDLE_SECONDS = 120.0
TAKE_SECONDS = 10.0  # an asker that takes nothing for so long has gone
LISTEN_AGAIN_SECONDS = 1.0  # while a process before us still has the port
_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


class Piece(NamedTuple):
    """Whole granules of one block. `was_cached`: when the request came."""

    offset: int  # in the object
    data: memoryview
    checksums: Sequence[int]
    was_cached: bool


Send = Callable[[Piece], Awaitable[None]]


class Provider(Protocol):
    async def provide(self, wanted: RangeRequest, send: Send) -> None:
        """Send all of a widened range (wire.widened), block by block. Raises: PeerRefusal; what was sent before was right."""


class _Gone(Exception):
    """The asker went away, or says what no asker says."""


class PeerServer:
    def __init__(self, spec: PeersSpec, card: Card, provider: Provider) -> None:
        self._spec = spec
        self._card = card
        self._provider = provider
        self._strangers = 0
        self.connections = 0
        self.refused = 0  # handshakes with a wrong token, or none

    async def run(self) -> None:
        """Listen at the spec's address and port, as soon as that is free."""
        with await self._listen() as listener:
            listening = trio.socket.from_stdlib_socket(listener)
            async with trio.open_nursery() as nursery:
                while True:
                    try:
                        stream, _ = await listening.accept()
                    except OSError as error:  # no descriptor is left, say: some requests will end
                        log.info("a cache pod of another node cannot be answered: %s", error)
                        await trio.sleep(WAIT_SECONDS)
                        continue
                    if self.connections >= MAX_CONNECTIONS or self._strangers >= MAX_STRANGERS:
                        stream.close()
                        continue
                    self.connections += 1
                    nursery.start_soon(self._serve, stream)

    async def _listen(self) -> socket.socket:
        is_told = False
        while True:
            try:
                return _bound(self._spec.address, self._spec.port)
            except OSError as error:
                if not is_told:
                    log.warning("other nodes cannot ask this one: port %d: %s; it is tried again", self._spec.port, error)
                is_told = True
            await trio.sleep(LISTEN_AGAIN_SECONDS)

    async def _serve(self, stream: trio.socket.SocketType) -> None:
        try:
            with stream:
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await self._shake_hands(stream)
                while True:
                    await self._answer(stream, await self._request(stream))
        except (_Gone, OSError, trio.TooSlowError) as error:
            log.debug("the connection of a peer ends: %s", error)
        finally:
            self.connections -= 1

    async def _shake_hands(self, stream: trio.socket.SocketType) -> None:
        ours = os.urandom(NONCE_BYTES)
        self._strangers += 1
        try:
            with trio.fail_after(HANDSHAKE_SECONDS):
                await _send_all(stream, GREETING + ours)
                said = await _receive(stream, len(GREETING) + NONCE_BYTES + MAC_BYTES)
        finally:
            self._strangers -= 1
        greeting, rest = said[: len(GREETING)], said[len(GREETING) :]
        theirs, mac = rest[:NONCE_BYTES], rest[NONCE_BYTES:]
        token = read_token(self._spec.token_file)
        if greeting != GREETING or not token or not hmac.compare_digest(mac, asker_mac(token, ours, theirs)):
            self.refused += 1
            raise _Gone("it does not know the Dataset's token")
        card = self._card.pack()
        with trio.fail_after(HANDSHAKE_SECONDS):
            await _send_all(stream, owner_mac(token, ours, theirs, card) + card)

    async def _request(self, stream: trio.socket.SocketType) -> RangeRequest:
        with trio.fail_after(IDLE_SECONDS):
            data = await _receive(stream, REQUEST.size)
        head = RequestHead.unpack(data)
        with trio.fail_after(TAKE_SECONDS):
            rest = await _receive(stream, head.version_length + head.path_length)
        try:
            return head.with_rest(rest)
        except ValueError as error:
            raise _Gone(str(error)) from None

    async def _answer(self, stream: trio.socket.SocketType, wanted: RangeRequest) -> None:
        sending = trio.Lock()  # a WAIT must not come into the middle of another frame
        last_sent = time.monotonic()

        async def say_frame(frame: Frame, *rest: bytes | memoryview) -> None:
            nonlocal last_sent
            async with sending:
                with trio.fail_after(TAKE_SECONDS):
                    await _send_all(stream, frame.pack(), *rest)
                last_sent = time.monotonic()

        async def send(piece: Piece) -> None:
            checksums = b"".join(CHECKSUM.pack(checksum) for checksum in piece.checksums)
            count, length = len(piece.checksums), len(piece.data)
            frame = Frame(FrameKind.DATA, int(piece.was_cached), count, length, wanted.identity, piece.offset)
            await say_frame(frame, checksums, piece.data)

        async def say_wait() -> None:
            while True:
                await trio.sleep(max(0.0, last_sent + WAIT_SECONDS - time.monotonic()))
                if time.monotonic() - last_sent >= WAIT_SECONDS and not sending.locked():
                    await say_frame(Frame(FrameKind.WAIT, 0, 0, 0, 0, 0))

        refusal: PeerRefusal | None = None
        is_over = False
        problem: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_until_gone, say_wait, nursery.cancel_scope)
            try:
                await self._provider.provide(wanted, send)
                is_over = True
            except PeerRefusal as known:
                refusal = known
            except (OSError, trio.TooSlowError) as known:  # not out of the nursery, which would wrap it
                problem = known
            nursery.cancel_scope.cancel()
        if problem is not None or not (is_over or refusal):
            raise problem or _Gone("it does not take what it asked for")
        if refusal is not None:
            reason = str(refusal).encode()[:MAX_REASON_BYTES]
            await say_frame(Frame(FrameKind.REFUSAL, int(refusal.reason), 0, len(reason), 0, 0), reason)


async def _until_gone(run: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
    """Nobody waits for the answer any more when a WAIT cannot be sent: what is done for it need not go on."""
    try:
        await run()
    except (OSError, trio.TooSlowError):
        scope.cancel()


async def _receive(stream: trio.socket.SocketType, length: int) -> bytes:
    """Return exactly so many bytes. Raises: _Gone, OSError."""
    data = bytearray()
    while len(data) < length:
        chunk = await stream.recv(length - len(data))
        if not chunk:
            raise _Gone("it closed the connection")
        data += chunk
    return bytes(data)


async def _send_all(stream: trio.socket.SocketType, *buffers: bytes | memoryview) -> None:
    """Send buffers one after the other, with one system call if the kernel takes them all. Raises: OSError."""
    left = [memoryview(buffer) for buffer in buffers if len(buffer)]
    while left:
        sent = await stream.sendmsg(left)
        while left and sent >= len(left[0]):
            sent -= len(left.pop(0))
        if left:
            left[0] = left[0][sent:]


def _bound(address: str, port: int) -> socket.socket:
    """Raises: OSError. "" is every address, of both families where the machine has both."""
    if address:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return socket.create_server((address, port), family=family, backlog=MAX_STRANGERS)
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("", port), family=socket.AF_INET6, backlog=MAX_STRANGERS, dualstack_ipv6=True)
        except OSError as error:
            if error.errno not in _NO_IPV6:
                raise
    return socket.create_server(("", port), backlog=MAX_STRANGERS)
