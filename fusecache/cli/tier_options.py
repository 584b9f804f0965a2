"""Tiers: `--tier PATH:QUOTA[:HIGH[:LOW]]` parsed, the defaults, and the check that each fits where it lies.

Stateless; `spec_building` calls it. Nothing is created here: the directories are made when the mount is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import NamedTuple

from fusecache.base.units import GIB, MIB, format_size, parse_size
from fusecache.cli.storage import FileSystem, file_system_of, memory_limit_bytes, ram_bytes
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.mount_spec import Medium

NO_TIER = "none"
DEFAULT_HIGH = 0.95
DEFAULT_LOW = 0.7
PROCESS_MEMORY_BYTES = 192 * MIB  # what the processes of a mount need beside the tier: bytes in flight, indexes, interpreters
DEFAULT_DISK_BYTES = 100 * GIB
DEFAULT_DISK_DIRECTORY = ("blocks",)
SMALLEST_MEMORY_TIER_BYTES = 16 * MIB  # below, a MEM tier only adds moving of blocks; a guess

_RATIO = r"(?:\d*\.\d+|\d+)%?"
_TIER = re.compile(
    rf"(?P<path>.+?):(?P<quota>\d+(?:\.\d+)?\s*[kmgtp]?i?b?)(?::(?P<high>{_RATIO})(?::(?P<low>{_RATIO}))?)?",
    re.IGNORECASE | re.DOTALL,
)
_FORM = "PATH:QUOTA[:HIGH[:LOW]], for example /mnt/nvme:200Gi or /dev/shm:4Gi:0.95:0.7"


class TierRequest(NamedTuple):
    """A tier as the user asked for it.

    Attributes:
        base: directory that will hold this tier's own directory. Absolute.
        medium: None: guessed from the file system.
        own_directory: components of the tier's directory below `base`; None: fusecache-UID/DATASET.
    """

    base: str
    quota_bytes: int
    high: float = DEFAULT_HIGH
    low: float = DEFAULT_LOW
    medium: Medium | None = None
    own_directory: tuple[str, ...] | None = None


def parse_tiers(texts: Sequence[str]) -> list[TierRequest]:
    """Parse every --tier; `none` alone means no tier at all. Raises: INVALID."""
    if list(texts) == [NO_TIER]:
        return []
    if NO_TIER in texts:
        raise CacheError(ErrorKind.INVALID, "--tier none means that nothing is cached; leave it or the other tiers out")
    return [parse_tier(text) for text in texts]


def parse_tier(text: str) -> TierRequest:
    """Parse one --tier. A path may contain colons: the shortest path that leaves a valid rest is taken. Raises: INVALID."""
    match = _TIER.fullmatch(text)
    if match is None:
        raise CacheError(ErrorKind.INVALID, f"tier {text!r} is not of the form {_FORM}")
    return make_tier(match["path"], match["quota"], match["high"], match["low"])


def make_tier(path: str, quota: str, high: str | None = None, low: str | None = None, medium: str | None = None) -> TierRequest:
    """Build a request from its fields as text. Raises: INVALID."""
    quota_bytes = parse_size(quota)
    if quota_bytes <= 0:
        raise CacheError(ErrorKind.INVALID, f"tier {path}: a quota must be positive; to use no tier at all write --tier none")
    high_ratio = DEFAULT_HIGH if high is None else _parse_ratio(path, "high", high)
    low_ratio = min(DEFAULT_LOW, high_ratio) if low is None else _parse_ratio(path, "low", low)
    if low_ratio > high_ratio:
        raise CacheError(
            ErrorKind.INVALID,
            f"tier {path}: low ({low_ratio:g}) is above high ({high_ratio:g}); space is freed from high down to low",
        )
    return TierRequest(os.path.abspath(path), quota_bytes, high_ratio, low_ratio, _parse_medium(path, medium))


def _parse_ratio(path: str, name: str, text: str) -> float:
    ratio = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    if not 0 < ratio <= 1:
        raise CacheError(
            ErrorKind.INVALID, f"tier {path}: {name} is {text}, but it is a share of the quota: above 0, at most 1 (or 100%)"
        )
    return ratio


def _parse_medium(path: str, text: str | None) -> Medium | None:
    if text is None:
        return None
    try:
        return Medium(text.upper())
    except ValueError:
        raise CacheError(ErrorKind.INVALID, f"tier {path}: medium {text!r} is none of {', '.join(Medium)}") from None


def default_tiers(shared_memory: str, state_dir: str) -> list[TierRequest]:
    """Return a MEM tier where there is memory for one, and a tier beside the index on disk.

    Args:
        state_dir: of the dataset; need not exist yet.
    """
    tiers = []
    memory_quota = default_memory_quota(shared_memory)
    if memory_quota >= SMALLEST_MEMORY_TIER_BYTES:
        tiers.append(TierRequest(shared_memory, memory_quota))
    blocks = os.path.join(state_dir, *DEFAULT_DISK_DIRECTORY)
    disk_quota = default_disk_quota(existing_ancestor(state_dir), used_by(blocks))
    if disk_quota > 0:
        tiers.append(TierRequest(state_dir, disk_quota, own_directory=DEFAULT_DISK_DIRECTORY))
    return tiers


def existing_ancestor(path: str) -> str:
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def default_memory_quota(path: str) -> int:
    """Return a quarter of `path` or of the RAM, whichever is less, within the memory limit; 0 if it cannot be used."""
    try:
        if not os.access(path, os.W_OK | os.X_OK):
            return 0
        quota = min(file_system_of(path).total_bytes, ram_bytes()) // 4
    except OSError:
        return 0
    return within_memory_limit(quota)


def within_memory_limit(quota_bytes: int) -> int:
    """tmpfs is charged to the cgroup that wrote it: a larger tier would end in an OOM kill."""
    limit = memory_limit_bytes()
    return quota_bytes if limit is None else max(0, min(quota_bytes, limit - PROCESS_MEMORY_BYTES))


def default_disk_quota(directory: str, used_bytes: int) -> int:
    """Return half of the space that is free without us, at most 100 GiB: the quota does not shrink as the cache fills."""
    return min((file_system_of(directory).free_bytes + used_bytes) // 2, DEFAULT_DISK_BYTES)


def used_by(directory: str) -> int:
    """Return the bytes allocated to the files below `directory` (0 if it is missing). Container files are few and large."""
    used = 0
    pending = [directory]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    else:
                        used += entry.stat(follow_symlinks=False).st_blocks * 512
        except OSError:
            continue
    return used


def check_quotas(tiers: list[tuple[TierRequest, FileSystem]]) -> None:
    """Refuse quotas that can never be filled. Raises: NO_SPACE."""
    sums: dict[int, int] = {}
    for tier, where in tiers:
        sums[where.device] = sums.get(where.device, 0) + tier.quota_bytes
        if sums[where.device] > where.total_bytes:
            together = (
                ""
                if sums[where.device] == tier.quota_bytes
                else f" (together with the tiers before it: {format_size(sums[where.device])})"
            )
            message = (
                f"tier {tier.base}: quota {format_size(tier.quota_bytes)}{together} is larger than its file system, which has"
                f" {format_size(where.total_bytes)}; lower the quota or use another directory"
            )
            raise CacheError(ErrorKind.NO_SPACE, message)
