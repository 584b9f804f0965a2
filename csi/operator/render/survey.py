"""The Job that asks the sources of a Dataset that nobody caches or mounts: may they be read, and how much is there?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from csi.operator.render.cache_pod import CONFIG_DIGEST, RESTRICTED, restricted_pod
from csi.operator.render.mount_config import digest, mount_config
from csi.operator.render.object_names import labels, owned, pods_name, survey_name
from csi.operator.render.pod_role import roles
from csi.operator.render.pod_volumes import source_mounts, source_volumes
from csi.operator.render.surroundings import Identity, Installation
from csi.operator.resolved import Resolved
from csi.volumes.inline import uid_of

COMPONENT = "survey"
DEADLINE_SECONDS = 3600  # a guess: a web site of a million files takes half of it
_RESOURCES = {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}}


def survey_digest(resolved: Resolved, credentials: Mapping[str, str]) -> str:
    """Return what tells one survey from another: sources with other options are asked anew."""
    return digest(mount_config(resolved, roles(resolved)[0].tiers, credentials))


def survey_job(
    resolved: Resolved, credentials: Mapping[str, str], installation: Installation, identity: Identity
) -> dict[str, Any]:
    role = roles(resolved)[0]
    container: dict[str, Any] = {
        "name": "survey",
        "image": installation.image,
        "command": ["python", "-m", "fusecache.pod.survey"],
        "resources": _RESOURCES,
        "securityContext": RESTRICTED,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": source_mounts(resolved, role),
    }
    if policy := role.options.image_pull_policy or installation.pull_policy:
        container["imagePullPolicy"] = policy
    context = restricted_pod(uid_of(resolved.namespace, resolved.name))
    if resolved.source_group is not None:
        context["supplementalGroups"] = [resolved.source_group]
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "serviceAccountName": pods_name(resolved.name),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": context,
        "containers": [container],
        "volumes": source_volumes(resolved, role, installation),
    }
    if resolved.worker.tolerations:
        pod["tolerations"] = list(resolved.worker.tolerations)
    if any(source.host_path for source in resolved.sources):  # it is on some nodes only; a store is reached from each
        pod |= _where(resolved)
    if secrets := installation.all_pull_secrets(role.options.image_pull_secrets):
        pod["imagePullSecrets"] = secrets
    metadata = owned(resolved, identity, survey_name(resolved.name), COMPONENT)
    metadata["annotations"] = {CONFIG_DIGEST: survey_digest(resolved, credentials)}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": DEADLINE_SECONDS,
            "template": {"metadata": {"labels": labels(resolved.name, COMPONENT)}, "spec": pod},
        },
    }


def _where(resolved: Resolved) -> dict[str, Any]:
    """Return what makes a pod run where the Dataset may be cached."""
    found: dict[str, Any] = {}
    if resolved.worker.node_selector:
        found["nodeSelector"] = dict(resolved.worker.node_selector)
    if resolved.node_affinity:
        terms = {"nodeSelectorTerms": list(resolved.node_affinity)}
        found["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    return found
