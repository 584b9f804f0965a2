"""From `tieredstore.levels` to the tiers of each node that caches."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from csi.operator.formats import quantity_bytes
from csi.operator.model.tiered_store import Level
from csi.operator.resolve.findings import Findings
from csi.operator.resolve.reasons import SMALL_QUOTA
from csi.operator.resolved import ResolvedTier
from fusecache.base.units import MIB
from fusecache.contract.errors import CacheError
from fusecache.contract.mount_spec import Medium

DEFAULT_HIGH, DEFAULT_LOW = 0.95, 0.7
# Of a runtime without levels.
MEMORY_TIER = ResolvedTier("mem", Medium.MEM, 256 * MIB, DEFAULT_HIGH, DEFAULT_LOW, is_empty_dir=True)
_SMALL_BYTES = 64 * MIB
_LARGEST_BYTES = 1 << 60
_RATIO = re.compile(r"\d{0,3}\.?\d{1,9}", re.ASCII)
_QUOTA = "either quota or quotaList must be set"
_LENGTHS = "length of quotaList must be consistent with length of paths"


@dataclass(frozen=True, slots=True)
class LevelForm:
    """How a kind writes levels. `separators`: between paths of one. `keeps_free`: `low` is a share of the disk to keep free."""

    separators: str = ","
    keeps_free: bool = False


PLAIN_LEVELS = LevelForm()


@dataclass(frozen=True, slots=True)
class Slot:
    """A directory that a tier is made of. `path`: "" for one that has none."""

    path: str
    quota_bytes: int


def resolve_levels(levels: list[Level], form: LevelForm, findings: Findings) -> tuple[ResolvedTier, ...]:
    """Return the tiers, fastest medium first; several directories of a level are several tiers."""
    tiers: list[ResolvedTier] = []
    used: dict[str, int] = {}
    for index, level in enumerate(levels):
        where = f"spec.tieredstore.levels[{index}]"
        slots = _slots(level, where, form, findings)
        ratios = read_ratios(level.high, level.low, where, findings, low_is_free_space=form.keeps_free)
        for slot in slots:
            if slot.path and used.setdefault(slot.path, index) != index:
                findings.refuse(f"tieredstore.levels[{used[slot.path]}] and levels[{index}] have the same path", on_runtime=True)
        if ratios:
            medium = Medium(level.medium_type)
            tiers += [make_tier(medium, slot, ratios, is_empty_dir=level.volume_type == "emptyDir", at=index) for slot in slots]
    return tuple(sorted(tiers, key=lambda tier: list(Medium).index(tier.medium)))


def make_tier(medium: Medium, slot: Slot, ratios: tuple[float, float], *, is_empty_dir: bool, at: int) -> ResolvedTier:
    """Return a tier. Its directory is called after the path, so that it is found again when others are added before it."""
    in_pod = is_empty_dir or medium is Medium.MEM
    known_as = hashlib.sha256(slot.path.encode("utf-8", "replace")).hexdigest()[:8] if slot.path else str(at)
    host_path = "" if in_pod else slot.path
    high, low = ratios
    return ResolvedTier(f"{medium.lower()}-{known_as}", medium, slot.quota_bytes, high, low, host_path, in_pod)


def read_ratios(
    high: str, low: str, where: str, findings: Findings, *, low_is_free_space: bool = False
) -> tuple[float, float] | None:
    """Return `high` and `low` of a level, None if they are wrong."""
    try:
        upper = _ratio(high) if high else DEFAULT_HIGH
        written = _ratio(low) if low else None
        lower = min(DEFAULT_LOW, upper) if written is None or low_is_free_space else written
    except ValueError:
        findings.refuse(f'{where}: high and low must be shares above 0, at most 1, such as "0.95"', on_runtime=True)
        return None
    if lower > upper:
        findings.refuse(f"{where}: low is above high; space is freed from high down to low", on_runtime=True)
        return None
    return upper, lower


def check_quota(quota_bytes: int, where: str, findings: Findings) -> bool:
    """Refuse a quota that is no space; say a word about a very small one."""
    if not 0 < quota_bytes <= _LARGEST_BYTES:
        findings.refuse(f"{where}: quota must be positive and a size that disks have", on_runtime=True)
        return False
    if quota_bytes < _SMALL_BYTES:
        findings.remark(SMALL_QUOTA, f"{where}: a quota below 64Mi holds few blocks", on_runtime=True)
    return True


def check_path(path: str, where: str, findings: Findings) -> bool:
    """Refuse a directory of nodes that is none."""
    if not path.startswith("/") or not path.isprintable():
        findings.refuse(f"{where}: path must be absolute", on_runtime=True)
        return False
    if ".." in path.split("/"):
        findings.refuse(f"{where}: path contains ..: write the directory that is meant", on_runtime=True)
        return False
    return True


def _slots(level: Level, where: str, form: LevelForm, findings: Findings) -> list[Slot]:
    pattern = "[" + re.escape(form.separators) + "]"
    paths = [path.strip() for path in re.split(pattern, level.path)] if level.path else [""]
    paths = [path for path in paths if path] or [""]
    are_right = [check_path(path, where, findings) for path in paths if path or level.path]
    if len(set(paths)) < len(paths):
        findings.refuse(f"{where}: a path is written twice", on_runtime=True)
        return []
    quotas = _quotas(level, len(paths), where, findings)
    if quotas is None or not all(are_right):
        return []
    if not check_quota(sum(quotas), where, findings) or not all(quota > 0 for quota in quotas):
        findings.refuse(f"{where}: quota must be positive for each path", on_runtime=True)
        return []
    return [Slot(path.rstrip("/") or path, quota) for path, quota in zip(paths, quotas, strict=True)]


def _quotas(level: Level, count: int, where: str, findings: Findings) -> list[int] | None:
    """Return a size for each path; a rest of the division goes to the first one."""
    if level.quota_list.strip():
        try:
            listed = [quantity_bytes(entry.strip()) for entry in level.quota_list.split(",")]
        except CacheError:
            findings.refuse(f"{where}.quotaList must be sizes with commas between them, such as 100Gi,50Gi", on_runtime=True)
            return None
        if len(listed) != count:
            findings.refuse(f"{where}: {_LENGTHS}", on_runtime=True)
            return None
        return listed
    if level.quota_bytes is None:
        findings.refuse(f"{where}: {_QUOTA}", on_runtime=True)
        return None
    each, rest = divmod(level.quota_bytes, count)
    return [each + rest, *[each] * (count - 1)]


def _ratio(text: str) -> float:
    if not _RATIO.fullmatch(text.strip()):
        raise ValueError
    ratio = float(text)
    if not 0 < ratio <= 1:
        raise ValueError
    return ratio
