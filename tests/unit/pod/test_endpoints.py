"""Who may ask a cache pod what, and what it says while it does not serve. (tests/csi/test_pods.py asks a real one.)"""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from fusecache.base.run_sockets import listen_in
from fusecache.contract.run_files import CONTROL_SOCKET
from fusecache.contract.warm_request import WarmRequest
from fusecache.pod import endpoints
from fusecache.pod.endpoints import Endpoints, parse_warm
from fusecache.pod.http_server import HttpError, Reply, Request
from fusecache.pod.state import Phase, PodState

TOKEN = "secret-token"


class Recorder(Reply):
    """Keeps what was answered."""

    def __init__(self) -> None:
        self.has_begun = False
        self.status = 0
        self.body = b""

    async def send(self, status: int, body: str, kind: str = "") -> None:
        self.status, self.body = status, body.encode()

    def begin(self, status: int, kind: str) -> None:
        self.has_begun, self.status = True, status

    async def write(self, data: bytes) -> None:
        self.body += data


class FakeDaemon:
    """Answers on a control socket with lines that a test gives for each request, and hangs up after "hang up"."""

    def __init__(self, run_dir: Path, answers: dict[str, list[Any]]) -> None:
        self._run_dir = run_dir
        self._answers = answers
        self.asked: list[str] = []

    async def __aenter__(self) -> FakeDaemon:
        listener = listen_in(str(self._run_dir), CONTROL_SOCKET, socket.SOCK_STREAM)
        self._server = await asyncio.start_unix_server(self._answer, sock=listener)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = json.loads(await reader.readline())
        self.asked.append(request["do"])
        answers = self._answers.get(request["do"], [{"done": True}])
        while answers:
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            if answer == "hang up":
                break
            writer.write(json.dumps(answer).encode() + b"\n")
            if answer.get("done"):
                break
        writer.close()


def request(path: str, token: str = "", method: str = "GET", body: bytes = b"") -> Request:
    return Request(method, path, {"authorization": f"Bearer {token}"} if token else {}, body)


def ask(tmp_path: Path, one: Request, answers: dict[str, list[Any]] | None = None, phase: Phase = Phase.SERVING) -> Recorder:
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n")

    async def run() -> Recorder:
        points = Endpoints(PodState(phase, "the reason"), str(tmp_path), str(token), str(token), asyncio.Future)
        reply = Recorder()
        async with FakeDaemon(tmp_path, answers or {}):
            await points.handle(one, reply)
        return reply

    return asyncio.run(run())


@pytest.mark.parametrize(("path", "method"), [("/status", "GET"), ("/warm", "POST")])
@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], f"{TOKEN}x", "\xff"])
def test_what_wants_a_token(tmp_path: Path, path: str, method: str, token: str) -> None:
    with pytest.raises(HttpError) as failed:
        ask(tmp_path, request(path, token, method))
    assert failed.value.status == 401


def test_nothing_is_open_without_a_token_file(tmp_path: Path) -> None:
    async def run(token: Path) -> int:
        points = Endpoints(PodState(Phase.SERVING), str(tmp_path), str(token), str(token), asyncio.Future)
        with pytest.raises(HttpError) as failed:
            await points.handle(Request("GET", "/status", {"authorization": "Bearer "}, b""), Recorder())
        return failed.value.status

    (tmp_path / "empty").write_text("\n")
    assert [asyncio.run(run(tmp_path / name)) for name in ("none", "empty")] == [401, 401]


@pytest.mark.parametrize(
    ("one", "status"),
    [
        (request("/"), 404),
        (request("/healthz", method="POST"), 405),
        (request("/warm", TOKEN, "GET"), 405),
        (request("/warm", TOKEN, "POST", b"[]"), 400),
    ],
)
def test_what_is_not_there(tmp_path: Path, one: Request, status: int) -> None:
    with pytest.raises(HttpError) as failed:
        ask(tmp_path, one)
    assert failed.value.status == status


@pytest.mark.parametrize(
    ("phase", "status"),
    [(Phase.WAITING, 503), (Phase.STARTING, 503), (Phase.ENDING, 503), (Phase.STANDBY, 200), (Phase.SERVING, 200)],
)
def test_health(tmp_path: Path, phase: Phase, status: int) -> None:
    if status == 200:
        reply = ask(tmp_path, request("/healthz"), {}, phase)
        assert (reply.status, reply.body) == (200, f"{phase}\n".encode())
        return
    with pytest.raises(HttpError, match="the reason") as failed:
        ask(tmp_path, request("/healthz"), {}, phase)
    assert failed.value.status == status


@pytest.mark.parametrize("phase", Phase)
def test_a_pod_that_waits_lives(tmp_path: Path, phase: Phase) -> None:
    reply = ask(tmp_path, request("/livez"), {}, phase)
    assert (reply.status, reply.body) == (200, f"{phase}: the reason\n".encode())


@pytest.mark.parametrize("path", ["/healthz", "/livez"])
def test_a_daemon_that_does_not_answer_is_not_healthy(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "ASK_SECONDS", 0.05)
    for answers in ({"status": ["hang up"]}, {"status": [{"files": 1}, "hang up"]}):
        with pytest.raises(HttpError) as failed:
            ask(tmp_path, request(path), dict(answers))
        assert failed.value.status == 503


def test_many_who_ask_at_once_are_one_question(tmp_path: Path) -> None:
    async def run() -> list[str]:
        points = Endpoints(PodState(Phase.SERVING), str(tmp_path), "", "", asyncio.Future)
        async with FakeDaemon(tmp_path, {}) as daemon:
            await asyncio.gather(*(points.handle(request("/healthz"), Recorder()) for _ in range(20)))
            return daemon.asked

    assert asyncio.run(run()) == ["status"]


def test_a_warm_goes_on_when_fetch_was_replaced(tmp_path: Path) -> None:
    answers = {"warm": [{"files": 1}, "hang up", {"files": 2}, {"done": True, "failures": 0}]}
    reply = ask(tmp_path, request("/warm", TOKEN, "POST", b'{"refresh": true}'), answers)
    lines = [json.loads(line) for line in reply.body.splitlines()]
    assert [line.get("files") for line in lines] == [0, 1, 2, None]
    assert lines[-1] == {"done": True, "failures": 0}


def test_an_error_is_the_last_line(tmp_path: Path) -> None:
    answers = {"look": [{"done": True, "error": "there is no such file", "kind": 2}]}
    reply = ask(tmp_path, request("/warm", TOKEN, "POST", b'{"paths": ["x"], "refresh": true}'), answers)
    assert json.loads(reply.body.splitlines()[-1]) == {"done": True, "error": "there is no such file", "kind": 2}


def test_paths_are_those_of_the_tree() -> None:
    assert parse_warm(b"") == (WarmRequest(), False)
    assert parse_warm(b'{"owned": true}') == (WarmRequest(owned=True), False)
    assert parse_warm(b'{"paths": ["/", "/a/b/", "c"], "refresh": true}') == (WarmRequest(("", "a/b", "c")), True)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'"x"',
        b'{"paths": "a"}',
        b'{"paths": [1]}',
        b'{"paths": ["a/../b"]}',
        b'{"refresh": 1}',
        b'{"owned": 1}',
        b'{"path": ["a"]}',
    ],
)
def test_what_cannot_be_warmed(body: bytes) -> None:
    with pytest.raises(HttpError) as failed:
        parse_warm(body)
    assert failed.value.status == 400


def test_too_many_paths() -> None:
    with pytest.raises(HttpError):
        parse_warm(json.dumps({"paths": ["a"] * (endpoints.MAX_PATHS + 1)}).encode())
