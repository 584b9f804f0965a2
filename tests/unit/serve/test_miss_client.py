"""The miss client against a scripted other end that answers, dies, and does not read."""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusecache.contract import run_files
from fusecache.contract.messages import STATUS_BOUNCE, Answer, Op, Request
from fusecache.serve.miss_client import SocketMissClient
from tests.support.log_check import LogCheck
from tests.support.scripted_fetch import ScriptedFetch

SERVE_INDEX = 3


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def fetch(run_dir: Path) -> Iterator[ScriptedFetch]:
    made = ScriptedFetch(run_dir)
    yield made
    made.close()


@pytest.fixture
def client(run_dir: Path) -> Iterator[SocketMissClient]:
    made = SocketMissClient(run_dir, SERVE_INDEX)
    made.start()
    yield made
    made.close()


def read_of(inode: int) -> Request:
    return Request(Op.READ, 0, inode, 4096, 8192)


def test_hello_request_answer_done(fetch: ScriptedFetch, client: SocketMissClient) -> None:
    hello = fetch.accept()
    assert (hello.op, hello.inode, hello.offset) == (Op.HELLO, os.getpid(), SERVE_INDEX)
    answers: queue.Queue[Answer] = queue.Queue()
    token = client.submit(Request(Op.LOOKUP, 0, 7, name=b"\xff name"), answers.put)
    request = fetch.receive()
    assert (request.op, request.token, request.inode, request.name) == (Op.LOOKUP, token, 7, b"\xff name")
    fetch.answer(token)
    assert answers.get(timeout=5).token == token
    token = client.submit(read_of(9), answers.put)
    assert fetch.receive().size == 8192
    fetch.answer(token)
    answers.get(timeout=5)
    client.done(token)
    done = fetch.receive()
    assert (done.op, done.token) == (Op.DONE, token)


def test_answers_in_any_order(fetch: ScriptedFetch, client: SocketMissClient) -> None:
    fetch.accept()
    answers: queue.Queue[tuple[int, int]] = queue.Queue()
    tokens = [client.submit(read_of(inode), lambda answer, inode=inode: answers.put((inode, answer.token))) for inode in range(5)]  # type: ignore[misc]
    for _ in tokens:
        fetch.receive()
    for token in reversed(tokens):
        fetch.answer(token)
    assert [answers.get(timeout=5) for _ in tokens] == list(reversed(list(enumerate(tokens))))


def test_what_is_outstanding_is_sent_again_after_a_death(
    fetch: ScriptedFetch, client: SocketMissClient, expect_log: LogCheck
) -> None:
    fetch.accept()
    answers: queue.Queue[Answer] = queue.Queue()
    tokens = [client.submit(read_of(inode), answers.put) for inode in range(4)]
    for _ in tokens:
        fetch.receive()
    fetch.answer(tokens[1])
    assert answers.get(timeout=5).token == tokens[1]
    fetch.die()
    while_dead = client.submit(read_of(4), answers.put)
    assert fetch.accept().op is Op.HELLO
    again = [fetch.receive() for _ in range(4)]
    assert [(request.token, request.inode) for request in again] == [
        (tokens[0], 0),
        (tokens[2], 2),
        (tokens[3], 3),
        (while_dead, 4),
    ]
    for request in again:
        fetch.answer(request.token)
    assert {answers.get(timeout=5).token for _ in again} == {tokens[0], tokens[2], tokens[3], while_dead}
    assert fetch.receive_nothing()
    assert client.reconnects == 1


def test_a_reset_with_messages_unread(fetch: ScriptedFetch, client: SocketMissClient) -> None:
    fetch.accept()
    answers: queue.Queue[Answer] = queue.Queue()
    token = client.submit(read_of(1), answers.put)
    fetch.die()
    fetch.accept()
    assert fetch.receive().token == token
    fetch.answer(token)
    assert answers.get(timeout=5).token == token


def test_the_socket_may_come_later(run_dir: Path) -> None:
    client = SocketMissClient(run_dir, 0)
    client.start()
    answers: queue.Queue[Answer] = queue.Queue()
    token = client.submit(read_of(1), answers.put)
    client.tell(Request(Op.HINT, inode=1))  # lost, as it may be
    time.sleep(0.02)
    fetch = ScriptedFetch(run_dir)
    try:
        fetch.accept()
        assert fetch.receive().token == token
        fetch.answer(token)
        assert answers.get(timeout=5).token == token
    finally:
        client.close()
        fetch.close()


def test_cancel_forgets(fetch: ScriptedFetch, client: SocketMissClient) -> None:
    fetch.accept()
    answers: queue.Queue[Answer] = queue.Queue()
    token = client.submit(read_of(1), answers.put)
    fetch.receive()
    client.cancel(token)
    cancel = fetch.receive()
    assert (cancel.op, cancel.token) == (Op.CANCEL, token)
    fetch.answer(token)  # they crossed: its lease ends all the same
    done = fetch.receive()
    assert (done.op, done.token) == (Op.DONE, token)
    assert answers.empty()
    client.cancel(token)
    fetch.die()
    fetch.accept()
    assert fetch.receive_nothing()


