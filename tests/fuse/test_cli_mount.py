"""The command line with the real thing behind it: what a user does, and what goes wrong."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusecache.contract.control import Status
from fusecache.contract.exit_status import ExitStatus
from fusecache.custody.mountinfo import find_mount
from tests.support.command_line import CommandLine
from tests.support.seaweed import Seaweed, free_ports

pytestmark = [pytest.mark.fuse, pytest.mark.slow]


@pytest.fixture
def cli(disk_path: Path) -> Iterator[CommandLine]:
    with CommandLine(disk_path) as cli:
        yield cli


@pytest.fixture
def source(disk_path: Path) -> Path:
    """A directory with a large and some small files."""
    directory = disk_path / "source"
    (directory / "sub").mkdir(parents=True)
    (directory / "large").write_bytes(os.urandom(3_000_001))
    for number in range(20):
        (directory / "sub" / f"{number:02d}").write_bytes(os.urandom(1000 + number))
    return directory


@pytest.fixture(scope="module")
def store() -> Iterator[Seaweed]:
    with Seaweed() as store:
        yield store


def test_daemons_that_began_early_write_to_the_log_and_hold_the_lock(cli: CommandLine, source: Path) -> None:
    assert cli.mount(f"file://{source}").returncode == 0
    pids = cli.status()["pids"]
    for pid in (pids["fetch"], *pids["serve"]):
        assert {os.path.basename(os.readlink(f"/proc/{pid}/fd/{fd}")) for fd in (1, 2)} == {"log"}
        held = [os.path.basename(os.readlink(entry)) for entry in Path(f"/proc/{pid}/fd").iterdir()]
        assert "lock" in held
        assert os.readlink(f"/proc/{pid}/cwd") == "/"


def test_what_a_user_does(cli: CommandLine, source: Path, disk_path: Path) -> None:
    mounted = cli.mount(f"file://{source}")
    assert (mounted.returncode, mounted.stdout, mounted.stderr) == (0, "", "")
    assert (disk_path / "mnt" / "large").read_bytes() == (source / "large").read_bytes()
    warmed = cli.run("warm", str(disk_path / "mnt"))
    assert warmed.returncode == 0, warmed.stderr
    status = cli.status()
    assert set(status) == set(Status.__annotations__)
    assert (status["state"], status["files"], status["cached_percentage"], status["errors"]) == ("ready", 21, 100.0, 0)
    assert status["sources"] == [f"file://{source}"]
    assert all(
        os.path.exists(f"/proc/{pid}")
        for pid in [status["pids"]["supervisor"], status["pids"]["fetch"], *status["pids"]["serve"]]
    )
    table = cli.run("status", str(disk_path / "mnt"))
    assert "100.0%" in table.stdout
    assert cli.run("drop", str(disk_path / "mnt" / "large")).stdout == "2.86MiB freed\n"
    assert cli.status()["cached_bytes"] == status["cached_bytes"] - 3_000_001
    (source / "new").write_bytes(b"new")
    assert cli.run("refresh", str(disk_path / "mnt")).returncode == 0
    assert (disk_path / "mnt" / "new").read_bytes() == b"new"
    unmounted = cli.run("umount", str(disk_path / "mnt"))
    assert (unmounted.returncode, unmounted.stdout, unmounted.stderr) == (0, "", "")
    assert find_mount(str(disk_path / "mnt")) is None
    assert cli.run("umount", str(disk_path / "mnt")).returncode == 3


def test_a_whole_warm_up_completes_the_listing(cli: CommandLine, source: Path, disk_path: Path) -> None:
    assert cli.mount("-o", "sync_listing=false", f"file://{source}").returncode == 0
    assert cli.run("warm", str(disk_path / "mnt" / "sub")).returncode == 0
    assert (cli.status()["state"], cli.status()["listing_complete"]) == ("listing", False)
    assert cli.run("warm", str(disk_path / "mnt")).returncode == 0
    assert (cli.status()["state"], cli.status()["listing_complete"]) == ("ready", True)


def test_the_cache_survives_umount(cli: CommandLine, source: Path, disk_path: Path) -> None:
    for expected_remote in (3_000_001, 0):
        assert cli.mount(f"file://{source}").returncode == 0
        assert (disk_path / "mnt" / "large").read_bytes() == (source / "large").read_bytes()
        status = cli.status()
        assert (status["remote_bytes"] >= expected_remote) if expected_remote else (status["remote_bytes"] == 0)
        assert cli.run("umount", str(disk_path / "mnt")).returncode == 0


def test_several_sources_in_one_tree(cli: CommandLine, source: Path, disk_path: Path) -> None:
    (disk_path / "other").mkdir()
    (disk_path / "other" / "x").write_text("other")
    assert cli.mount(f"file://{source}", f"{disk_path}/other=deep/er").returncode == 0
    assert (disk_path / "mnt" / "deep" / "er" / "x").read_text() == "other"
    assert sorted(os.listdir(disk_path / "mnt")) == ["deep", "large", "sub"]


def test_mounting_twice_at_one_place(cli: CommandLine, source: Path, disk_path: Path) -> None:
    assert cli.mount(f"file://{source}").returncode == 0
    again = cli.mount(f"file://{source}")
    assert again.returncode == 7
    cure = f"file://{source} is mounted there; unmount it first: fusecache umount {disk_path}/mnt"
    assert again.stderr == f"fusecache: mount point {disk_path}/mnt is busy: {cure}\n"
    elsewhere = cli.mount(f"file://{source}", name="mnt2")
    assert elsewhere.returncode == 7, "one cache has one owner"
    assert elsewhere.stderr.count("\n") == 1
    assert (disk_path / "mnt" / "sub" / "00").read_bytes() == (source / "sub" / "00").read_bytes()


def test_umount_while_busy(cli: CommandLine, source: Path, disk_path: Path) -> None:
    assert cli.mount(f"file://{source}").returncode == 0
    holder = subprocess.Popen(["sleep", "60"], cwd=disk_path / "mnt" / "sub")
    try:
        busy = cli.run("umount", str(disk_path / "mnt"))
        assert busy.returncode == 7
        assert str(holder.pid) in busy.stderr
        assert "--lazy" in busy.stderr
        assert cli.status()["state"] in ("ready", "listing")
        assert cli.run("umount", "--lazy", str(disk_path / "mnt")).returncode == 0
    finally:
        holder.kill()
        holder.wait()
    assert find_mount(str(disk_path / "mnt")) is None


def test_a_killed_supervisor_leaves_no_dead_mount_behind(cli: CommandLine, source: Path, disk_path: Path) -> None:
    assert cli.mount(f"file://{source}").returncode == 0
    os.kill(cli.status()["pids"]["supervisor"], signal.SIGKILL)
    assert cli.status()["state"] == "dead"
    again = cli.mount(f"file://{source}")
    assert again.returncode == 7
    assert "whose supervisor died" in again.stderr
    assert cli.run("umount", str(disk_path / "mnt")).returncode == 0
    assert find_mount(str(disk_path / "mnt")) is None
    assert cli.mount(f"file://{source}").returncode == 0


def test_status_of_a_daemon_that_does_not_answer(cli: CommandLine, source: Path, disk_path: Path) -> None:
    assert cli.mount(f"file://{source}").returncode == 0
    fetch = cli.status()["pids"]["fetch"]
    os.kill(fetch, signal.SIGSTOP)
    try:
        started = time.monotonic()
        status = cli.status()
        assert time.monotonic() - started < 8
    finally:
        os.kill(fetch, signal.SIGCONT)
    assert status["state"] == "degraded"
    assert status["pids"]["fetch"] == fetch
    assert status["tiers"][0]["quota_bytes"] == 64 << 20


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_foreground_logs_to_stderr_and_stops_cleanly(
    cli: CommandLine, source: Path, disk_path: Path, number: signal.Signals
) -> None:
    (disk_path / "mnt").mkdir()
    command = cli.command("mount", "--foreground", f"file://{source}", str(disk_path / "mnt"), "--tier", f"{disk_path}/tier:64Mi")
    process = subprocess.Popen(command, env=cli.environment, stderr=subprocess.PIPE, text=True, cwd="/")
    try:
        deadline = time.monotonic() + 30
        while find_mount(str(disk_path / "mnt")) is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert (disk_path / "mnt" / "sub" / "01").read_bytes() == (source / "sub" / "01").read_bytes()
        process.send_signal(number)
        _, text = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, text
    assert "mounted on" in text
    assert find_mount(str(disk_path / "mnt")) is None


def test_the_foreground_fails_as_the_background_does(cli: CommandLine, disk_path: Path) -> None:
    """With a sentence, with the status of its kind, and in time. (It waited for a silent store for ever, and ended with 1.)"""
    (disk_path / "mnt").mkdir()
    arguments = [str(disk_path / "mnt"), "--tier", f"{disk_path}/tier:64Mi", "--foreground"]
    missing = cli.run("mount", f"file://{disk_path}/missing", *arguments)  # no short time: a daemon takes seconds on busy cores
    assert missing.returncode == ExitStatus.NOT_FOUND, missing.stderr
    assert missing.stderr.splitlines()[-1].startswith("fusecache: ")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"endpoint_url=http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        late = cli.run("mount", "s3://bucket", *arguments, "--timeout", "2", "-o", endpoint, "-o", "anonymous=true")
        assert time.monotonic() - began < 20, late.stderr
    assert late.returncode == ExitStatus.TIMEOUT, late.stderr
    assert "was not ready within 2 s" in late.stderr.splitlines()[-1]
    assert find_mount(str(disk_path / "mnt")) is None


def test_nothing_is_left_of_a_mount_that_fails(cli: CommandLine, disk_path: Path) -> None:
    failed = cli.mount(f"file://{disk_path}/missing")
    assert failed.returncode == 3
    assert failed.stderr.startswith("fusecache: ")
    assert failed.stderr.count("\n") == 1
    assert [path.name for path in disk_path.iterdir()] == ["mnt"]


@pytest.mark.parametrize(
    ("case", "status", "cure"),
    [
        ("wrong key", 4, "check AWS_SECRET_ACCESS_KEY"),
        ("no such bucket", 3, "check its name"),
        ("no such host", 5, "check the host name"),
        ("nobody listens", 5, "is it running"),
        ("misspelt option", 2, "did you mean 'region'"),
    ],
)
def test_a_store_that_does_not_let_us_in(
    cli: CommandLine, disk_path: Path, store: Seaweed, case: str, status: int, cure: str
) -> None:
    environment = store.client_environment()
    url, options = "s3://no-such-bucket", []
    if case == "wrong key":
        environment["AWS_SECRET_ACCESS_KEY"] = "this-is-not-the-secret-key-of-anybody"
    elif case == "no such host":
        environment["AWS_ENDPOINT_URL"] = "http://no-such-host.invalid"
    elif case == "nobody listens":
        environment["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{free_ports(1)[0]}"
    elif case == "misspelt option":
        options = ["-o", "regoin=eu"]
    started = time.monotonic()
    failed = cli.mount(url, *options, **environment)
    assert failed.returncode == status, failed.stderr
    assert failed.stderr.count("\n") == 1, failed.stderr
    assert cure in failed.stderr
    assert time.monotonic() - started < 20
    assert environment["AWS_SECRET_ACCESS_KEY"] not in failed.stderr
    assert [path.name for path in disk_path.iterdir()] == ["mnt"]
    assert find_mount(str(disk_path / "mnt")) is None
