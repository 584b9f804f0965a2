"""The miss socket, spoken to as a serve process does it: answers, leases, and what a lost connection leaves behind."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fusecache.contract.errors import ErrorKind
from fusecache.contract.messages import MAX_MESSAGE_BYTES, STATUS_BOUNCE, STATUS_OK, Answer, Op, Request
from fusecache.fetch import miss_server
from tests.support.block_damage import damage_block
from tests.support.fake_source import FakeSource, content
from tests.support.fetch_harness import BLOCK, FetchHarness, fetching
from tests.support.log_check import LogCheck

FAST: dict[str, Any] = {"rate": 8.0, "ttl_seconds": 100.0}
DATA = content("file", 5 * BLOCK)


class Wire:
    """One connection to the miss socket."""

    def __init__(self, harness: FetchHarness, serve_index: int | None = 0) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(10)
        self.socket.connect(f"/proc/self/fd/{harness._run_directory}/miss.sock")
        self._token = 0
        if serve_index is not None:
            self.send(Request(Op.HELLO, offset=serve_index, inode=1))

    def send(self, request: Request) -> None:
        self.socket.send(request.pack())

    def ask(self, op: Op, inode: int, offset: int = 0, size: int = 0, name: bytes = b"") -> int:
        self._token += 1
        self.send(Request(op, self._token, inode, offset, size, name))
        return self._token

    def answer(self, token: int | None = None) -> Answer:
        answer = Answer.unpack(self.socket.recv(MAX_MESSAGE_BYTES))
        assert token is None or answer.token == token
        return answer

    def done(self, token: int) -> None:
        self.send(Request(Op.DONE, token))

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def source() -> FakeSource:
    made = FakeSource()
    made.put("file", DATA)
    made.put("dir/x", b"x")
    return made


@contextmanager
def wired(path: Path, source: FakeSource, quotas: tuple[int, ...] = (1 << 20,), **options: Any) -> Iterator[tuple[Any, Any, int]]:
    with fetching(path, source, quotas, **{**FAST, **options}) as (harness, reader):
        wire = Wire(harness)
        inode = reader.inode(b"file")
        try:
            yield harness, wire, inode
        finally:
            wire.close()


def leases(harness: FetchHarness) -> dict[tuple[int, int], int]:
    return harness.call_sync(lambda: dict(harness.cache.store.leases))


def eventually(condition: Any, what: str = "it never came true") -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.002)


def test_a_read_is_answered_when_its_blocks_are_there_and_leased(tmp_path: Path, source: FakeSource) -> None:
    with wired(tmp_path, source) as (harness, wire, inode):
        token = wire.ask(Op.READ, inode, 5, 2 * BLOCK)
        assert wire.answer(token).status == STATUS_OK
        assert leases(harness) == {(inode, 0): 1, (inode, 1): 1, (inode, 2): 1}
        again = wire.ask(Op.READ, inode, 0, 10)
        assert wire.answer(again).status == STATUS_OK
        assert leases(harness)[inode, 0] == 2
        wire.done(token)
        wire.done(again)
        eventually(lambda: not leases(harness))


def test_done_twice_or_for_nothing_is_harmless(tmp_path: Path, source: FakeSource) -> None:
    with wired(tmp_path, source) as (harness, wire, inode):
        one, two = wire.ask(Op.READ, inode, 0, 1), wire.ask(Op.READ, inode, 0, 1)
        assert {wire.answer().token, wire.answer().token} == {one, two}
        for _ in range(3):
            wire.done(one)
        wire.done(99)
        eventually(lambda: leases(harness) == {(inode, 0): 1})
        wire.done(two)


@pytest.mark.parametrize("when", ["waiting", "answered"])
def test_a_lost_connection_drops_its_leases_and_waiters(tmp_path: Path, source: FakeSource, when: str) -> None:
    with wired(tmp_path, source) as (harness, wire, inode):
        other = Wire(harness, 1)
        if when == "waiting":
            source.gate.clear()
        tokens = [one.ask(Op.READ, inode, 0, len(DATA)) for one in (wire, other)]
        if when == "answered":
            for one, token in zip((wire, other), tokens, strict=True):
                one.answer(token)
            assert set(leases(harness).values()) == {2}
        wire.close()
        eventually(lambda: harness.server.connections == 2)  # the reader of the bench, and the other
        source.gate.set()
        if when == "waiting":
            assert other.answer(tokens[1]).status == STATUS_OK
        assert set(leases(harness).values()) == {1}
        other.close()
        eventually(lambda: not leases(harness))


def test_a_lost_connection_gives_its_bounce_slots_back(tmp_path: Path, source: FakeSource) -> None:
    with wired(tmp_path, source, (), bounce_slots=2) as (harness, wire, inode):
        for _ in range(3):
            one = Wire(harness, 1)
            tokens = [one.ask(Op.READ, inode, offset, 10) for offset in (0, 20)]
            answers = [one.answer(), one.answer()]
            assert {answer.token for answer in answers} == set(tokens)
            assert {answer.status for answer in answers} == {STATUS_BOUNCE}
            assert len({answer.offset for answer in answers}) == 2
            third = one.ask(Op.READ, inode, 40, 10)  # no slot is free
            one.close()
        token = wire.ask(Op.READ, inode, 0, 10)
        answer = wire.answer(token)
        assert (answer.status, answer.size) == (STATUS_BOUNCE, 10)
        assert third


def test_a_read_that_waits_for_a_slot_gets_one_when_another_is_done(tmp_path: Path, source: FakeSource) -> None:
    with wired(tmp_path, source, (), bounce_slots=1) as (_, wire, inode):
        first = wire.ask(Op.READ, inode, 0, 10)
        wire.answer(first)
        second = wire.ask(Op.READ, inode, 20, 10)
        wire.done(first)
        assert wire.answer(second).status == STATUS_BOUNCE
        wire.done(second)


def test_a_cancelled_read_is_not_answered_and_leases_nothing(tmp_path: Path, source: FakeSource) -> None:
    with wired(tmp_path, source) as (harness, wire, inode):
        source.gate.clear()
        cancelled = wire.ask(Op.READ, inode, 0, 10)
        wire.send(Request(Op.CANCEL, cancelled))
        other = wire.ask(Op.READ, inode, 0, 10)
        time.sleep(0.02)
        source.gate.set()
        assert wire.answer(other).status == STATUS_OK
        assert leases(harness) == {(inode, 0): 1}
        wire.done(other)


def test_a_cancelled_question_is_not_answered(tmp_path: Path, source: FakeSource) -> None:
    with wired(tmp_path, source) as (harness, wire, _inode):
        harness.now += 1000
        source.gate.clear()
        cancelled = wire.ask(Op.LIST, 1)
        time.sleep(0.02)
        wire.send(Request(Op.CANCEL, cancelled))
        other = wire.ask(Op.LOOKUP, 1, name=b"file")
        source.gate.set()
        assert wire.answer(other).status == STATUS_OK


@pytest.mark.parametrize(
    ("op", "inode", "name", "status"),
    [
        (Op.LOOKUP, 1, b"file", STATUS_OK),
        (Op.LOOKUP, 1, b"nothing", STATUS_OK),
        (Op.LOOKUP, 0, b"nothing", ErrorKind.NOT_A_DIRECTORY),
        (Op.LOOKUP, 777, b"nothing", ErrorKind.STALE),
        (Op.LIST, 1, b"", STATUS_OK),
        (Op.LIST, 0, b"", ErrorKind.NOT_A_DIRECTORY),
        (Op.LIST, 777, b"", ErrorKind.STALE),
        (Op.ATTRIBUTES, 0, b"", STATUS_OK),
        (Op.ATTRIBUTES, 777, b"", ErrorKind.STALE),
        (Op.READ, 777, b"", ErrorKind.STALE),
        (Op.READ, 1, b"", STATUS_OK),  # nothing lies in a directory: the reader itself refuses it
    ],
)
def test_questions_and_their_answers(tmp_path: Path, source: FakeSource, op: Op, inode: int, name: bytes, status: int) -> None:
    """`inode` 0 stands for the file."""
    with wired(tmp_path, source) as (_, wire, file):
        token = wire.ask(op, inode or file, 0, 10, name)
        assert wire.answer(token).status == status


@pytest.mark.parametrize(("offset", "size"), [(len(DATA), 1), (len(DATA) + 1000, 5), (0, 0), ((1 << 63) - 1, 100)])
def test_reads_of_nothing_are_answered_at_once(tmp_path: Path, source: FakeSource, offset: int, size: int) -> None:
    with wired(tmp_path, source) as (harness, wire, inode):
        token = wire.ask(Op.READ, inode, offset, size)
        assert wire.answer(token).status == STATUS_OK
        assert not leases(harness)
        assert source.counts.calls["read"] == 0


@pytest.mark.parametrize("data", [b"x", b"\xff" * 40, bytes(40), Answer(Op.ANSWER).pack()])
def test_messages_that_nobody_should_send_are_ignored(
    tmp_path: Path, source: FakeSource, data: bytes, expect_log: LogCheck
) -> None:
    expect_log("a message that nobody should send", at_least=0)
    with wired(tmp_path, source) as (_, wire, inode):
        wire.socket.send(data)
        token = wire.ask(Op.READ, inode, 0, 1)
        assert wire.answer(token).status == STATUS_OK
        wire.done(token)


def test_a_damaged_block_is_fetched_again(tmp_path: Path, source: FakeSource) -> None:
    with wired(tmp_path, source) as (harness, wire, inode):
        wire.done(wire.answer(wire.ask(Op.READ, inode, 0, len(DATA))).token)
        damage_block(harness, inode, 2)
        wire.send(Request(Op.DAMAGED, inode=inode, offset=2))
        wire.done(wire.answer(wire.ask(Op.READ, inode, 0, len(DATA))).token)
        assert source.counts.reads[b"file", 2 * BLOCK] == 2
        assert source.counts.reads[b"file", 1 * BLOCK] == 1


def test_news_wait_for_a_reader_that_passes_them_on(tmp_path: Path, source: FakeSource) -> None:
    with wired(tmp_path, source) as (harness, wire, _inode):
        for reader in harness._readers:
            reader.close()
        harness._readers.clear()
        wire.close()
        eventually(lambda: harness.server.connections == 0)
        harness.call_sync(lambda: harness.server.tell(Answer(Op.INVALIDATE_ENTRY, inode=1, name=b"file")))
        silent = Wire(harness, None)  # not a serve process before it says so
        heard = Wire(harness, 0)
        answer = heard.answer()
        assert (answer.op, answer.inode, answer.name) == (Op.INVALIDATE_ENTRY, 1, b"file")
        silent.close()
        heard.close()


def test_a_reader_that_does_not_read_its_answers_stops_nobody(tmp_path: Path, source: FakeSource) -> None:
    with wired(tmp_path, source) as (harness, wire, inode):
        deaf = Wire(harness, 1)
        for number in range(3000):
            deaf.send(Request(Op.READ, number + 1, inode, len(DATA), 1))
        token = wire.ask(Op.READ, inode, 0, 1)
        assert wire.answer(token).status == STATUS_OK
        wire.done(token)
        assert [deaf.answer().token for _ in range(3000)] == list(range(1, 3001))  # when it reads at last, none is missing
        deaf.close()


def test_a_reader_that_never_reads_its_answers_is_disconnected(
    tmp_path: Path, source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(miss_server, "MAX_UNSENT", 100)
    with wired(tmp_path, source) as (harness, wire, inode):
        deaf = Wire(harness, 1)
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            for number in range(3000):
                deaf.send(Request(Op.READ, number + 1, inode, 0, 1))
        eventually(lambda: harness.server.connections == 2)
        eventually(lambda: not leases(harness))
        deaf.close()
        wire.done(wire.answer(wire.ask(Op.READ, inode, 0, 1)).token)


def test_connections_are_bounded(tmp_path: Path, source: FakeSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(miss_server, "MAX_CONNECTIONS", 3)
    with wired(tmp_path, source) as (harness, wire, inode):
        extra = [Wire(harness, None) for _ in range(3)]
        ended = 0
        for one in extra:
            one.socket.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                ended += one.socket.recv(1) == b""
            one.close()
        assert ended == 2  # the reader of the bench and this wire are two of the three
        wire.done(wire.answer(wire.ask(Op.READ, inode, 0, 1)).token)
