"""What the daemons of a Dataset say, added up, and the strings that a status shows of it. Pure.

A daemon's answer is `fusecache status --json` (fusecache/contract/control.py). Every worker lists the whole Dataset: of sizes the
one that knows most counts; what is cached adds up, as nodes cache different blocks, or copies that take room of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from csi.operator.formats import CALCULATING, format_percentage, format_size


@dataclass(frozen=True, slots=True)
class Figures:
    """Bytes, but for `files`. `is_listed`: some daemon has seen all of the Dataset. `answered`: daemons that did."""

    answered: int = 0
    is_listed: bool = False
    total_bytes: int = 0
    files: int = 0
    cached_bytes: int = 0
    hit_bytes: int = 0
    miss_bytes: int = 0
    peer_hit_bytes: int = 0
    last_error: str = ""


def add_up(workers: Iterable[Mapping[str, Any]], others: Iterable[Mapping[str, Any]] = ()) -> Figures:
    """Return the figures of a Dataset from the answers of its daemons, in any order. `others`: of nodes that only mount; what
    they keep is not counted, as their room is not."""
    caching = list(workers)
    every = [*caching, *others]
    if not every:
        return Figures()
    best = max(every, key=lambda one: (bool(one["listing_complete"]), int(one["files"])))
    return Figures(
        answered=len(every),
        is_listed=bool(best["listing_complete"]),
        total_bytes=int(best["total_bytes"]),
        files=int(best["files"]),
        cached_bytes=sum(int(one["cached_bytes"]) for one in caching),
        hit_bytes=sum(int(one["hit_bytes"]) for one in every),
        miss_bytes=sum(int(one["miss_bytes"]) for one in every),
        peer_hit_bytes=sum(int(one.get("peer_hit_bytes", 0)) for one in every),
        last_error=next((str(one["last_error"]) for one in every if one["last_error"]), ""),
    )


def ufs_total(figures: Figures, *, lists_everything: bool) -> str:
    if not lists_everything:
        return ""
    return format_size(figures.total_bytes) if figures.is_listed else CALCULATING


def file_count(figures: Figures, *, lists_everything: bool) -> str:
    return str(figures.files) if lists_everything and figures.is_listed else ""


def cache_states(figures: Figures, capacity_bytes: int, *, lists_everything: bool) -> dict[str, str]:
    """Return the figures that both Dataset and runtime show. A remote hit is what this node missed and another one had cached."""
    states = {"cached": format_size(figures.cached_bytes), "cacheCapacity": format_size(capacity_bytes)}
    if lists_everything and figures.is_listed:
        states["cachedPercentage"] = _percentage(figures.cached_bytes, figures.total_bytes)
    asked = figures.hit_bytes + figures.miss_bytes
    if asked:
        from_peers = min(figures.peer_hit_bytes, figures.miss_bytes)  # read-ahead gets more of them than anybody missed
        every = _percentage(figures.hit_bytes + from_peers, asked)
        local, remote = _percentage(figures.hit_bytes, asked), _percentage(from_peers, asked)
        states |= {
            "cacheHitRatio": every,
            "localHitRatio": local,
            "remoteHitRatio": remote,
            "cacheThroughputRatio": every,
            "localThroughputRatio": local,
            "remoteThroughputRatio": remote,
        }
    return states


def _percentage(part: int, whole: int) -> str:
    """Never above 100.0%: several nodes may have the same block."""
    return format_percentage(min(part, whole), whole)
