"""The pod that caches and serves a Dataset on a node: as restricted as pods can be, with what users pass on.

It runs as the Dataset's own uid without any capability; the node plugin, which has some, mounts for it and hands over the mount.
"""

from __future__ import annotations

from typing import Any

from csi.operator.names import OWN_DOMAIN
from csi.operator.render.object_names import ROLE_LABEL, fluid_id, labels, node_label, pods_name
from csi.operator.render.pod_role import PodRole, resources
from csi.operator.render.pod_volumes import mounts, volumes
from csi.operator.render.surroundings import HTTP_PORT, PEER_PORT, Identity, Installation
from csi.operator.resolved import Resolved
from csi.volumes.inline import uid_of

CONFIG_DIGEST = f"{OWN_DOMAIN}/config-digest"
CONTAINER = "fuse"
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


def pod_template(
    resolved: Resolved, role: PodRole, installation: Installation, identity: Identity, config_digest: str
) -> dict[str, Any]:
    """Return the template of cache pods of a role. Another digest is another template: the pods are replaced."""
    namespace, name, options = resolved.namespace, resolved.name, role.options
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
        "securityContext": _security(resolved),
        "affinity": {"nodeAffinity": _on_labelled_nodes(node_label(namespace, name), role.name)},
        "tolerations": [{"operator": "Exists"}],
        "terminationGracePeriodSeconds": _GRACE_WHEN_WRITTEN_SECONDS if resolved.read_write else _GRACE_SECONDS,
        "containers": [_container(resolved, role, installation)],
        "volumes": [*volumes(resolved, role, installation), *options.volumes],
    }
    if installation.priority_class:
        spec["priorityClassName"] = installation.priority_class
    if secrets := installation.all_pull_secrets(options.image_pull_secrets):
        spec["imagePullSecrets"] = secrets
    if options.host_network:
        spec |= {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}
    scraped = {"prometheus.io/scrape": "true", "prometheus.io/port": str(HTTP_PORT), "prometheus.io/path": "/metrics"}
    annotations = {**(scraped if resolved.is_scraped else {}), **options.annotations, CONFIG_DIGEST: config_digest}
    metadata = {"labels": {**options.labels, **fluid, **labels(name, "cache"), ROLE_LABEL: role.name}, "annotations": annotations}
    return {"metadata": metadata, "spec": spec}


def _security(resolved: Resolved) -> dict[str, Any]:
    context = restricted_pod(uid_of(resolved.namespace, resolved.name))
    return context if resolved.source_group is None else {**context, "supplementalGroups": [resolved.source_group]}


def _on_labelled_nodes(label: str, value: str) -> dict[str, Any]:
    terms = [{"matchExpressions": [{"key": label, "operator": "In", "values": [value]}]}]
    return {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}


def _container(resolved: Resolved, role: PodRole, installation: Installation) -> dict[str, Any]:
    options = role.options
    own = [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in _FROM_POD.items()]
    container = {
        "name": CONTAINER,
        "image": installation.image,
        "command": ["python", "-m", "fusecache.pod"],
        "env": [*(each for each in options.env if each.get("name") not in _FROM_POD), *own],
        "ports": [{"name": "http", "containerPort": HTTP_PORT}, {"name": "peers", "containerPort": PEER_PORT}],
        "resources": resources(role, installation),
        "securityContext": RESTRICTED,
        # A pod that waits for a Secret, or for its source, lives: to start it again would bring neither.
        "startupProbe": _probe("/livez", 2, failures=60),
        "livenessProbe": _probe("/livez", 10, failures=6),
        "readinessProbe": _probe("/healthz", 5, failures=3),
        "volumeMounts": [*mounts(resolved, role), *options.volume_mounts],
    }
    policy = options.image_pull_policy or installation.pull_policy
    return {**container, "imagePullPolicy": policy} if policy else container


def _probe(path: str, period_seconds: int, failures: int) -> dict[str, Any]:
    request = {"path": path, "port": HTTP_PORT}
    return {"httpGet": request, "periodSeconds": period_seconds, "timeoutSeconds": 5, "failureThreshold": failures}
