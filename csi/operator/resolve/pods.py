"""What objects say about pods, as far as it is passed on: of the runtime as a whole, and of each of its parts."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from typing import Any

from csi.operator.model.cache_runtime import CachePart
from csi.operator.model.foreign_image import VersionSpec
from csi.operator.model.structure import Structure
from csi.operator.model.traits import (
    FusePart,
    Part,
    WithAnnotations,
    WithDeprecatedLabels,
    WithEnvList,
    WithEnvMap,
    WithNetworkMode,
    WithPodMetadata,
    WithPullSecrets,
    WithTolerations,
    WithVolumeMounts,
    WithVolumes,
)
from csi.operator.names import OWN_DOMAIN
from csi.operator.resolve.findings import Findings
from csi.operator.resolved import PodOptions

HOST_NETWORK = "HostNetwork"
RESERVED_VOLUMES = "fusecache-"  # names of volumes that begin with it are ours
RESERVED_DIRECTORIES = ("/etc/fusecache", "/cache", "/custody", "/memory", "/claims", "/local", "/tmp", "/proc", "/dev", "/sys")


def pod_options(structure: Structure) -> PodOptions:
    """Return what a part of a runtime, or its spec, passes on."""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    env: tuple[Mapping[str, Any], ...] = ()
    if isinstance(structure, WithDeprecatedLabels):
        labels |= structure.labels
    if isinstance(structure, WithAnnotations):
        annotations |= structure.annotations
    if isinstance(structure, WithPodMetadata):
        labels |= structure.pod_metadata.labels
        annotations |= structure.pod_metadata.annotations
    if isinstance(structure, WithEnvMap):
        env = tuple({"name": name, "value": value} for name, value in structure.env.items())
    if isinstance(structure, WithEnvList):
        env = tuple(structure.env)
    return PodOptions(
        labels=labels,
        annotations=annotations,
        env=env,
        resources=structure.resources if isinstance(structure, Part | FusePart | CachePart) else {},
        node_selector=structure.node_selector if isinstance(structure, Part | FusePart | CachePart) else {},
        tolerations=tuple(structure.tolerations) if isinstance(structure, WithTolerations) else (),
        volumes=tuple(structure.volumes) if isinstance(structure, WithVolumes) else (),
        volume_mounts=tuple(structure.volume_mounts) if isinstance(structure, WithVolumeMounts) else (),
        image_pull_secrets=tuple(structure.image_pull_secrets) if isinstance(structure, WithPullSecrets) else (),
        image_pull_policy=_pull_policy(structure),
        host_network=isinstance(structure, WithNetworkMode) and structure.network_mode == HOST_NETWORK,
    )


def merged(*options: PodOptions) -> PodOptions:
    """Return several as one: of maps and of lists with names, later entries replace earlier ones of the same name."""
    return PodOptions(
        labels=_joined(each.labels for each in options),
        annotations=_joined(each.annotations for each in options),
        env=_by("name", (each.env for each in options)),
        resources=_resources(each.resources for each in options),
        node_selector=_joined(each.node_selector for each in options),
        tolerations=_distinct(entry for each in options for entry in each.tolerations),
        volumes=_by("name", (each.volumes for each in options)),
        volume_mounts=_by("mountPath", (each.volume_mounts for each in options)),
        image_pull_secrets=_distinct(entry for each in options for entry in each.image_pull_secrets),
        image_pull_policy=next((each.image_pull_policy for each in reversed(options) if each.image_pull_policy), ""),
        host_network=any(each.host_network for each in options),
    )


def check_labels(options: Iterable[PodOptions], findings: Findings) -> None:
    """Refuse labels and annotations below our own domain: the operator finds its pods by them."""
    for each in options:
        for kind, keys in (("label", each.labels), ("annotation", each.annotations)):
            own = sorted(key for key in keys if is_ours(key))
            if own:
                findings.refuse(f"podMetadata: the {kind} {own[0][:100]} is ours to set: leave it out", on_runtime=True)


def check_volumes(options: Iterable[PodOptions], findings: Findings) -> None:
    """Refuse volumes that would stand in the place of ours, or over the program itself."""
    for each in options:
        if any(str(volume.get("name", "")).startswith(RESERVED_VOLUMES) for volume in each.volumes):
            findings.refuse(f"volumes: names that begin with {RESERVED_VOLUMES} are ours: choose another one", on_runtime=True)
        for mount in each.volume_mounts:
            if _is_reserved(str(mount.get("mountPath", ""))):
                message = "volumeMounts: a mountPath is in a directory that the cache needs: choose another one"
                findings.refuse(message, on_runtime=True)


def _is_reserved(mount_path: str) -> bool:
    path = "/" + posixpath.normpath(mount_path).lstrip("/")
    return path == "/" or any(path == own or path.startswith(f"{own}/") for own in RESERVED_DIRECTORIES)


def is_ours(key: str) -> bool:
    """Whether a label or an annotation is one that the operator goes by."""
    domain = key.partition("/")[0] if "/" in key else ""
    return domain == OWN_DOMAIN or domain.endswith(f".{OWN_DOMAIN}")


def _pull_policy(structure: Structure) -> str:
    """Of the image that is named there, or in a field: alluxioVersion of a spec, version or runtimeVersion of a part."""
    if isinstance(structure, VersionSpec):
        return structure.image_pull_policy
    images = (value for _, value in structure if type(value) is VersionSpec)
    return next((image.image_pull_policy for image in images), "")


def _joined(maps: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {key: value for each in maps for key, value in each.items()}


def _resources(several: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Join `requests` and `limits` entry by entry."""
    joined: dict[str, Any] = {}
    for each in several:
        for key, value in each.items():
            before = joined.get(key)
            joined[key] = {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
    return joined


def _by(key: str, several: Iterable[tuple[Mapping[str, Any], ...]]) -> tuple[Mapping[str, Any], ...]:
    found: dict[str, Mapping[str, Any]] = {}
    for each in several:
        for entry in each:
            found[repr(entry.get(key))] = entry
    return tuple(found.values())


def _distinct(entries: Iterable[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    found: list[Mapping[str, Any]] = []
    for entry in entries:
        if entry not in found:
            found.append(entry)
    return tuple(found)
