"""The demo, a hundredth of its size: it shows what it promises, and an interrupt at any step leaves nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from fusecache.custody.mountinfo import read_mountinfo
from tests.support.command_line import CommandLine

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

SCALE = "0.02"
_STEPS = (
    "starting an S3 server",
    "loading",
    "mounting the bucket",
    "copying the seven large files, cold",
    "copying them again",
    "warming the rest",
    "reading the small files",
    "reading one file",
    "unmounting",
)


def _memory_tiers() -> set[str]:
    return {name for name in os.listdir("/dev/shm") if name.startswith("fusecache-demo-")}


def _processes_of(directory: Path) -> list[str]:
    """Command lines that name the demo's directory: the server, the supervisor's children have it in their environment."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            for source in ("cmdline", "environ"):
                try:
                    text = Path(f"/proc/{name}/{source}").read_bytes()
                except OSError:
                    continue
                if os.fsencode(directory) in text:
                    found.append(f"{name} {text[:200]!r}")
    return found


def _start(directory: Path) -> subprocess.Popen[str]:
    cli = CommandLine(directory, {"FUSECACHE_TEST_MARK": str(directory)})
    command = cli.command("demo", "--directory", str(directory), "--scale", SCALE)
    return subprocess.Popen(command, env=cli.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd="/")


def _assert_nothing_left(directory: Path, memory_before: set[str]) -> None:
    assert [entry.mountpoint for entry in read_mountinfo() if entry.mountpoint.startswith(str(directory))] == []
    assert list(directory.iterdir()) == []
    assert _memory_tiers() <= memory_before
    assert _processes_of(directory) == []


@pytest.mark.timeout(180)
def test_the_whole_demo(disk_path: Path) -> None:
    memory_before = _memory_tiers()
    process = _start(disk_path)
    text, _ = process.communicate(timeout=150)
    assert process.returncode == 0, text
    for step in _STEPS:
        assert step in text
    replaced = re.search(r"daemons replaced: (\d+)", text)
    assert replaced is not None, text
    assert int(replaced[1]) >= 2, "serve and fetch"  # there may be several serves
    assert "errors: 0" in text
    assert "x as fast" in text
    _assert_nothing_left(disk_path, memory_before)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("step", "delay_seconds"),
    [
        ("starting an S3 server", 0.5),
        ("loading", 0.0),
        ("mounting the bucket", 0.1),
        ("copying the seven large files, cold", 0.0),
        ("warming the rest", 0.0),
        ("reading one file", 0.0),
        ("unmounting", 0.0),
    ],
)
def test_ctrl_c_at_any_moment(disk_path: Path, step: str, delay_seconds: float) -> None:
    memory_before = _memory_tiers()
    process = _start(disk_path)
    assert process.stdout is not None
    said = []
    try:
        for line in process.stdout:
            said.append(line)
            if line.startswith(step):
                break
        else:
            pytest.fail(f"the demo ended before {step!r}: {''.join(said)}")
        time.sleep(delay_seconds)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)  # the impatient second one must not stop the cleaning up
        rest, _ = process.communicate(timeout=40)
    finally:
        process.kill()
        process.wait()
    is_over = process.returncode == 0 and (step == "unmounting" or delay_seconds > 0)  # it was done when the signal came
    assert is_over or (process.returncode == 130 and rest.endswith("fusecache: interrupted\n")), "".join(said) + rest
    _assert_nothing_left(disk_path, memory_before)


def test_a_picture_that_cannot_be_written_is_said_before_anything_starts(tmp_path: Path) -> None:
    cli = CommandLine(tmp_path)
    command = cli.command("demo", "--directory", str(tmp_path), "--picture", str(tmp_path / "missing" / "demo.svg"))
    done = subprocess.run(command, env=cli.environment, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode != 0
    assert "--picture" in done.stderr
    assert "Traceback" not in done.stderr
