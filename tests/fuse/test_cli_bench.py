"""`fusecache bench` on a source and on a mount that is there; it leaves nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusecache.custody.mountinfo import read_mountinfo
from tests.support.command_line import CommandLine

pytestmark = [pytest.mark.fuse, pytest.mark.slow]


@pytest.fixture
def cli(disk_path: Path) -> Iterator[CommandLine]:
    with CommandLine(disk_path) as cli:
        yield cli


@pytest.fixture
def source(disk_path: Path) -> Path:
    directory = disk_path / "source"
    (directory / "sub").mkdir(parents=True)
    (directory / "large").write_bytes(os.urandom(3_000_000))
    for number in range(20):
        (directory / "sub" / str(number)).write_bytes(os.urandom(1000))
    return directory


def test_a_source_is_mounted_for_as_long_as_it_takes(cli: CommandLine, source: Path, disk_path: Path) -> None:
    room = disk_path / "room"
    room.mkdir()
    picture = disk_path / "plot.svg"
    done = cli.run("bench", str(source), "--size", "4Mi", "--files", "20", "--directory", str(room), "--svg", str(picture))
    assert done.returncode == 0, done.stderr
    assert "one file, cold" in done.stdout
    assert "small files, hot" in done.stdout
    assert picture.read_text().startswith("<svg")
    assert list(room.iterdir()) == []
    assert [entry.mountpoint for entry in read_mountinfo() if entry.mountpoint.startswith(str(room))] == []


def test_a_mount_is_read_as_it_is(cli: CommandLine, source: Path, disk_path: Path) -> None:
    mounted = cli.mount(f"file://{source}")
    assert mounted.returncode == 0, mounted.stderr
    done = cli.run("bench", str(disk_path / "mnt"), "--size", "4Mi", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    amounts = {result["name"]: result["amount"] for result in record["results"]}
    assert amounts["names-first"] == 22
    assert amounts["sequential-first"] == 3_000_000
    assert cli.status()["cached_percentage"] == 100.0
    refused = cli.run("bench", str(disk_path / "mnt"), "-o", "ttl=5")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "is mounted already" in refused.stderr


def test_what_does_not_work_is_one_sentence(cli: CommandLine, source: Path, disk_path: Path) -> None:
    for arguments, status in (
        (["--size", "1Ki"], 2),
        (["--svg", str(disk_path)], 2),
        (["--directory", str(disk_path / "absent")], 3),
    ):
        done = cli.run("bench", str(source), *arguments)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (status, "", 1), done.stderr
