"""Objects of Kubernetes that tests create: pods on a certain node, and what reaches them. Functions that return dictionaries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.support.kubectl import Kubectl

RUNNING_SECONDS = 90.0


def pod(name: str, image: str, node: str, command: Sequence[str] = (), **spec: Any) -> dict[str, Any]:
    """Return a pod of one container, bound to a node by a selector: the scheduler sees it as any other.

    Args:
        spec: further fields of the pod; those of its container are under `container`.
    """
    container = {"name": "main", "image": image, "imagePullPolicy": "Never", **spec.pop("container", {})}
    if command:
        container["command"] = list(command)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node},
            "terminationGracePeriodSeconds": 1,
            "containers": [container],
            **spec,
        },
    }


def service(name: str, pod_name: str, port: int) -> dict[str, Any]:
    """Return a service for a pod."""
    spec = {"selector": {"app": pod_name}, "ports": [{"port": port, "targetPort": port}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def wait_running(kubectl: Kubectl, *names: str) -> dict[str, str]:
    """Wait until pods run, and return name -> address. Raises: AssertionError with the pod and its events."""
    addresses = {}
    for name in names:
        try:
            running = kubectl.wait_for(["pod", name], is_running, RUNNING_SECONDS)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{kubectl('describe', 'pod', name)[-3000:]}") from None
        addresses[name] = str(running["status"]["podIP"])
    return addresses


def is_running(pod: dict[str, Any]) -> bool:
    statuses = pod.get("status", {}).get("containerStatuses", [])
    return pod.get("status", {}).get("phase") == "Running" and all("running" in status["state"] for status in statuses)
