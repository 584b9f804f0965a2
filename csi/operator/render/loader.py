"""The Job or CronJob of a DataLoad: a pod that asks the cache pods of a Dataset to load, and tells how far they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from csi.operator.names import API_VERSION
from csi.operator.render.cache_pod import RESTRICTED, restricted_pod
from csi.operator.render.credentials import TOKEN_KEY, secret
from csi.operator.render.object_names import COMPONENT_LABEL, DATASET_LABEL, MANAGED_BY, loader_name, service_name, token_name
from csi.operator.render.surroundings import HTTP_PORT, Identity, Installation
from csi.operator.resolve.pods import RESERVED_VOLUMES
from csi.operator.resolved_load import ResolvedLoad
from csi.volumes.inline import uid_of

PLAN = "FUSECACHE_LOAD"  # the loader's environment has the plan of the load as JSON
_TOKEN_DIRECTORY = "/etc/fusecache-token"
_RETRIES = 3
_CONTAINER = "loader"
_IN_VAIN = (2, 3)  # exit statuses (fusecache/contract/exit_status.py): a plan that is wrong, a target that is not there
_DEFAULT_RESOURCES: Mapping[str, Any] = {"requests": {"cpu": "50m", "memory": "64Mi"}}


def loader(load: ResolvedLoad, installation: Installation, identity: Identity) -> dict[str, Any]:
    """Return the Job, or for Cron the CronJob. `identity`: of the DataLoad."""
    labels = {
        **load.pod.labels,
        "role": "dataload-pod",
        "targetDataset": load.dataset,
        DATASET_LABEL: load.dataset,
        COMPONENT_LABEL: "loader",
        **MANAGED_BY,
    }
    metadata: dict[str, Any] = {
        "name": loader_name(load.name, is_repeated=load.policy == "Cron"),
        "namespace": load.namespace,
        "labels": labels,
        "ownerReferences": [_owner(load, identity)],
    }
    job = _job(load, installation, labels)
    if load.policy != "Cron":
        return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": job}
    metadata["labels"] = {**labels, "fluid.io/jobPolicy": "cron"}
    spec = {
        "schedule": load.schedule,
        "concurrencyPolicy": "Forbid",
        "successfulJobsHistoryLimit": 1,
        "failedJobsHistoryLimit": 1,
        "jobTemplate": {"metadata": {"labels": labels}, "spec": job},
    }
    return {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": metadata, "spec": spec}


def loader_token_secret(load: ResolvedLoad, token: str, identity: Identity) -> dict[str, Any] | None:
    """Return the Secret with which a loader proves who it is, None where that of the Dataset lies in its namespace.

    A load through a reference runs in another namespace than the cache. `token`: of the Dataset that has the cache.
    """
    if load.namespace == load.dataset_namespace:
        return None
    metadata = {
        "name": _token_secret_name(load),
        "namespace": load.namespace,
        "labels": {DATASET_LABEL: load.dataset, COMPONENT_LABEL: "loader", **MANAGED_BY},
        "ownerReferences": [_owner(load, identity)],
    }
    return secret(metadata, {TOKEN_KEY: token})


def plan(load: ResolvedLoad) -> str:
    """Return what the loader does, as JSON."""
    return json.dumps(
        {
            "version": 1,
            "service": f"{service_name(load.dataset)}.{load.dataset_namespace}.svc",
            "port": HTTP_PORT,
            "targets": [{"path": target.path, "is_pattern": target.is_pattern} for target in load.targets],
            "refresh": load.refresh,
            "metadata_only": load.metadata_only,
            "dry_run": load.dry_run,
            "name_filter": load.name_filter,
            "file_list": load.file_list,
            "list_root": load.list_root,
            "parallel": load.parallel,
            **({"copies": load.copies} if load.copies > 1 else {}),
        },
        sort_keys=True,
    )


def _token_secret_name(load: ResolvedLoad) -> str:
    return token_name(load.dataset) if load.namespace == load.dataset_namespace else f"{load.name}-loader-token"


def _owner(load: ResolvedLoad, identity: Identity) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": "DataLoad",
        "name": load.name,
        "uid": identity.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _job(load: ResolvedLoad, installation: Installation, labels: Mapping[str, str]) -> dict[str, Any]:
    """A restarted loader finds loaded what was loaded before, so that trying again costs little."""
    template = {"metadata": {"labels": dict(labels), "annotations": dict(load.pod.annotations)}, "spec": _pod(load, installation)}
    in_vain = {"containerName": _CONTAINER, "operator": "In", "values": list(_IN_VAIN)}
    rules = [
        {"action": "FailJob", "onExitCodes": in_vain},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},  # a drained node is no failure
    ]
    spec: dict[str, Any] = {
        "backoffLimit": _RETRIES,
        "completions": 1,
        "parallelism": 1,
        "podFailurePolicy": {"rules": rules},
        "template": template,
    }
    return {**spec, "activeDeadlineSeconds": max(1, int(load.timeout_seconds))} if load.timeout_seconds else spec


def _pod(load: ResolvedLoad, installation: Installation) -> dict[str, Any]:
    volume = f"{RESERVED_VOLUMES}token"
    container: dict[str, Any] = {
        "name": _CONTAINER,
        "image": installation.image,
        "command": ["python", "-m", "fusecache.pod.load"],
        "env": [{"name": PLAN, "value": plan(load)}],
        "ports": [{"name": "http", "containerPort": HTTP_PORT}],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "resources": dict(load.pod.resources) or dict(_DEFAULT_RESOURCES),
        "securityContext": RESTRICTED,
        "volumeMounts": [{"name": volume, "mountPath": _TOKEN_DIRECTORY, "readOnly": True}],
    }
    if installation.pull_policy:
        container["imagePullPolicy"] = installation.pull_policy
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": restricted_pod(uid_of(load.dataset_namespace, load.dataset)),
        "containers": [container],
        "volumes": [
            {
                "name": volume,
                "secret": {
                    "secretName": _token_secret_name(load),
                    "items": [{"key": TOKEN_KEY, "path": TOKEN_KEY}],
                    "defaultMode": 0o444,
                },
            }
        ],
    }
    optional = {
        "affinity": dict(load.affinity),
        "tolerations": list(load.pod.tolerations),
        "nodeSelector": dict(load.pod.node_selector),
        "schedulerName": load.scheduler_name,
        "imagePullSecrets": installation.all_pull_secrets(load.pod.image_pull_secrets),
    }
    return {**spec, **{key: value for key, value in optional.items() if value}}
