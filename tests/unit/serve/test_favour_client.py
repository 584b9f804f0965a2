"""Asking for favours over a real socket pair."""

from __future__ import annotations

import array
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fusecache.serve import favour_client
from fusecache.serve.favour_client import FavourClient


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    yield ours, theirs
    ours.close()
    theirs.close()


def answering(supervisor: socket.socket, answer: Callable[[dict[str, Any], bool], dict[str, Any]]) -> threading.Thread:
    def run() -> None:
        size = array.array("i").itemsize
        while True:
            data, ancillary, _, _ = supervisor.recvmsg(4096, socket.CMSG_SPACE(size))
            if not data:
                return
            for _, _, payload in ancillary:
                os.close(array.array("i", payload[:size])[0])
            supervisor.send(json.dumps(answer(json.loads(data), bool(ancillary))).encode())

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_questions_and_answers(ends: tuple[socket.socket, socket.socket]) -> None:
    asked: list[tuple[dict[str, Any], bool]] = []

    def answer(question: dict[str, Any], has_fd: bool) -> dict[str, Any]:
        asked.append((question, has_fd))
        if question["ask"] == "release":
            return {}
        return {"mode": "passthrough", "backing_id": 5} if has_fd else {"mode": "cached"}

    thread = answering(ends[1], answer)
    client = FavourClient(ends[0])
    assert client.open_file(7, 100, 0) == 5
    assert client.open_file(7, 102, -1) is None
    client.release_file(7, 104)
    ends[0].shutdown(socket.SHUT_RDWR)
    thread.join()
    assert asked == [
        ({"ask": "open", "inode": 7, "unique": 100}, True),
        ({"ask": "open", "inode": 7, "unique": 102}, False),
        ({"ask": "release", "inode": 7, "unique": 104}, False),
    ]


def test_a_supervisor_that_is_gone_or_refuses(ends: tuple[socket.socket, socket.socket]) -> None:
    thread = answering(ends[1], lambda question, has_fd: {"error": "not understood"})
    client = FavourClient(ends[0])
    with pytest.raises(OSError):
        client.open_file(7, 100, -1)
    ends[1].shutdown(socket.SHUT_RDWR)
    thread.join()
    with pytest.raises(OSError):
        client.release_file(7, 102)


def test_a_late_answer_is_not_taken_for_another(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(favour_client, "_TIMEOUT_SECONDS", 0.02)
    client = FavourClient(ends[0])
    with pytest.raises(TimeoutError):
        client.open_file(7, 100, -1)
    ends[1].send(json.dumps({"mode": "passthrough", "backing_id": 5}).encode())
    with pytest.raises(ConnectionError):
        client.open_file(8, 102, -1)
