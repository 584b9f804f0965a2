"""The commands as scripts see them: output, exit statuses, one sentence for an error."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from fusecache.cli import commands, places
from fusecache.cli.warm_progress import Rate, describe
from fusecache.contract.errors import ErrorKind
from fusecache.contract.exit_status import ExitStatus, exit_status_of
from tests.support.scripted_mount import ScriptedMount


@pytest.fixture
def run_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point the commands at a run directory of the test's own."""
    base = tmp_path / "run"
    base.mkdir()
    monkeypatch.setattr(places, "run_root", lambda uid, runtime: str(base))
    return base


def test_every_kind_of_error_has_an_exit_status_other_than_ok() -> None:
    assert all(exit_status_of(kind) is not ExitStatus.OK for kind in ErrorKind)


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["stats"], 2, "there is no command 'stats'; did you mean status? (see fusecache --help)"),
        (["mount"], 2, "no mount point; write fusecache mount SOURCE... MOUNTPOINT"),
        (["mount", "s3://a", "/mnt", "--tire", "x"], 2, "No such option"),
        (["mount", "s3://a", "/mnt", "--engine", "fast"], 2, "engine is 'fast'; it must be auto, native or pyfuse3"),
        (["warm", "/nowhere"], 3, "/nowhere is not in a fusecache mount"),
        (["umount", "/nowhere"], 3, "not mounted"),
        (["mount", "s3://a", ""], 2, "the mount point is empty"),
        (["umount", ""], 2, "the mount point is empty"),
        (["status", ""], 2, "a path is empty"),
        (["warm", ""], 2, "a path is empty"),
        (["drop", "--", ""], 2, "a path is empty"),
        (["refresh", ""], 2, "a path is empty"),
    ],
)
def test_an_error_is_one_sentence(
    run_base: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, sentence: str
) -> None:
    assert commands.run(arguments) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("fusecache: ")
    assert sentence in captured.err


@pytest.mark.slow
def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    """`fusecache status | head -1`"""
    process = subprocess.Popen(
        [sys.executable, "-m", "fusecache.cli", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.close()
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")


def test_the_directory_one_stands_in_may_be_gone(
    run_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for arguments in (["umount", "mnt"], ["mount", "s3://a", "mnt"], ["warm", "mnt"]):
        assert commands.run(arguments) == ExitStatus.NOT_FOUND
        assert capsys.readouterr().err == (
            "fusecache: the directory you stand in is gone, or is on a dead mount; cd to another one\n"
        )


def test_status_of_nothing(run_base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert commands.run(["status"]) == 0
    assert capsys.readouterr().out == ""


def test_status_prints_names_that_move_the_cursor_escaped(run_base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ScriptedMount(run_base, "/nowhere/\x1b[2J", lambda request: [{"done": True}]):
        assert commands.run(["status"]) == 0
        text = capsys.readouterr().out
    assert "\x1b" not in text
    assert "\\x1b[2J" in text


def test_warm_lists_what_failed_and_why(run_base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def script(request: dict[str, Any]) -> Iterable[dict[str, Any]]:
        yield {"files": 1, "files_total": 2, "bytes": 5, "bytes_total": 10, "listing": False}
        yield {"done": True, "files": 1, "bytes": 5, "failed": [["x/b", "access denied"]]}

    with ScriptedMount(run_base, "/nowhere/m", script) as mount:
        assert commands.run(["warm", "/nowhere/m/x", "/nowhere/m/y"]) == 1
    captured = capsys.readouterr()
    assert mount.requests == [{"do": "warm", "paths": ["x", "y"]}]
    assert "fusecache: /nowhere/m/x/b: access denied\n" in captured.err
    assert "1 files, 5.00B" in captured.out


def test_warm_counts_more_failures_than_it_names(run_base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = {"done": True, "files": 1, "bytes": 5, "failures": 2000, "failed": [["b", "no"], ["c", "no"]]}
    with ScriptedMount(run_base, "/nowhere/m", lambda request: [answer]):
        assert commands.run(["warm", "/nowhere/m"]) == 1
    captured = capsys.readouterr()
    assert "fusecache: 2000 not cached (the lines above name 2 of them)" in captured.err
    assert "2000 failed" in captured.out


def test_warm_goes_on_when_the_daemon_was_replaced(run_base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first: list[dict[str, Any] | None] = [{"files": 1}, None]
    second: list[dict[str, Any] | None] = [{"done": True, "files": 2, "bytes": 7, "failed": []}]
    lives = iter([first, second])
    with ScriptedMount(run_base, "/nowhere/m", lambda request: next(lives)) as mount:
        assert commands.run(["warm", "/nowhere/m"]) == 0
    assert len(mount.requests) == 2
    assert "2 files, 7.00B" in capsys.readouterr().out


def test_drop_and_refresh(run_base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = {"drop": {"done": True, "bytes": 1 << 20}, "refresh": {"done": True, "changed": 3}}
    with ScriptedMount(run_base, "/nowhere/m", lambda request: [answers[request["do"]]]):
        assert commands.run(["drop", "/nowhere/m/a"]) == 0
        assert commands.run(["refresh", "/nowhere/m"]) == 0
    assert capsys.readouterr().out == "1.00MiB freed\n3 entries changed\n"


def test_an_error_of_fetch_becomes_the_exit_status(run_base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = {"done": True, "error": "the store said no", "kind": int(ErrorKind.DENIED)}
    with ScriptedMount(run_base, "/nowhere/m", lambda request: [answer]):
        assert commands.run(["refresh", "/nowhere/m"]) == ExitStatus.DENIED
    assert capsys.readouterr().err == "fusecache: the store said no\n"


def test_progress_in_words() -> None:
    rate = Rate()
    rate.add(0, 0.0)
    rate.add(10 << 20, 2.0)
    answer = {"files": 3, "files_total": 9, "bytes": 10 << 20, "bytes_total": 20 << 20, "listing": False}
    assert describe(answer, rate) == "3/9 files, 10.00MiB/20.00MiB, 50.0%, 5.00MiB/s, 2s left"
    assert describe({**answer, "listing": True}, rate) == "3/9+ files, 10.00MiB/20.00MiB+, 50.0%, 5.00MiB/s"


def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    for name in commands._COMMANDS:
        assert commands.run([name, "--help"]) == 0
        assert "Usage: fusecache" in capsys.readouterr().out
    assert commands.run(["--help"]) == 0
    assert "demo" not in capsys.readouterr().out
