"""The supervisor that starts before the command line knows what to mount, and leaves nothing behind if there is nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusecache.cli import early_supervisor
from tests.support.mounted import wait_until


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    early_supervisor.abandon()


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["mount"],
        ["mount", "--help"],
        ["status", "a", "b"],
        ["mount", "s", "m", "--help"],
        ["mount", "s", "m", "--foreground"],
    ],
)
def test_only_a_mount_in_the_background_begins_early(arguments: list[str]) -> None:
    early_supervisor.begin(arguments)
    assert early_supervisor.take() is None


@pytest.mark.slow
@pytest.mark.parametrize("when", ["at once", "with children"])
def test_what_nobody_took_ends_with_its_children(when: str) -> None:
    early_supervisor.begin(["mount", "s3://bucket", "/mnt"])
    early = early_supervisor._early
    assert early is not None
    children: list[int] = []
    if when == "with children":
        assert wait_until(lambda: len(children_of(early.pid)) == 2, 30, 0.01)
        children = children_of(early.pid)
    early_supervisor.abandon()
    assert early_supervisor.take() is None
    assert wait_until(lambda: not any(is_alive(pid) for pid in (early.pid, *children)), 10, 0.01)


@pytest.mark.slow
def test_a_command_that_dies_leaves_nothing() -> None:
    early_supervisor.begin(["mount", "s3://bucket", "/mnt"])
    early = early_supervisor.take()
    assert early is not None
    assert wait_until(lambda: len(children_of(early.pid)) == 2, 30, 0.01)
    children = children_of(early.pid)
    os.close(early.order_fd)  # as the kernel does for a process that was killed
    os.close(early.report_fd)
    os.waitpid(early.pid, 0)
    assert wait_until(lambda: not any(is_alive(pid) for pid in children), 10, 0.01)
