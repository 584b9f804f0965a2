"""All objects of a Dataset, in the order in which they are applied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from csi.operator.render.cache_pod import pod_template
from csi.operator.render.credentials import credentials_secret
from csi.operator.render.mount_config import config_map, digest, mount_config
from csi.operator.render.object_names import WORKER, owned, pods_name, selector, service_name
from csi.operator.render.pod_role import PodRole, roles
from csi.operator.render.surroundings import HTTP_PORT, PEER_PORT, Identity, Installation
from csi.operator.render.volumes import claim, persistent_volume
from csi.operator.resolved import Resolved


def render(
    resolved: Resolved, credentials: Mapping[str, str], installation: Installation, identity: Identity
) -> list[dict[str, Any]]:
    """Return everything but the Secret of the token, which is made once and kept. `credentials`: see credentials.collect.

    A reference has a volume alone: the pods and the cache are its target's. Without mounts, there is no volume, and none but its
    own for a Dataset that was made for a claim. The PV comes first, and its claim last: the cluster's controller does not like to
    see them the other way round.
    """
    volume, its_claim = persistent_volume(resolved, installation, identity), claim(resolved, installation, identity)
    if resolved.reference:
        return [volume, its_claim]
    both = roles(resolved)
    configs = {role.config_key: mount_config(resolved, role.tiers, credentials, owns_blocks=role.name == WORKER) for role in both}
    pods = [service_account(resolved, identity), config_map(resolved, configs, identity)]
    if credentials:
        pods.append(credentials_secret(resolved, credentials, identity))
    pods.append(service(resolved, identity))
    pods += [daemon_set(resolved, role, installation, identity, digest(configs[role.config_key])) for role in both]
    return [volume, *pods, its_claim] if resolved.has_mount and not resolved.has_own_volume else pods


def service_account(resolved: Resolved, identity: Identity) -> dict[str, Any]:
    """Return the account by which the node plugin knows the pods. It may do nothing in the cluster."""
    metadata = owned(resolved, identity, pods_name(resolved.name))
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata, "automountServiceAccountToken": False}


def service(resolved: Resolved, identity: Identity) -> dict[str, Any]:
    """Return the headless service by which those that cache are found, before they are ready as well."""
    spec = {
        "clusterIP": "None",
        "ports": [
            {"name": "http", "port": HTTP_PORT, "targetPort": "http"},
            {"name": "peers", "port": PEER_PORT, "targetPort": "peers"},
        ],
        "publishNotReadyAddresses": True,
        "selector": selector(resolved.name, WORKER),
    }
    metadata = owned(resolved, identity, service_name(resolved.name))
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def daemon_set(
    resolved: Resolved, role: PodRole, installation: Installation, identity: Identity, config_digest: str
) -> dict[str, Any]:
    """Return the DaemonSet of the cache pods of a role. A new pod is there before the old one goes, and takes over its mount; on
    the network of the node there is no room for two, as both have the same port."""
    surge = {"maxSurge": 0, "maxUnavailable": 1} if role.options.host_network else {"maxSurge": 1, "maxUnavailable": 0}
    spec = {
        "selector": {"matchLabels": selector(resolved.name, role.name)},
        "template": pod_template(resolved, role, installation, identity, config_digest),
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": surge},
    }
    metadata = owned(resolved, identity, role.set_name)
    return {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata, "spec": spec}
