"""The volumes of cache pods, and where they are mounted. Directories of nodes come from the node plugin, none by hostPath.

A directory of the user's (of a tier, or of a local:// mount) is an inline volume of its own: the plugin gives it out only below
what the administrator allows, and tells custody the same place of a tier.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from csi.operator.names import OWN_DOMAIN
from csi.operator.render.credentials import OWN_KEY, TOKEN_KEY, wanted
from csi.operator.render.mount_config import FILE
from csi.operator.render.object_names import credentials_name, pods_name, token_name
from csi.operator.render.pod_role import PodRole
from csi.operator.render.surroundings import Installation
from csi.operator.resolve.mount_point import CLAIMS, NODE
from csi.operator.resolve.pods import RESERVED_VOLUMES
from csi.operator.resolved import Resolved, ResolvedTier
from csi.volumes.inline import DATASET, DIRECTORY, HOST_PATH, TIER, Directory
from fusecache.base.units import MIB
from fusecache.contract.mount_spec import Medium

_CONFIG, _CACHE, _CUSTODY, _MEMORY, _TEMPORARY = "/etc/fusecache", "/cache", "/custody", "/memory", "/tmp"
_SLACK_BYTES = 64 * MIB  # of a volume beside the blocks: headers of containers, whole pages; a guess
_TEMPORARY_LIMIT = "64Mi"


def volumes(resolved: Resolved, role: PodRole, installation: Installation) -> list[dict[str, Any]]:
    name = resolved.name
    found: list[dict[str, Any]] = [
        {"name": _volume("cache"), "csi": _inline(Directory.CACHE, name, installation, {})},
        {"name": _volume("custody"), "csi": _inline(Directory.CUSTODY, name, installation, _of_mount(resolved))},
    ]
    if role.memory_tier_bytes:
        limit = str(role.memory_tier_bytes + _SLACK_BYTES)
        found.append({"name": _volume("memory"), "emptyDir": {"medium": "Memory", "sizeLimit": limit}})
    for tier in _passing(role):
        limit = str(tier.quota_bytes * 11 // 10 + _SLACK_BYTES)  # a pod that exceeds it is evicted
        found.append({"name": _volume(tier.directory), "emptyDir": {"sizeLimit": limit}})
    for tier in _elsewhere(role):
        attributes = {TIER: tier.directory, HOST_PATH: tier.host_path}
        found.append({"name": _volume(tier.directory), "csi": _inline(Directory.TIER, name, installation, attributes)})
    config, *others = source_volumes(resolved, role, installation)
    return [config, *found, *others]


def source_volumes(resolved: Resolved, role: PodRole, installation: Installation) -> list[dict[str, Any]]:
    """Return what is needed to ask the sources: the configuration, the first of them, with credentials; claims; directories."""
    name = resolved.name
    tokens = [{"key": key, "path": f"token/{key}"} for key in (TOKEN_KEY, OWN_KEY)]
    sources: list[dict[str, Any]] = [
        {"configMap": {"name": pods_name(name), "items": [{"key": role.config_key, "path": FILE}]}},
        {"secret": {"name": token_name(name), "items": tokens, "optional": True}},
    ]
    if files := [file for file, _ in wanted(resolved)]:
        items = [{"key": file, "path": f"credentials/{file}"} for file in files]
        sources.append({"secret": {"name": credentials_name(name), "items": items, "optional": True}})
    found: list[dict[str, Any]] = [
        # One projected volume: a volume cannot be mounted into a ConfigMap, which is read-only.
        {"name": _volume("config"), "projected": {"defaultMode": 0o444, "sources": sources}},
        {"name": _volume("tmp"), "emptyDir": {"sizeLimit": _TEMPORARY_LIMIT}},
    ]
    for number, claim in enumerate(_claims(resolved)):
        found.append({"name": _volume(f"claim-{number}"), "persistentVolumeClaim": {"claimName": claim}})
    for number, path in enumerate(_node_directories(resolved)):
        local = _inline(Directory.LOCAL, name, installation, {HOST_PATH: path})
        found.append({"name": _volume(f"node-{number}"), "csi": {**local, "readOnly": not resolved.read_write}})
    return found


def mounts(resolved: Resolved, role: PodRole) -> list[dict[str, Any]]:
    places = {"cache": _CACHE, "custody": _CUSTODY}
    if role.memory_tier_bytes:
        places["memory"] = _MEMORY
    found: list[dict[str, Any]] = [{"name": _volume(name), "mountPath": path} for name, path in places.items()]
    for tier in (*_passing(role), *_elsewhere(role)):
        found.append({"name": _volume(tier.directory), "mountPath": f"{_CACHE}/{tier.directory}"})
    return [*source_mounts(resolved, role), *found]


def source_mounts(resolved: Resolved, role: PodRole) -> list[dict[str, Any]]:
    """Return the mounts of `source_volumes`."""
    is_read = not resolved.read_write
    found: list[dict[str, Any]] = [
        {"name": _volume("config"), "mountPath": _CONFIG, "readOnly": True},
        {"name": _volume("tmp"), "mountPath": _TEMPORARY},
    ]
    for number, claim in enumerate(_claims(resolved)):
        found.append({"name": _volume(f"claim-{number}"), "mountPath": f"{CLAIMS}/{claim}", "readOnly": is_read})
    for number, path in enumerate(_node_directories(resolved)):
        found.append({"name": _volume(f"node-{number}"), "mountPath": NODE + path, "readOnly": is_read})
    return found


def _of_mount(resolved: Resolved) -> dict[str, str]:
    """Return what custody is to mount. It is the same for both roles: a node that changes its role keeps its mount."""
    on_node = [tier for tier in resolved.tiers if not tier.is_empty_dir]
    tiers = [f"{tier.directory}={quote(tier.host_path)}" if tier.host_path else tier.directory for tier in on_node]
    return {
        f"{OWN_DOMAIN}/read-write": "true" if resolved.read_write else "",
        f"{OWN_DOMAIN}/serve-processes": resolved.settings.get("serve_processes", ""),
        f"{OWN_DOMAIN}/verify": resolved.settings.get("verify", ""),
        f"{OWN_DOMAIN}/tiers": ",".join(tiers),
    }


def _passing(role: PodRole) -> list[ResolvedTier]:
    """Return the tiers on disks that go with the pod. They have volumes of their own below the cache directory."""
    return [tier for tier in role.tiers if tier.is_empty_dir and tier.medium is not Medium.MEM]


def _elsewhere(role: PodRole) -> list[ResolvedTier]:
    """Return the tiers in directories that users named. They are mounted below the cache directory, too."""
    return [tier for tier in role.tiers if tier.host_path]


def _volume(name: str) -> str:
    return RESERVED_VOLUMES + name


def _claims(resolved: Resolved) -> list[str]:
    return sorted({source.claim for source in resolved.sources if source.claim})


def _node_directories(resolved: Resolved) -> list[str]:
    return sorted({source.host_path for source in resolved.sources if source.host_path})


def _inline(directory: Directory, dataset: str, installation: Installation, more: Mapping[str, str]) -> dict[str, Any]:
    attributes = {DIRECTORY: directory.value, DATASET: dataset, **{key: value for key, value in more.items() if value}}
    return {"driver": installation.driver, "volumeAttributes": attributes}
