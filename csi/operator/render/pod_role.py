"""The two kinds of cache pods of a Dataset: on nodes that cache, and on nodes where it is only mounted.

One DaemonSet has one template, and a pod cannot see the label of its node, so that each role has a DaemonSet. They differ in
the size of their tiers, in what they ask of a node, and in what users pass on to them. A node that changes its role gets the
other pod, which takes mount and index over as one after an update does: with other tiers it would have to drop the index, and
with it files that programs have open.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from csi.operator.formats import parse_quantity
from csi.operator.render.mount_config import CONSUMER_FILE, FILE
from csi.operator.render.object_names import CONSUMER, WORKER, consumers_name, pods_name
from csi.operator.render.surroundings import Installation
from csi.operator.resolve.pods import merged
from csi.operator.resolved import PodOptions, Resolved, ResolvedTier
from fusecache.base.units import MIB
from fusecache.contract.errors import CacheError
from fusecache.contract.mount_spec import Medium

# Of all tiers of a pod on a node that only mounts. Nobody has said that there is room on it, and without any tier each block
# would be fetched again for every reader. A guess.
CONSUMER_TIER_BYTES = 256 * MIB


@dataclass(frozen=True, slots=True)
class PodRole:
    """`name`: value of labels. `set_name`: of the DaemonSet. `config_key`: of its dataset.json in the ConfigMap."""

    name: str
    set_name: str
    config_key: str
    tiers: tuple[ResolvedTier, ...]
    options: PodOptions

    @property
    def memory_tier_bytes(self) -> int:
        return sum(tier.quota_bytes for tier in self.tiers if tier.medium is Medium.MEM)


def roles(resolved: Resolved) -> tuple[PodRole, PodRole]:
    """Return worker and consumer. On a node that caches, what is said of workers wins over what is said of mounts."""
    worker_options = merged(resolved.fuse, resolved.worker)
    return (
        PodRole(WORKER, pods_name(resolved.name), FILE, resolved.tiers, worker_options),
        PodRole(CONSUMER, consumers_name(resolved.name), CONSUMER_FILE, _small(resolved.tiers), resolved.fuse),
    )


def _small(tiers: tuple[ResolvedTier, ...]) -> tuple[ResolvedTier, ...]:
    return tuple(replace(tier, quota_bytes=min(tier.quota_bytes, CONSUMER_TIER_BYTES // len(tiers))) for tier in tiers)


def resources(role: PodRole, installation: Installation) -> dict[str, Any]:
    """Return the resources of a pod. Of a worker they include the tiers in memory, so that the scheduler knows of them; a
    consumer asks for little, and its tiers are small."""
    given = {key: dict(value) if isinstance(value, dict) else value for key, value in role.options.resources.items()}
    if role.name == WORKER:
        return _with_tiers(given, role.memory_tier_bytes, installation.daemon_memory_bytes)
    requests, limits = given.setdefault("requests", {}), given.get("limits")
    if isinstance(requests, dict) and "memory" not in requests:
        limit = _quantity_bytes(limits.get("memory")) if isinstance(limits, dict) else None
        wanted = installation.consumer_memory_bytes
        requests["memory"] = str(wanted if limit is None else min(wanted, limit))
    return given


def processor_share(role: PodRole, installation: Installation) -> str:
    """Return what a running pod is to request of the processors of its node; "" where the user has said it."""
    for what in ("requests", "limits"):  # a limit alone is requested, as Kubernetes has it
        given = role.options.resources.get(what, {})
        if not isinstance(given, dict) or "cpu" in given:
            return ""
    return installation.worker_cpu if role.name == WORKER else installation.consumer_cpu


def requested_memory(resolved: Resolved, installation: Installation) -> int:
    """Return the bytes that a node needs to become a worker."""
    asked = resources(roles(resolved)[0], installation).get("requests")
    return (_quantity_bytes(asked.get("memory")) or 0) if isinstance(asked, dict) else 0


def _with_tiers(found: dict[str, Any], tier_bytes: int, daemon_bytes: int) -> dict[str, Any]:
    """Count the tiers in memory, unless the user has counted them."""
    requests, limits = found.setdefault("requests", {}), found.get("limits")
    if isinstance(requests, dict):
        asked = _quantity_bytes(requests.get("memory"))
        if asked is None:
            requests["memory"] = str(daemon_bytes + tier_bytes)
        elif asked <= tier_bytes:
            requests["memory"] = str(asked + tier_bytes)
        needed = _quantity_bytes(requests.get("memory")) or 0
        if isinstance(limits, dict) and (limit := _quantity_bytes(limits.get("memory"))) is not None and limit < needed:
            limits["memory"] = str(max(limit + tier_bytes, needed))
    return found


def _quantity_bytes(value: Any) -> int | None:
    try:
        return None if value is None else int(parse_quantity(str(value)))
    except CacheError:
        return None
