"""Directories of nodes that users name, held against those that the administrator allows.

The node plugin checks them itself, with the same settings; here users hear of it before a pod does not start.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from csi.operator.model.ignored import ignored_text
from csi.operator.resolve.findings import Findings
from csi.operator.resolve.reasons import CACHE_PATH_NOT_ALLOWED
from csi.operator.resolved import ResolvedSource, ResolvedTier


@dataclass(frozen=True, slots=True)
class AllowedRoots:
    """`cache`: tiers may lie at or below them. `local`: local:// mounts may name them, and what is below them."""

    cache: tuple[str, ...] = ()
    local: tuple[str, ...] = ()


NO_ROOTS = AllowedRoots()


def allowed_tiers(tiers: Iterable[ResolvedTier], roots: AllowedRoots, findings: Findings) -> tuple[ResolvedTier, ...]:
    """Return the tiers, those in places that are not allowed in the driver's own directory."""
    every = tuple(tiers)
    outside = {tier.host_path for tier in every if tier.host_path and not _is_below(tier.host_path, roots.cache)}
    if outside:
        allowed = ", ".join(roots.cache) or "none is"
        findings.remark(
            CACHE_PATH_NOT_ALLOWED,
            f"directories that are not allowed for caches here ({allowed}): {ignored_text(sorted(outside))}; these tiers lie in "
            "the driver's own directory on each node, with the same quota",
            on_runtime=True,
            is_warning=False,  # the path of most manifests is one of somebody else's nodes
        )
    return tuple(replace(tier, host_path="") if tier.host_path in outside else tier for tier in every)


def refuse_other_directories(sources: Iterable[ResolvedSource], roots: AllowedRoots, findings: Findings) -> None:
    """Refuse local:// mounts outside of what is allowed."""
    for source in sources:
        if source.host_path and not _is_below(source.host_path, roots.local):
            allowed = f"allowed are {', '.join(roots.local)}" if roots.local else "none is allowed"
            findings.refuse(
                f"the directory of a local:// mount (at /{source.place}) is none that Datasets may read: {allowed}; the "
                "administrator decides with --local-root"
            )


def _is_below(path: str, roots: Sequence[str]) -> bool:
    plain = "/" + posixpath.normpath(path).lstrip("/")
    return any(plain == root or plain.startswith(root.rstrip("/") + "/") for root in map(posixpath.normpath, roots))
