"""The pod that caches and serves a Dataset on a node: as restricted as pods can be, with what users pass on.

It runs as the Dataset's own uid without any capability; the node plugin, which has some, mounts for it and hands over the mount.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from csi.operator.formats import parse_quantity
from csi.operator.names import OWN_DOMAIN
from csi.operator.render.credentials import TOKEN_KEY, wanted
from csi.operator.render.mount_config import FILE
from csi.operator.render.object_names import (
    credentials_name,
    fluid_id,
    labels,
    node_label,
    pods_name,
    token_name,
)
from csi.operator.render.surroundings import HTTP_PORT, PEER_PORT, Identity, Installation
from csi.operator.resolve.mount_point import CLAIMS, NODE
from csi.operator.resolve.pods import RESERVED_VOLUMES, merged
from csi.operator.resolved import PodOptions, Resolved, ResolvedTier
from csi.volumes.inline import DATASET, DIRECTORY, Directory, uid_of
from fusecache.base.units import MIB
from fusecache.contract.errors import CacheError
from fusecache.contract.mount_spec import Medium

CONFIG_DIGEST = f"{OWN_DOMAIN}/config-digest"
_CONFIG, _CACHE, _CUSTODY, _MEMORY, _TEMPORARY = "/etc/fusecache", "/cache", "/custody", "/memory", "/tmp"
_SLACK_BYTES = 64 * MIB  # of a volume beside the blocks: headers of containers, whole pages; a guess
_TEMPORARY_LIMIT = "64Mi"
_GRACE_SECONDS = 60
_GRACE_WHEN_WRITTEN_SECONDS = 600  # what is in the journal is uploaded first; a guess
_FROM_POD = {
    "POD_NAME": "metadata.name",
    "POD_NAMESPACE": "metadata.namespace",
    "NODE_NAME": "spec.nodeName",
    "POD_IP": "status.podIP",
}

RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "privileged": False,
    "readOnlyRootFilesystem": True,
}


def restricted_pod(uid: int) -> dict[str, Any]:
    """Return a pod's security context that the Pod Security Standard `restricted` lets through."""
    return {
        "runAsNonRoot": True,
        "runAsUser": uid,
        "runAsGroup": uid,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def pod_template(resolved: Resolved, installation: Installation, identity: Identity, config_digest: str) -> dict[str, Any]:
    """Return the template of cache pods. Another digest is another template: the pods are replaced."""
    options = merged(resolved.fuse, resolved.worker)
    namespace, name = resolved.namespace, resolved.name
    placement = "Exclusive" if resolved.is_exclusive else "Shared"
    fluid = {
        "fluid.io/dataset": fluid_id(namespace, name, identity),
        "fluid.io/dataset-id": fluid_id(namespace, name, identity),
        "fluid.io/dataset-placement": placement,
    }
    spec = {
        "serviceAccountName": pods_name(name),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": restricted_pod(uid_of(namespace, name)),
        "affinity": {"nodeAffinity": _on_labelled_nodes(node_label(namespace, name))},
        "tolerations": [{"operator": "Exists"}],
        "terminationGracePeriodSeconds": _GRACE_WHEN_WRITTEN_SECONDS if resolved.read_write else _GRACE_SECONDS,
        "containers": [_container(resolved, options, installation)],
        "volumes": [*_volumes(resolved, installation), *options.volumes],
    }
    if installation.priority_class:
        spec["priorityClassName"] = installation.priority_class
    if options.image_pull_secrets:
        spec["imagePullSecrets"] = list(options.image_pull_secrets)
    if options.host_network:
        spec |= {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}
    scraped = {"prometheus.io/scrape": "true", "prometheus.io/port": str(HTTP_PORT), "prometheus.io/path": "/metrics"}
    annotations = {**(scraped if resolved.is_scraped else {}), **options.annotations, CONFIG_DIGEST: config_digest}
    metadata = {"labels": {**options.labels, **fluid, **labels(name, "cache")}, "annotations": annotations}
    return {"metadata": metadata, "spec": spec}


def memory_bytes(tiers: tuple[ResolvedTier, ...]) -> int:
    return sum(tier.quota_bytes for tier in tiers if tier.medium is Medium.MEM)


def _on_labelled_nodes(label: str) -> dict[str, Any]:
    terms = [{"matchExpressions": [{"key": label, "operator": "Exists"}]}]
    return {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}


def _container(resolved: Resolved, options: PodOptions, installation: Installation) -> dict[str, Any]:
    own = [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in _FROM_POD.items()]
    container = {
        "name": "fuse",
        "image": installation.image,
        "command": ["python", "-m", "fusecache.pod"],
        "env": [*(each for each in options.env if each.get("name") not in _FROM_POD), *own],
        "ports": [{"name": "http", "containerPort": HTTP_PORT}, {"name": "peers", "containerPort": PEER_PORT}],
        "resources": _resources(options.resources, memory_bytes(resolved.tiers), installation),
        "securityContext": RESTRICTED,
        "startupProbe": _probe(2, failures=60),
        "livenessProbe": _probe(10, failures=6),
        "readinessProbe": _probe(5, failures=3),
        "volumeMounts": [*_mounts(resolved), *options.volume_mounts],
    }
    policy = options.image_pull_policy or installation.pull_policy
    return {**container, "imagePullPolicy": policy} if policy else container


def _probe(period_seconds: int, failures: int) -> dict[str, Any]:
    request = {"path": "/healthz", "port": HTTP_PORT}
    return {"httpGet": request, "periodSeconds": period_seconds, "timeoutSeconds": 5, "failureThreshold": failures}


def _resources(given: Mapping[str, Any], tier_bytes: int, installation: Installation) -> dict[str, Any]:
    """Return resources in which tiers in memory are counted, unless the user has counted them."""
    found = {key: dict(value) if isinstance(value, dict) else value for key, value in given.items()}
    requests, limits = found.setdefault("requests", {}), found.get("limits")
    if isinstance(requests, dict):
        asked = _quantity_bytes(requests.get("memory"))
        if asked is None:
            requests["memory"] = str(installation.daemon_memory_bytes + tier_bytes)
        elif asked < tier_bytes:
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


def _volumes(resolved: Resolved, installation: Installation) -> list[dict[str, Any]]:
    name = resolved.name
    sources: list[dict[str, Any]] = [
        {"configMap": {"name": pods_name(name), "items": [{"key": FILE, "path": FILE}]}},
        {"secret": {"name": token_name(name), "items": [{"key": TOKEN_KEY, "path": f"token/{TOKEN_KEY}"}], "optional": True}},
    ]
    if files := [file for file, _ in wanted(resolved)]:
        items = [{"key": file, "path": f"credentials/{file}"} for file in files]
        sources.append({"secret": {"name": credentials_name(name), "items": items, "optional": True}})
    on_node = [tier.directory for tier in resolved.tiers if not tier.is_empty_dir]
    custody = {
        f"{OWN_DOMAIN}/read-write": "true" if resolved.read_write else "",
        f"{OWN_DOMAIN}/serve-processes": resolved.settings.get("serve_processes", ""),
        f"{OWN_DOMAIN}/verify": resolved.settings.get("verify", ""),
        f"{OWN_DOMAIN}/tiers": ",".join(on_node),
    }
    volumes: list[dict[str, Any]] = [
        # One projected volume: a volume cannot be mounted into a ConfigMap, which is read-only.
        {"name": _volume("config"), "projected": {"defaultMode": 0o444, "sources": sources}},
        {"name": _volume("cache"), "csi": _inline(Directory.CACHE, name, installation, {})},
        {"name": _volume("custody"), "csi": _inline(Directory.CUSTODY, name, installation, custody)},
        {"name": _volume("tmp"), "emptyDir": {"sizeLimit": _TEMPORARY_LIMIT}},
    ]
    if tier_bytes := memory_bytes(resolved.tiers):
        limit = str(tier_bytes + _SLACK_BYTES)
        volumes.append({"name": _volume("memory"), "emptyDir": {"medium": "Memory", "sizeLimit": limit}})
    for tier in _passing(resolved):
        limit = str(tier.quota_bytes * 11 // 10 + _SLACK_BYTES)  # a pod that exceeds it is evicted
        volumes.append({"name": _volume(tier.directory), "emptyDir": {"sizeLimit": limit}})
    for number, claim in enumerate(_claims(resolved)):
        volumes.append({"name": _volume(f"claim-{number}"), "persistentVolumeClaim": {"claimName": claim}})
    for number, path in enumerate(_node_directories(resolved)):
        volumes.append({"name": _volume(f"node-{number}"), "hostPath": {"path": path, "type": "Directory"}})
    return volumes


def _mounts(resolved: Resolved) -> list[dict[str, Any]]:
    places = {"config": _CONFIG, "cache": _CACHE, "custody": _CUSTODY, "tmp": _TEMPORARY}
    if memory_bytes(resolved.tiers):
        places["memory"] = _MEMORY
    found: list[dict[str, Any]] = [{"name": _volume(name), "mountPath": path} for name, path in places.items()]
    found[0]["readOnly"] = True
    found += [{"name": _volume(tier.directory), "mountPath": f"{_CACHE}/{tier.directory}"} for tier in _passing(resolved)]
    is_read = not resolved.read_write
    for number, claim in enumerate(_claims(resolved)):
        found.append({"name": _volume(f"claim-{number}"), "mountPath": f"{CLAIMS}/{claim}", "readOnly": is_read})
    for number, path in enumerate(_node_directories(resolved)):
        found.append({"name": _volume(f"node-{number}"), "mountPath": NODE + path, "readOnly": is_read})
    return found


def _passing(resolved: Resolved) -> list[ResolvedTier]:
    """Return the tiers on disks that go with the pod. They have volumes of their own below the cache directory."""
    return [tier for tier in resolved.tiers if tier.is_empty_dir and tier.medium is not Medium.MEM]


def _volume(name: str) -> str:
    return RESERVED_VOLUMES + name


def _claims(resolved: Resolved) -> list[str]:
    return sorted({source.claim for source in resolved.sources if source.claim})


def _node_directories(resolved: Resolved) -> list[str]:
    return sorted({source.host_path for source in resolved.sources if source.host_path})


def _inline(directory: Directory, dataset: str, installation: Installation, more: Mapping[str, str]) -> dict[str, Any]:
    attributes = {DIRECTORY: directory.value, DATASET: dataset, **{key: value for key, value in more.items() if value}}
    return {"driver": installation.driver, "volumeAttributes": attributes}
