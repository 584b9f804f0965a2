"""Datasets, runtimes and pods that use them, as dictionaries: what tests in a cluster create where no article has a manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

API_VERSION = "data.fluid.io/v1alpha1"
SECRET = "store-keys"
RESTRICTED_POD = {"runAsNonRoot": True, "runAsUser": 10_001, "seccompProfile": {"type": "RuntimeDefault"}}
RESTRICTED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def dataset(name: str, mounts: Sequence[Mapping[str, Any]], **spec: Any) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": "Dataset", "metadata": {"name": name}, "spec": {"mounts": list(mounts), **spec}}


def s3_mount(url: str, endpoint_url: str, *, secret: str = SECRET, **mount: Any) -> dict[str, Any]:
    """A mount whose keys are in a Secret as `keys` makes it."""
    encrypted = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": name}}}
        for name in ("aws.accessKeyId", "aws.secretKey")
    ]
    options = {"alluxio.underfs.s3.endpoint": endpoint_url, "alluxio.underfs.s3.region": "us-east-1"}
    return {"mountPoint": url, "name": "data", "path": "/", "options": options, "encryptOptions": encrypted, **mount}


def keys(access_key: str, secret_key: str, name: str = SECRET) -> dict[str, Any]:
    values = {"aws.accessKeyId": access_key, "aws.secretKey": secret_key}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}


def runtime(name: str, replicas: int = 1, quota: str = "1Gi", medium: str = "SSD", **spec: Any) -> dict[str, Any]:
    tier = {"mediumtype": medium, "path": "/dev/shm" if medium == "MEM" else "/cache", "quota": quota}
    given = {"replicas": replicas, "tieredstore": {"levels": [tier]}, **spec}
    return {"apiVersion": API_VERSION, "kind": "AlluxioRuntime", "metadata": {"name": name}, "spec": given}


def reading_pod(name: str, claim: str, *, script: str = "", node: str = "", **spec: Any) -> dict[str, Any]:
    """A pod as namespaces that enforce `restricted` want it; the claim is at /data. `script`: of bash, else it waits."""
    container = {
        "name": "main",
        "image": "nginx",
        "securityContext": RESTRICTED,
        "volumeMounts": [{"name": "data", "mountPath": "/data", "mountPropagation": "HostToContainer"}],
    }
    if script:
        container |= {"command": ["/bin/bash"], "args": ["-c", script]}
    given = {
        "securityContext": RESTRICTED_POD,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1,
        "containers": [container],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
        **({"nodeSelector": {"kubernetes.io/hostname": node}} if node else {}),
        **spec,
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": given}
