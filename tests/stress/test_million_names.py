"""A directory of very many names: its first names come at once, and memory does not grow with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.mounted import Mounted, wait_until

pytestmark = [pytest.mark.stress, pytest.mark.fuse, pytest.mark.root, pytest.mark.timed]

BOUND_MIB = 32  # of anonymous memory per process, for any number of names: a page of names in many shapes


@pytest.fixture
def names(full_length: bool) -> int:
    return 1_000_000 if full_length else 100_000


@pytest.fixture
def many(disk_path: Path, names: int) -> Iterator[Path]:
    """A directory `many` of empty files, beside nothing."""
    root = disk_path / "source"
    (root / "many").mkdir(parents=True)
    directory = os.open(root / "many", os.O_RDONLY)
    try:
        for number in range(names):
            os.mknod(f"name-of-a-file-{number:08}", 0o644, dir_fd=directory)
    finally:
        os.close(directory)
    yield root
    shutil.rmtree(root)


def anonymous_mib(mounted: Mounted) -> dict[str, float]:
    """RssAnon: what a process holds of its own. Pages of the index belong to its file and can be dropped."""
    found = {}
    for role in ("fetch", "serve"):
        for line in Path(f"/proc/{mounted.pid(role)}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                found[role] = int(line.split()[1]) / 1024
    return found


@pytest.mark.timeout(900)
def test_a_very_large_directory(
    disk_path: Path, promise: Callable[[str, str, str, str], None], many: Path, names: int, allowed: Callable[[float], float]
) -> None:
    with Mounted(disk_path, [f"file://{many}"], options={"sync_listing": "false", "access": "openless"}) as mounted:
        before = anonymous_mib(mounted)
        first, first_seconds = head(mounted)
        early: dict[str, Any] = mounted.status()
        started = time.monotonic()
        counted = count(mounted, ["find", "many", "-type", "f"])
        find_seconds = time.monotonic() - started
        again = count(mounted, ["ls", "-f", "many"]) - 2  # "." and ".."
        assert wait_until(lambda: mounted.status()["files"] == names, 60)
        after = anonymous_mib(mounted)
    growth = {role: after[role] - before[role] for role in before}
    promise(
        "32",
        f"directory of {names:,} names",
        f"`ls -f | head` answered after {first_seconds:.2f} s, when {early['files']:,} names were known; find counted "
        f"{counted:,} in {find_seconds:.1f} s, ls {again:,}; memory grew by "
        + ", ".join(f"{growth[role]:.1f} MiB in {role} (now {after[role]:.0f})" for role in growth),
        f"first names < 2 s, every name once, growth < {BOUND_MIB} MiB per process",
    )
    assert len(first) == 10
    assert early["files"] < names, "the listing was complete before anybody could ask: the run proves nothing"
    assert first_seconds < allowed(2.0)
    assert counted == names
    assert again == names
    assert all(one < BOUND_MIB for one in growth.values()), growth


def head(mounted: Mounted) -> tuple[list[bytes], float]:
    """Return the first names and how long they took."""
    started = time.monotonic()
    ls = subprocess.Popen(["timeout", "-s", "KILL", "120", "ls", "-f", "many"], cwd=mounted.mountpoint, stdout=subprocess.PIPE)
    done = subprocess.run(["head"], stdin=ls.stdout, capture_output=True, check=True)
    seconds = time.monotonic() - started
    assert ls.stdout is not None
    ls.stdout.close()
    ls.wait()
    return done.stdout.split(), seconds


def count(mounted: Mounted, command: list[str]) -> int:
    """Return how many different lines a program wrote; a line that came twice fails."""
    out = subprocess.run(
        ["timeout", "-s", "KILL", "600", *command], cwd=mounted.mountpoint, capture_output=True, check=True
    ).stdout
    lines = out.splitlines()
    assert len(set(lines)) == len(lines), "a name was shown twice"
    return len(lines)
