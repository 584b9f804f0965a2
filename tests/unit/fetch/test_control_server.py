"""The control socket: every request, and clients that ask nonsense or go away in the middle."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from fusecache.contract.errors import ErrorKind
from fusecache.contract.shared_memory import ACCESS_OPENLESS, Layout
from fusecache.fetch.control_server import ControlServer
from fusecache.fetch.status import StatusReport
from tests.support.cache_reader import CacheReader
from tests.support.fake_source import FakeSource, content
from tests.support.fetch_harness import FetchHarness, fetching

FAST: dict[str, Any] = {"rate": 8.0, "ttl_seconds": 100.0}


class Client:
    def __init__(self, address: Any) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(20)
        self._socket.connect(address)
        self._lines = self._socket.makefile("rb")

    def send(self, line: bytes) -> None:
        self._socket.sendall(line + b"\n")

    def answers(self) -> Iterator[dict[str, Any]]:
        while True:
            yield (answer := json.loads(self._lines.readline()))
            if answer.get("done"):
                return

    def ask(self, **request: Any) -> dict[str, Any]:
        self.send(json.dumps(request).encode())
        return list(self.answers())[-1]

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


@contextmanager
def controlled(path: Path, source: FakeSource, *quotas: int) -> Iterator[tuple[FetchHarness, CacheReader, Client]]:
    with (
        fetching(path, source, quotas or (1 << 20,), **FAST) as (harness, reader),
        socket.socket(socket.AF_UNIX) as listener,
    ):
        listener.bind(b"")
        listener.listen(4)
        scope = harness.call_sync(_serve, harness, listener)
        client = Client(listener.getsockname())
        try:
            yield harness, reader, client
        finally:
            client.close()
            harness.call_sync(scope.cancel)
            time.sleep(0.01)


def _serve(harness: FetchHarness, listener: socket.socket) -> trio.CancelScope:
    status = StatusReport(harness.cache, harness._memory, Layout(1), ACCESS_OPENLESS, lambda: harness.server.connections)
    scope = trio.CancelScope()

    async def serve() -> None:
        with scope:
            await ControlServer(harness.cache, status).serve(listener)

    harness.server._nursery.start_soon(serve)
    return scope


@pytest.fixture
def source() -> FakeSource:
    made = FakeSource()
    for number in range(5):
        made.put(f"d/f{number}", content(f"{number}", 40))
    return made


def test_warm_reads_everything_and_status_says_so(tmp_path: Path, source: FakeSource) -> None:
    with controlled(tmp_path, source) as (_, reader, client):
        done = client.ask(do="warm", paths=[])
        assert (done["files"], done["bytes"], done["failed"]) == (5, 200, [])
        status = client.ask(do="status")
        assert (status["files"], status["total_bytes"], status["cached_bytes"]) == (5, 200, 200)
        assert status["cached_percentage"] == 100.0
        asked = source.counts.calls["read"]
        assert reader.read_file(b"d/f3") == content("3", 40)
        assert source.counts.calls["read"] == asked


def test_usage_counts_one_directory_as_far_as_it_is_listed(
    tmp_path: Path, source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusecache.fetch.usage.STEP_NAMES", 2)
    for number in range(3):
        source.put(f"d/deep/f{number}", content("deep", 7))
    source.put("other/f", content("other", 1000))
    with controlled(tmp_path, source) as (_, reader, client):
        assert client.ask(do="usage", paths=["d"])["kind"] == ErrorKind.NOT_FOUND
        reader.read_file(b"d/f1")
        before = client.ask(do="usage", paths=["d"])
        client.ask(do="warm", paths=["d"])
        after = client.ask(do="usage", paths=["d"])
        assert (after["files"], after["total_bytes"], after["listing_complete"]) == (8, 221, True)
        assert before["files"] <= 8
        assert not before["listing_complete"]
        everything = client.ask(do="usage", paths=[""])
        assert not everything["listing_complete"], "nobody has looked into the other directory"


def test_blocks_of_replaced_objects_do_not_count_as_cached(tmp_path: Path, source: FakeSource) -> None:
    """They did: half of the data could be uncached and `status` said 100 %."""
    with controlled(tmp_path, source) as (_, reader, client):
        client.ask(do="warm", paths=[])
        old = reader.inode(b"d/f1")
        source.put("d/f1", content("new", 50))
        source.remove("d/f2")
        client.ask(do="refresh", paths=[])
        status = client.ask(do="status")
        assert (status["total_bytes"], status["cached_bytes"]) == (170, 120)
        assert round(status["cached_percentage"], 1) == 70.6
        assert reader.read(old, 0, 100) == content("1", 40), "what a reader holds stays readable"
        assert reader.read_file(b"d/f1") == content("new", 50)
        assert client.ask(do="status")["cached_percentage"] == 100.0
        client.ask(do="drop", paths=[])
        assert client.ask(do="status")["cached_bytes"] == 0


def test_drop_gives_everything_back(tmp_path: Path, source: FakeSource) -> None:
    with controlled(tmp_path, source) as (harness, _, client):
        client.ask(do="warm", paths=["d"])
        assert client.ask(do="drop", paths=["d/f1"])["bytes"] == 40
        assert client.ask(do="drop", paths=[])["bytes"] == 160
        harness.rest()
        assert client.ask(do="status")["cached_bytes"] == 0
        assert harness.tiers[0].used_bytes == 0


def test_refresh_counts_what_changed(tmp_path: Path, source: FakeSource) -> None:
    with controlled(tmp_path, source) as (_, _, client):
        client.ask(do="warm", paths=[])
        assert client.ask(do="refresh", paths=[])["changed"] == 0
        source.put("d/f1", b"new")
        source.remove("d/f2")
        assert client.ask(do="refresh", paths=["d"])["changed"] == 2


def test_metrics_are_text(tmp_path: Path, source: FakeSource) -> None:
    with controlled(tmp_path, source) as (_, _, client):
        client.ask(do="warm", paths=[])
        assert "remote_bytes" in client.ask(do="metrics")["text"]


def test_what_does_not_fit_is_said(tmp_path: Path, source: FakeSource) -> None:
    with controlled(tmp_path, source, 4096) as (harness, _, client):
        done = client.ask(do="warm", paths=[])
        assert len(done["failed"]) == done["failures"] == 5 - done["files"]
        harness.rest()
        assert client.ask(do="status")["cached_bytes"] == done["bytes"] < 200


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b"{}", ErrorKind.INVALID),
        (b"nonsense", ErrorKind.INVALID),
        (b"[1]", ErrorKind.INVALID),
        (b'{"do": "dance"}', ErrorKind.INVALID),
        (b'{"do": "warm", "paths": 5}', ErrorKind.INVALID),
        (b'{"do": "warm", "paths": [5]}', ErrorKind.INVALID),
        (b'{"do": "warm", "paths": ["no/such"]}', ErrorKind.NOT_FOUND),
        (b'{"do": "drop", "paths": ["no"]}', ErrorKind.NOT_FOUND),
        (b'{"do": "refresh", "paths": ["no/such"]}', ErrorKind.NOT_FOUND),
        (b'{"do": "warm", "paths": ["d/f1/below"]}', ErrorKind.NOT_A_DIRECTORY),
    ],
)
def test_nonsense_is_answered_and_fetch_lives_on(tmp_path: Path, source: FakeSource, line: bytes, kind: ErrorKind) -> None:
    with controlled(tmp_path, source) as (_, reader, client):
        client.send(line)
        answer = list(client.answers())[-1]
        assert answer["kind"] == kind
        assert answer["error"]
        assert client.ask(do="status")["done"]
        assert reader.read_file(b"d/f1") == content("1", 40)


def test_a_client_that_goes_away_in_the_middle_of_a_warm_up_ends_nothing_else(tmp_path: Path, source: FakeSource) -> None:
    with controlled(tmp_path, source) as (harness, reader, client):
        source.gate.clear()
        client.send(b'{"do": "warm", "paths": []}')
        assert next(client.answers())["listing"] is True  # progress comes
        client.close()
        time.sleep(0.1)
        source.gate.set()
        assert reader.read_file(b"d/f1") == content("1", 40)
        harness.rest()
