"""A real server and real clients over loopback, and others that only look like them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from fusecache.contract.mount_spec import PeersSpec
from fusecache.peer import server as server_module
from fusecache.peer.client import PeerLink, introduce
from fusecache.peer.connection import SILENCE_SECONDS, PeerConnection
from fusecache.peer.errors import PeerFault, PeerRefusal
from fusecache.peer.server import PeerServer, Piece, Send
from fusecache.peer.wire import (
    GREETING,
    MAC_BYTES,
    MAX_RANGE_BYTES,
    NONCE_BYTES,
    REQUEST,
    Card,
    Frame,
    FrameKind,
    RangeRequest,
    Reason,
    asker_mac,
    owner_mac,
    widened,
)
from fusecache.tiers.checksums import block_checksums
from tests.support.seaweed import free_ports

BLOCK, GRANULE = 1 << 16, 1 << 13
CARD = Card("node-1", True, BLOCK, GRANULE)
TOKEN = b"the token"
DATA = hashlib.shake_128(b"data").digest(5 * BLOCK + 77)
IDENTITY = 0xFEDCBA9876543210


def wanted(offset: int = 0, length: int = len(DATA), **more: int) -> RangeRequest:
    return RangeRequest(0, 7, IDENTITY, len(DATA), offset, length, b"a/path", b"version")._replace(**more)


class Store:
    """A provider of DATA. `before` is called for each block, and may spoil it."""

    def __init__(self) -> None:
        self.asked: list[RangeRequest] = []
        self.before: Callable[[Piece], Piece] = lambda piece: piece
        self.pause = 0.0

    async def provide(self, wanted: RangeRequest, send: Send) -> None:
        self.asked.append(wanted)
        start, stop = widened(wanted.offset, wanted.length, wanted.size, GRANULE)
        for begin in range(start - start % BLOCK, stop, BLOCK):
            await trio.sleep(self.pause)
            first, last = max(begin, start), min(begin + BLOCK, stop)
            data = memoryview(DATA)[first:last]
            await send(self.before(Piece(first, data, block_checksums(data, wanted.identity, first, GRANULE), True)))


class Running:
    """Attributes: place, where it listens; server; store; path of the token's file."""

    def __init__(self, path: Path) -> None:
        (port,) = free_ports(1)
        self.place = ("127.0.0.1", port)
        self.token_file = str(path / "token")
        Path(self.token_file).write_bytes(TOKEN + b"\n")
        self.store = Store()
        self.server = PeerServer(PeersSpec("", port, "node-1", self.token_file, "127.0.0.1"), CARD, self.store)

    def link(self) -> PeerLink:
        return PeerLink(CARD, self.place, self.token_file)

    async def run(self, ready: threading.Event) -> None:
        self.token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            self.scope = nursery.cancel_scope
            nursery.start_soon(self.server.run)
            ready.set()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    made = Running(tmp_path)
    ready = threading.Event()
    thread = threading.Thread(target=lambda: trio.run(made.run, ready))
    thread.start()
    ready.wait()
    deadline = time.monotonic() + 5
    while True:
        with contextlib.suppress(PeerFault):
            introduce(made.place, made.token_file)
            break
        assert time.monotonic() < deadline
    yield made
    made.token.run_sync_soon(made.scope.cancel)
    thread.join()


def read_through(link: PeerLink, request: RangeRequest) -> bytes:
    pieces: list[bytes] = []
    link.read_through(request, memoryview(bytearray(BLOCK)), lambda piece: pieces.append(bytes(piece)))
    return b"".join(pieces)


def read(link: PeerLink, offset: int, length: int) -> bytes:
    target = bytearray(length)
    link.read_into(wanted(offset, length), memoryview(target))
    return bytes(target)


def test_who_is_there(running: Running) -> None:
    assert introduce(running.place, running.token_file) == CARD


def test_bytes_by_blocks_and_by_any_range(running: Running) -> None:
    link = running.link()
    assert read_through(link, wanted()) == DATA
    ends = ((0, 1), (1, GRANULE), (BLOCK - 1, 2), (GRANULE - 1, 3 * BLOCK), (len(DATA) - 1, 1), (3, len(DATA) - 3))
    for offset, length in ends:
        assert read(link, offset, length) == DATA[offset : offset + length]
    assert running.server.connections == 1, "a connection is used again"
    assert running.store.asked[0] == wanted()
    link.close()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda piece: piece._replace(data=memoryview(bytes(len(piece.data)))),
        lambda piece: piece._replace(data=memoryview(bytes(piece.data[:-1]) + bytes([piece.data[-1] ^ 1]))),
        lambda piece: piece._replace(checksums=block_checksums(piece.data, IDENTITY + 1, piece.offset, GRANULE)),
        lambda piece: piece._replace(checksums=block_checksums(piece.data, IDENTITY, piece.offset + BLOCK, GRANULE)),
        lambda piece: piece._replace(offset=piece.offset + BLOCK),
        lambda piece: piece._replace(data=piece.data[:-1]),
        lambda piece: piece._replace(checksums=piece.checksums[:-1]),
    ],
    ids=["zeros", "a bit", "another version's", "another place's", "another offset", "too short", "a checksum less"],
)
def test_bytes_of_anything_else_are_not_taken(running: Running, spoil: Callable[[Piece], Piece]) -> None:
    link = running.link()
    running.store.before = lambda piece: spoil(piece) if piece.offset == 2 * BLOCK else piece
    taken: list[bytes] = []
    with pytest.raises(PeerFault):
        link.read_through(wanted(), memoryview(bytearray(BLOCK)), lambda piece: taken.append(bytes(piece)))
    assert b"".join(taken) == DATA[: 2 * BLOCK]
    assert not link.is_usable
    with pytest.raises(PeerRefusal):
        read(link, 0, 1)


