"""Tiers: the argument's form, the defaults and the sentence for a quota that cannot be filled."""

from __future__ import annotations

from pathlib import Path

import pytest

from fusecache.base.units import GIB, MIB
from fusecache.cli import tier_options
from fusecache.cli.storage import FileSystem, file_system_of, memory_limit_bytes
from fusecache.cli.tier_options import TierRequest, check_quotas, default_tiers, parse_tier, used_by
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.mount_spec import Medium


@pytest.mark.parametrize(
    ("text", "path", "quota", "high", "low"),
    [
        ("/mnt/nvme:200Gi", "/mnt/nvme", 200 * GIB, 0.95, 0.7),
        ("/dev/shm:4Gi:0.9", "/dev/shm", 4 * GIB, 0.9, 0.7),
        ("/dev/shm:4Gi:0.9:0.5", "/dev/shm", 4 * GIB, 0.9, 0.5),
        ("/dev/shm:1G:90%:50%", "/dev/shm", 10**9, 0.9, 0.5),
        ("/dev/shm:1048576:.5", "/dev/shm", MIB, 0.5, 0.5),
        ("/a:b/c:1Gi", "/a:b/c", GIB, 0.95, 0.7),
        ("/a:1:5Gi", "/a:1", 5 * GIB, 0.95, 0.7),
    ],
)
def test_form(text: str, path: str, quota: int, high: float, low: float) -> None:
    assert parse_tier(text) == TierRequest(path, quota, high, low)


@pytest.mark.parametrize(
    "text", ["/x", "/x:", ":1Gi", "/x:many", "/x:1Gi:2", "/x:1Gi:0.5:0.9", "/x:0", "/x:1Gi:0", "/x:1Gi:150%"]
)
def test_what_is_refused(text: str) -> None:
    with pytest.raises(CacheError) as caught:
        parse_tier(text)
    assert caught.value.kind is ErrorKind.INVALID


def _disk(total: int, device: int = 1) -> FileSystem:
    return FileSystem("ext4", device, total, total, Medium.SSD)


def test_a_quota_larger_than_its_file_system_is_named_with_both_sizes() -> None:
    with pytest.raises(CacheError) as caught:
        check_quotas([(TierRequest("/cache", 20 * GIB), _disk(10 * GIB))])
    assert caught.value.kind is ErrorKind.NO_SPACE
    assert "tier /cache: quota 20.00GiB is larger than its file system, which has 10.00GiB" in str(caught.value)


def test_quotas_on_one_file_system_are_added_up() -> None:
    tiers = [(TierRequest("/a", 6 * GIB), _disk(10 * GIB)), (TierRequest("/b", 6 * GIB), _disk(10 * GIB))]
    with pytest.raises(CacheError, match="together"):
        check_quotas(tiers)
    check_quotas([tiers[0], (TierRequest("/b", 6 * GIB), _disk(10 * GIB, device=2))])


def test_defaults_are_memory_first_and_no_more_than_a_quarter_of_it(tmp_path: Path) -> None:
    state_dir = tmp_path / "state" / "id"
    tiers = default_tiers("/dev/shm", str(state_dir))
    assert not state_dir.exists(), "looking must not create"
    assert tiers[-1].base == str(state_dir)
    assert tiers[-1].quota_bytes <= min(file_system_of(str(tmp_path)).free_bytes, 100 * GIB)
    if len(tiers) > 1:
        assert tiers[0].base == "/dev/shm"
        assert tiers[0].quota_bytes <= file_system_of("/dev/shm").total_bytes // 4


def test_without_usable_memory_there_is_only_the_disk(tmp_path: Path) -> None:
    tiers = default_tiers(str(tmp_path / "missing"), str(tmp_path))
    assert [tier.base for tier in tiers] == [str(tmp_path)]


def test_the_default_memory_tier_leaves_room_below_the_memory_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tier_options, "memory_limit_bytes", lambda: 256 * MIB)
    assert tier_options.within_memory_limit(10 * GIB) == 64 * MIB
    monkeypatch.setattr(tier_options, "memory_limit_bytes", lambda: 100 * MIB)
    assert tier_options.within_memory_limit(10 * GIB) == 0


def test_space_in_use_is_counted_below_a_directory(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"x" * 40000)
    (tmp_path / "link").symlink_to("/")
    assert 40000 <= used_by(str(tmp_path)) < 80000
    assert used_by(str(tmp_path / "missing")) == 0


def test_media_come_from_the_file_system() -> None:
    shared_memory = file_system_of("/dev/shm")
    assert shared_memory.medium is (Medium.MEM if shared_memory.fstype in ("tmpfs", "ramfs") else shared_memory.medium)
    assert file_system_of("/").total_bytes > 0


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"/proc/self/cgroup": "0::/a/b", "/sys/fs/cgroup/a/b/memory.max": "max", "/sys/fs/cgroup/a/memory.max": "1000"}, 1000),
        ({"/proc/self/cgroup": "0::/a/b", "/sys/fs/cgroup/a/b/memory.max": "500", "/sys/fs/cgroup/a/memory.max": "1000"}, 500),
        ({"/proc/self/cgroup": "0::/../x", "/sys/fs/cgroup/memory.max": "700"}, 700),
        ({"/proc/self/cgroup": "4:memory:/x", "/sys/fs/cgroup/memory/x/memory.limit_in_bytes": "300"}, 300),
        ({"/proc/self/cgroup": "4:memory:/x", "/sys/fs/cgroup/memory/x/memory.limit_in_bytes": str(2**63 - 4096)}, None),
        ({"/proc/self/cgroup": "0::/"}, None),
        ({}, None),
    ],
)
def test_memory_limit(files: dict[str, str], limit: int | None) -> None:
    def read(path: str) -> str:
        if path not in files:
            raise FileNotFoundError(path)
        return files[path]

    assert memory_limit_bytes(read) == limit