def test_invalidations_reach_their_callback(fetch: ScriptedFetch, client: SocketMissClient) -> None:
    fetch.accept()
    told: queue.Queue[Answer] = queue.Queue()
    fetch.send(Answer(Op.INVALIDATE_INODE, inode=4).pack())  # nobody registered: nothing happens
    client.on_invalidate(told.put)
    fetch.send(Answer(Op.INVALIDATE_ENTRY, inode=5, name=b"n").pack())
    answer = told.get(timeout=5)
    assert (answer.op, answer.inode, answer.name) in ((Op.INVALIDATE_ENTRY, 5, b"n"), (Op.INVALIDATE_INODE, 4, b""))


def test_a_callback_that_raises_ends_nothing(fetch: ScriptedFetch, client: SocketMissClient, expect_log: LogCheck) -> None:
    expect_log(r"an answer of fetch was not taken", level=logging.ERROR)
    expect_log(r"that are no answer", level=logging.ERROR)
    fetch.accept()

    def fail(answer: Answer) -> None:
        raise ZeroDivisionError

    fetch.answer(client.submit(read_of(1), fail))
    fetch.send(b"\xee")
    answers: queue.Queue[Answer] = queue.Queue()
    fetch.answer(client.submit(read_of(2), answers.put))
    answers.get(timeout=5)


def test_nothing_blocks_while_fetch_does_not_read(fetch: ScriptedFetch, client: SocketMissClient) -> None:
    fetch.accept()
    answers: queue.Queue[Answer] = queue.Queue()
    began = time.monotonic()
    tokens = [client.submit(read_of(inode), answers.put) for inode in range(3000)]
    for inode in range(10_000):
        client.tell(Request(Op.HINT, inode=inode))
    assert time.monotonic() - began < 20
    received = [fetch.receive() for _ in tokens]
    assert [request.token for request in received] == tokens  # in order, none lost
    hints = 0
    while not fetch.receive_nothing():
        hints += 1
    assert 0 < hints < 10_000  # bounded
    for token in tokens:
        fetch.answer(token)
    assert {answers.get(timeout=5).token for _ in tokens} == set(tokens)


def test_death_while_messages_wait_to_be_sent(fetch: ScriptedFetch, client: SocketMissClient) -> None:
    fetch.accept()
    answers: queue.Queue[Answer] = queue.Queue()
    tokens = [client.submit(read_of(inode), answers.put) for inode in range(2000)]
    fetch.die()
    fetch.accept()
    assert [fetch.receive().token for _ in tokens] == tokens
    assert fetch.receive_nothing()


def test_a_lease_ends_with_its_connection(fetch: ScriptedFetch, client: SocketMissClient) -> None:
    fetch.accept()
    outcome: queue.Queue[tuple[Request | None, Request | None]] = queue.Queue()
    may_die, died = threading.Event(), threading.Event()

    def on_answer(answer: Answer) -> None:  # runs in the thread that receives, as with the engine
        before = client.lost_request(answer.token)
        may_die.set()
        died.wait(5)
        outcome.put((before, client.lost_request(answer.token)))
        client.done(answer.token)

    token = client.submit(read_of(8), on_answer)
    fetch.receive()
    fetch.answer(token, STATUS_BOUNCE)
    may_die.wait(5)
    fetch.die()
    died.set()
    before, after = outcome.get(timeout=5)
    assert before is None
    assert after is not None
    assert (after.op, after.inode, after.offset, after.size) == (Op.READ, 8, 4096, 8192)
    fetch.accept()
    assert fetch.receive_nothing()  # no DONE for what the successor never answered


def test_many_deaths_under_many_threads(fetch: ScriptedFetch, client: SocketMissClient) -> None:
    """Every request is answered exactly once, whoever dies."""
    answered: list[int] = []
    submitted: list[int] = []

    def submit(start: int) -> None:
        for inode in range(start, start + 200):
            submitted.append(client.submit(read_of(inode), lambda answer: answered.append(answer.token)))

    threads = [threading.Thread(target=submit, args=(1000 * number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    deaths = 0
    while len(answered) < 600:
        fetch.accept()
        for _ in range(20 + deaths * 7):
            if len(answered) >= 600:
                break
            try:
                fetch.answer(fetch.receive().token)
            except TimeoutError:
                break
            if deaths < 10:
                continue
            while len(answered) < 600 and not any(thread.is_alive() for thread in threads):
                try:
                    fetch.answer(fetch.receive().token)
                except TimeoutError:
                    break
        if len(answered) < 600:
            fetch.die()
            deaths += 1
    for thread in threads:
        thread.join()
    assert deaths >= 3
    assert sorted(answered) == sorted(submitted)


def test_close_ends_the_threads(run_dir: Path) -> None:
    client = SocketMissClient(run_dir, 0)
    client.start()
    client.close()
    fetch = ScriptedFetch(run_dir)
    connected = SocketMissClient(run_dir, 0)
    connected.start()
    fetch.accept()
    connected.close()
    fetch.close()
    assert not any(thread.name in ("answers", "unsent") and thread.is_alive() for thread in threading.enumerate())
    assert (run_dir / run_files.MISS_SOCKET).exists()