def test_a_refusal_is_no_fault(running: Running) -> None:
    def refuse(piece: Piece) -> Piece:
        raise PeerRefusal(Reason.OTHER_VERSION, "there is another one")

    link = running.link()
    running.store.before = lambda piece: piece if piece.offset < BLOCK else refuse(piece)
    with pytest.raises(PeerRefusal, match="another one") as refused:
        read(link, 0, 2 * BLOCK)
    assert refused.value.reason is Reason.OTHER_VERSION
    running.store.before = lambda piece: piece
    assert (link.is_usable, read(link, 0, 9), running.server.connections) == (True, DATA[:9], 1)
    link.close()


def test_a_slow_store_of_the_owner_is_waited_for(running: Running) -> None:
    running.store.pause = SILENCE_SECONDS + 0.3
    link = running.link()
    assert read(link, 0, 5) == DATA[:5]
    link.close()


def test_an_idle_connection_that_was_closed_is_no_fault(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "IDLE_SECONDS", 0.1)
    link = running.link()
    assert read(link, 0, 5) == DATA[:5]
    time.sleep(0.4)
    assert running.server.connections == 0
    assert read(link, 5, 5) == DATA[5:10]
    link.close()


@pytest.mark.parametrize("token", [b"", b"another"])
def test_without_the_token_nobody_gets_in(running: Running, token: bytes, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(token)
    with pytest.raises(PeerFault):
        introduce(running.place, str(tmp_path / "other"))
    assert running.server.refused == (1 if token else 0)


def test_a_server_without_a_token_is_closed(running: Running, tmp_path: Path) -> None:
    (tmp_path / "known").write_bytes(b"")
    Path(running.token_file).write_bytes(b"")
    with pytest.raises(PeerFault):
        PeerConnection(running.place, b"x")
    with socket.create_connection(running.place) as asker:
        nonce = asker.recv(100)[len(GREETING) :]
        ours = os.urandom(NONCE_BYTES)
        asker.sendall(GREETING + ours + asker_mac(b"", nonce, ours))
        assert asker.recv(1) == b""


def test_a_handshake_cannot_be_repeated_or_sent_back(running: Running) -> None:
    """What was heard on the network, and what the other side itself has said, proves nothing."""
    ours = os.urandom(NONCE_BYTES)
    with socket.create_connection(running.place) as first:
        nonce = first.recv(100)[len(GREETING) :]
        said = GREETING + ours + asker_mac(TOKEN, nonce, ours)
        first.sendall(said)
        assert len(first.recv(MAC_BYTES)) == MAC_BYTES
    with socket.create_connection(running.place) as second:
        second.recv(100)
        second.sendall(said)
        assert second.recv(1) == b""


def shaken(place: tuple[str, int]) -> socket.socket:
    asker = socket.create_connection(place)
    nonce, ours = asker.recv(100)[len(GREETING) :], os.urandom(NONCE_BYTES)
    asker.sendall(GREETING + ours + asker_mac(TOKEN, nonce, ours))
    expected = MAC_BYTES + len(CARD.pack())
    while expected:
        expected -= len(asker.recv(expected))
    return asker


@pytest.mark.parametrize(
    "request_",
    [
        wanted(0, 0),
        wanted(len(DATA), 1),
        wanted(1, len(DATA)),
        wanted(0, MAX_RANGE_BYTES + 1, size=1 << 40),
        wanted(1 << 63, 1, size=1 << 63),
    ],
)
def test_requests_that_nobody_makes_end_the_connection(running: Running, request_: RangeRequest) -> None:
    with shaken(running.place) as asker:
        asker.sendall(request_.pack())
        assert asker.recv(1) == b""
    assert running.store.asked == []


def test_garbage_and_silence(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "HANDSHAKE_SECONDS", 0.2)
    with socket.create_connection(running.place) as silent, socket.create_connection(running.place) as loud:
        loud.sendall(os.urandom(4096))
        for asker in (silent, loud):
            with contextlib.suppress(ConnectionError):
                while asker.recv(100):
                    pass
    assert introduce(running.place, running.token_file) == CARD
    assert struct.calcsize(REQUEST.format) == REQUEST.size < 64


def test_strangers_are_few(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MAX_STRANGERS", 2)
    with socket.create_connection(running.place) as one, socket.create_connection(running.place) as two:
        assert (one.recv(8), two.recv(8)) == (GREETING, GREETING)
        with socket.create_connection(running.place) as three:
            assert three.recv(1) == b""


def test_an_asker_that_takes_nothing_holds_nobody_up(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "TAKE_SECONDS", 0.3)
    with shaken(running.place) as asker:
        asker.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for _ in range(40):
            asker.sendall(wanted().pack())
        link = running.link()
        assert read(link, 0, 9) == DATA[:9]
        link.close()
        deadline = time.monotonic() + 5
        while running.server.connections:
            assert time.monotonic() < deadline
            time.sleep(0.02)


# -- servers that only look like one


@contextlib.contextmanager
def impostor(serve: Callable[[socket.socket], None]) -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, contextlib.suppress(OSError):
                        serve(connection)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def greet(connection: socket.socket, card: bytes = CARD.pack(), token: bytes = TOKEN) -> bytes:
    """Play the owner's part; return what the asker said."""
    nonce = os.urandom(NONCE_BYTES)
    connection.sendall(GREETING + nonce)
    said = b""
    while len(said) < len(GREETING) + NONCE_BYTES + MAC_BYTES:
        said += connection.recv(1000) or bytes(1000)
    theirs = said[len(GREETING) : len(GREETING) + NONCE_BYTES]
    connection.sendall(owner_mac(token, nonce, theirs, card) + card)
    return said


def test_an_impostor_learns_nothing_and_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(TOKEN)
    heard: list[bytes] = []
    with (
        impostor(lambda connection: heard.append(greet(connection, token=b"a guess"))) as place,
        pytest.raises(PeerFault, match="token"),
    ):
        introduce(place, str(tmp_path / "token"))
    assert TOKEN not in heard[0]


@pytest.mark.parametrize("card", [b"", bytes(11), CARD.pack()[:-1], struct.pack("<BIIH", 1, 0, 1, 1) + b"x"])
def test_odd_cards(tmp_path: Path, card: bytes) -> None:
    (tmp_path / "token").write_bytes(TOKEN)
    with impostor(lambda connection: (greet(connection, card), None)[1]) as place, pytest.raises(PeerFault):
        introduce(place, str(tmp_path / "token"))


def test_another_node_at_the_same_address_is_not_taken_for_it(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(TOKEN)
    other = CARD._replace(node="node-2").pack()
    with impostor(lambda connection: (greet(connection, other), None)[1]) as place:
        link = PeerLink(CARD, place, str(tmp_path / "token"))
        with pytest.raises(PeerFault, match="node-2"):
            read(link, 0, 1)


def answered(connection: socket.socket, answer: bytes, *, stay: float = 0.0) -> None:
    greet(connection)
    connection.recv(1000)
    connection.sendall(answer)
    time.sleep(stay)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        bytes(100),
        Frame(9, 0, 0, 0, 0, 0).pack(),
        Frame(FrameKind.DATA, 0, 1, 1 << 31, IDENTITY, 0).pack(),
        Frame(FrameKind.DATA, 0, 1, 0, IDENTITY, 0).pack(),
        Frame(FrameKind.DATA, 0, 65535, GRANULE, IDENTITY, 0).pack(),
        Frame(FrameKind.DATA, 0, 1, GRANULE, IDENTITY + 1, 0).pack(),
        Frame(FrameKind.REFUSAL, 99, 0, 0, 0, 0).pack(),
        Frame(FrameKind.REFUSAL, 1, 0, 501, 0, 0).pack(),
    ],
)
def test_odd_answers_are_faults(tmp_path: Path, answer: bytes) -> None:
    (tmp_path / "token").write_bytes(TOKEN)
    with impostor(lambda connection: answered(connection, answer)) as place:
        link = PeerLink(CARD, place, str(tmp_path / "token"))
        with pytest.raises(PeerFault):
            read(link, 0, 5)
        assert not link.is_usable


def test_silence_is_a_fault_in_time(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(TOKEN)
    with impostor(lambda connection: answered(connection, b"", stay=SILENCE_SECONDS + 0.5)) as place:
        link = PeerLink(CARD, place, str(tmp_path / "token"))
        started = time.monotonic()
        with pytest.raises(PeerFault):
            read(link, 0, 5)
        assert time.monotonic() - started < SILENCE_SECONDS + 0.4


def test_nobody_listens(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(TOKEN)
    (port,) = free_ports(1)
    with pytest.raises(PeerFault):
        introduce(("127.0.0.1", port), str(tmp_path / "token"))


def test_a_pod_listens_at_all_of_its_addresses() -> None:
    (port,) = free_ports(1)
    with server_module._bound("", port) as listener:
        socket.create_connection(("127.0.0.1", port), 1).close()
        if listener.family is socket.AF_INET6 and "::1" in {info[4][0] for info in socket.getaddrinfo("localhost", port)}:
            socket.create_connection(("::1", port), 1).close()
    with server_module._bound("127.0.0.1", port):
        socket.create_connection(("127.0.0.1", port), 1).close()
