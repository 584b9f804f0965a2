from __future__ import annotations

import array
import json
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusecache.custody import favours, kernel
from fusecache.custody.favours import RESENT_BIT, Favours
from tests.support.log_check import LogCheck


class BackingIds:
    """The kernel's side of passthrough, which needs a mount: tests/fuse has the real one."""

    def __init__(self) -> None:
        self.opened: list[int] = []
        self.closed: list[int] = []

    def open(self, fuse_fd: int, file_fd: int) -> int:
        self.opened.append(os.fstat(file_fd).st_ino)
        return len(self.opened)

    def close(self, fuse_fd: int, backing_id: int) -> None:
        self.closed.append(backing_id)


@pytest.fixture
def backing(monkeypatch: pytest.MonkeyPatch) -> BackingIds:
    ids = BackingIds()
    monkeypatch.setattr(kernel, "open_backing", ids.open)
    monkeypatch.setattr(kernel, "close_backing", ids.close)
    return ids


@pytest.fixture
def tier(tmp_path: Path) -> Path:
    (tmp_path / "tier").mkdir()
    (tmp_path / "tier" / "container").write_bytes(b"x")
    return tmp_path / "tier"


@pytest.fixture
def container(tier: Path) -> Iterator[int]:
    fd = os.open(tier / "container", os.O_RDONLY)
    yield fd
    os.close(fd)


def make(tier: Path, *, allow: bool = True) -> Favours:
    return Favours(-1, [str(tier)], allow_passthrough=allow)


def test_one_backing_id_per_inode_closed_after_the_last_release(backing: BackingIds, tier: Path, container: int) -> None:
    one = make(tier)
    assert one.answer("open", 7, 2, container) == {"mode": "passthrough", "backing_id": 1}
    assert one.answer("open", 7, 4, container) == {"mode": "passthrough", "backing_id": 1}
    assert one.answer("open", 7, 6, None) == {"mode": "passthrough", "backing_id": 1}
    for unique in (8, 10):
        assert one.answer("release", 7, unique, None) == {}
    assert backing.closed == []
    one.answer("release", 7, 12, None)
    assert backing.closed == [1]
    assert one.open_backing_ids == 0
    assert one.answer("open", 7, 14, container)["backing_id"] == 2


def test_cached_mode_is_kept_while_open(backing: BackingIds, tier: Path, container: int) -> None:
    one = make(tier)
    assert one.answer("open", 7, 2, None) == {"mode": "cached"}
    assert one.answer("open", 7, 4, container) == {"mode": "cached"}
    one.answer("release", 7, 6, None)
    one.answer("release", 7, 8, None)
    assert one.answer("open", 7, 10, container)["mode"] == "passthrough"


def test_repeated_question_counts_once_with_or_without_the_resent_bit(backing: BackingIds, tier: Path, container: int) -> None:
    one = make(tier)
    first = one.answer("open", 7, 2, container)
    assert one.answer("open", 7, 2 | RESENT_BIT, container) == first
    assert one.answer("release", 7, 4, None) == {}
    assert one.answer("release", 7, 4 | RESENT_BIT, None) == {}
    assert backing.closed == [1]
    assert one.answer("release", 8, 6, None) == {}  # never opened


def test_same_unique_may_be_opened_and_given_back(backing: BackingIds, tier: Path, container: int) -> None:
    """An OPEN whose answer the kernel no longer wanted is released under its own unique."""
    one = make(tier)
    one.answer("open", 7, 2, container)
    one.answer("release", 7, 2, None)
    assert backing.closed == [1]


def test_answers_are_forgotten_at_last(backing: BackingIds, tier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(favours, "REMEMBERED_ANSWERS", 4)
    one = make(tier)
    for unique in range(100):
        one.answer("release", 1, unique, None)
    assert len(one._answers) == 4


@pytest.mark.parametrize("what", ["outside", "directory", "device", "link out", "sibling prefix"])
def test_only_files_of_a_tier_are_backed(backing: BackingIds, tier: Path, what: str) -> None:
    outside = tier.parent / "secret"
    outside.write_bytes(b"x")
    (tier / "link").symlink_to(outside)
    sibling = tier.parent / "tier2"
    sibling.mkdir()
    (sibling / "file").write_bytes(b"x")
    path = {
        "outside": outside,
        "directory": tier,
        "device": Path("/dev/null"),
        "link out": tier / "link",
        "sibling prefix": sibling / "file",
    }[what]
    fd = os.open(path, os.O_RDONLY)
    try:
        one = make(tier)
        assert one.answer("open", 7, 2, fd) == {"mode": "cached"}
        assert backing.opened == []
        assert one.problem
    finally:
        os.close(fd)


@pytest.mark.root
def test_files_of_other_users_are_not_backed(backing: BackingIds, tier: Path, container: int) -> None:
    os.chown(tier / "container", 65534, 65534)
    one = make(tier)
    assert one.answer("open", 7, 2, container) == {"mode": "cached"}
    assert "65534" in one.problem


def test_writable_or_verified_mounts_never(backing: BackingIds, tier: Path, container: int) -> None:
    assert make(tier, allow=False).answer("open", 7, 2, container) == {"mode": "cached"}
    assert backing.opened == []


def test_kernel_that_refuses_is_remembered(tier: Path, container: int) -> None:
    one = Favours(os.open(os.devnull, os.O_RDONLY), [str(tier)], allow_passthrough=True)
    try:
        assert one.answer("open", 7, 2, container) == {"mode": "cached"}
        assert "BACKING_OPEN" in one.problem
    finally:
        os.close(one._fuse_fd)


def test_questions_come_over_the_channel_and_leave_no_descriptor(
    backing: BackingIds, tier: Path, container: int, expect_log: LogCheck
) -> None:
    expect_log("makes no sense", level=logging.ERROR, at_least=2)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    with ours, theirs:
        one = make(tier)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [container]))]
        theirs.sendmsg([json.dumps({"ask": "open", "inode": 7, "unique": 2}).encode()], rights)
        theirs.send(b"\xff nonsense")
        theirs.send(json.dumps({"ask": "dance", "inode": 7, "unique": 4}).encode())
        before = len(os.listdir("/proc/self/fd"))
        assert one.answer_all(ours)
        assert len(os.listdir("/proc/self/fd")) == before
        assert json.loads(theirs.recv(4096)) == {"mode": "passthrough", "backing_id": 1}
        assert "error" in json.loads(theirs.recv(4096))
        assert "error" in json.loads(theirs.recv(4096))
        theirs.close()
        assert not one.answer_all(ours)
