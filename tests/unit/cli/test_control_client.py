"""Asking fetch: answers, errors, silence, and a daemon that goes away."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from fusecache.cli.control_client import ConnectionLost, ask, call
from fusecache.contract.errors import CacheError, ErrorKind
from tests.support.scripted_mount import ScriptedMount


def test_progress_then_done(tmp_path: Path) -> None:
    with ScriptedMount(tmp_path, "/mnt", lambda request: [{"files": 1}, {"done": True, "files": 2}]) as mount:
        assert list(ask(str(mount.run_dir), {"do": "warm", "paths": ["x"]}, 5)) == [{"files": 1}, {"done": True, "files": 2}]
        assert call(str(mount.run_dir), {"do": "warm"}, 5) == {"done": True, "files": 2}
        assert mount.requests[0] == {"do": "warm", "paths": ["x"]}


def test_an_error_has_its_kind(tmp_path: Path) -> None:
    script = [{"done": True, "error": "no such path", "kind": int(ErrorKind.NOT_FOUND)}]
    with (
        ScriptedMount(tmp_path, "/mnt", lambda request: script) as mount,
        pytest.raises(CacheError, match="no such path") as caught,
    ):
        call(str(mount.run_dir), {"do": "drop"}, 5)
    assert caught.value.kind is ErrorKind.NOT_FOUND


def test_silence_ends_at_the_timeout(tmp_path: Path) -> None:
    started = time.monotonic()
    with ScriptedMount(tmp_path, "/mnt") as mount, pytest.raises(CacheError) as caught:
        call(str(mount.run_dir), {"do": "status"}, 0.2)
    assert caught.value.kind is ErrorKind.TIMEOUT
    assert time.monotonic() - started < 10


def test_a_daemon_that_goes_away_is_told_from_one_that_is_not_there(tmp_path: Path) -> None:
    with ScriptedMount(tmp_path, "/mnt", lambda request: [{"files": 1}, None]) as mount, pytest.raises(ConnectionLost):
        call(str(mount.run_dir), {"do": "warm"}, 5)
    with pytest.raises(CacheError) as caught:
        call(str(tmp_path), {"do": "status"}, 5)
    assert caught.value.kind is ErrorKind.UNAVAILABLE
    assert not isinstance(caught.value, ConnectionLost)
