from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest

from fusecache.tiers import container_files
from fusecache.tiers.container_files import OpenContainers, container_path


def make_container(tier: Path, number: int, content: bytes) -> Path:
    path = Path(container_path(tier, number))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def open_files(below: Path) -> list[str]:
    links = [os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
    return [os.readlink(link) for link in links if os.path.islink(link) and os.readlink(link).startswith(str(below))]


def test_descriptor_of_a_removed_container_is_let_go_by_the_next_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container_files, "SWEEP_SECONDS", 0.0)
    removed, kept = make_container(tmp_path, 1, b"one"), make_container(tmp_path, 2, b"two")
    containers = OpenContainers([tmp_path])
    buffer = bytearray(3)
    assert containers.pread_into(0, 1, memoryview(buffer), 0) == 3
    removed.unlink()
    assert containers.pread_into(0, 2, memoryview(buffer), 0) == 3
    assert bytes(buffer) == b"two"
    assert open_files(tmp_path) == [str(kept)]
    containers.close()


def test_descriptor_of_a_removed_container_is_let_go_without_reads(tmp_path: Path) -> None:
    removed = make_container(tmp_path, 1, b"one")
    containers = OpenContainers([tmp_path])
    containers.pread_into(0, 1, memoryview(bytearray(3)), 0)
    removed.unlink()
    assert containers.close_removed() == 1
    assert open_files(tmp_path) == []
    containers.close()


def test_at_most_so_many_descriptors_stay_open(tmp_path: Path) -> None:
    containers = OpenContainers([tmp_path], limit=2)
    for number in range(5):
        make_container(tmp_path, number, b"x")
        containers.pread_into(0, number, memoryview(bytearray(1)), 0)
    assert len(open_files(tmp_path)) == 2
    containers.close()
    assert open_files(tmp_path) == []


@pytest.mark.alone
def test_whoever_has_to_wait_for_a_disk_says_so_before(disk_path: Path, tmp_path: Path) -> None:
    content = os.urandom(1 << 20)
    for number in range(2):
        path = make_container(disk_path, number, content)
        make_container(tmp_path, number, content)
        with path.open("rb+") as file:
            os.fsync(file.fileno())
            if number == 1:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    containers = OpenContainers([disk_path, tmp_path], in_memory=[1])
    waits: list[str] = []
    for tier, number, name in ((0, 0, "in the page cache"), (0, 1, "on the disk"), (1, 0, "in memory"), (0, 1, "read just now")):
        containers.before_waiting = functools.partial(waits.append, name)
        buffer = bytearray(100_000)
        assert containers.pread_into(tier, number, memoryview(buffer), 5) == 100_000
        assert buffer == content[5:100_005]
    assert waits == ["on the disk"]
    containers.close()
