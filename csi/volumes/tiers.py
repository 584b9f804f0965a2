"""The parameter `tiers` of a StorageClass: `mem:1Gi,ssd:50Gi:0.95:0.7`, the medium and the quota of each. Stateless.

Where they lie is the node's business: a path that somebody writes into a StorageClass has none to name there.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from csi.errors import invalid
from fusecache.base.units import parse_size
from fusecache.contract.errors import CacheError
from fusecache.contract.mount_spec import Medium, TierSpec

_FORM = "MEDIUM:QUOTA[:HIGH[:LOW]],... with MEDIUM mem, ssd or hdd, such as mem:1Gi,ssd:50Gi"
_RATIO = re.compile(r"(0?\.\d{1,6}|1|1\.0+)")
_DEFAULT_LOW = 0.7
_SMALLEST_BYTES = 1 << 20


class TierAsked(NamedTuple):
    """`high`, `low`: as in TierSpec."""

    medium: Medium
    quota_bytes: int
    high: float = TierSpec("", Medium.SSD, 0).high
    low: float = _DEFAULT_LOW


def parse_tiers(text: str) -> list[TierAsked]:
    """Return one for each medium, the fastest first. Raises: INVALID_ARGUMENT."""
    tiers = [_parse(part.strip()) for part in text.split(",")]
    if len({tier.medium for tier in tiers}) < len(tiers):
        raise invalid(f"tiers {text[:200]!r} name a medium twice: add the quotas up")
    return sorted(tiers, key=lambda tier: list(Medium).index(tier.medium))


def _parse(text: str) -> TierAsked:
    medium, _, rest = text.partition(":")
    quota, *ratios = rest.split(":")
    try:
        known, quota_bytes = Medium(medium.upper()), parse_size(quota)
        if quota_bytes < _SMALLEST_BYTES or len(ratios) > 2 or not all(map(_RATIO.fullmatch, ratios)):
            raise ValueError(text)
    except (ValueError, CacheError):
        raise invalid(f"tier {text[:100]!r} is not of the form {_FORM}") from None
    high = float(ratios[0]) if ratios else TierAsked._field_defaults["high"]
    low = float(ratios[1]) if len(ratios) > 1 else min(_DEFAULT_LOW, high)
    if low > high:
        raise invalid(f"tier {text[:100]!r}: low is above high; space is freed from high down to low")
    return TierAsked(known, quota_bytes, high, low)
