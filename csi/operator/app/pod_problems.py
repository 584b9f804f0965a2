"""Why a pod of ours does not run, as Kubernetes tells it: an image that is not there, a container that ends, no room. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_PULLING = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
_MAKING = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_MAX_MESSAGE = 500


def pod_problems(pods: Iterable[Mapping[str, Any]], kind: str = "cache pod") -> list[str]:
    """Return a sentence for each pod that something keeps from running; the same one only once. `kind`: what they are called."""
    return list(dict.fromkeys(problem for pod in pods if (problem := _problem(pod, kind))))


def _problem(pod: Mapping[str, Any], kind: str) -> str:
    which, status = f"{kind} {pod['metadata']['name']}", pod.get("status", {})
    for one in status.get("conditions", ()):
        if one["type"] == "PodScheduled" and one["status"] == "False":
            return f"{which} finds no place: {one.get('message', '')[:_MAX_MESSAGE]}"
    for container in status.get("containerStatuses", ()):
        waiting = container.get("state", {}).get("waiting", {})
        reason, message = waiting.get("reason", ""), waiting.get("message", "")[:_MAX_MESSAGE]
        if reason in _PULLING:
            return f"the image {container.get('image', '')} of {which} cannot be had ({reason}): {message}"
        if reason in _MAKING:
            return f"{which} cannot be started ({reason}): {message}"
        ended = container.get("lastState", {}).get("terminated", {})
        if reason == "CrashLoopBackOff" and ended:
            said = ended.get("message", "").strip()[-_MAX_MESSAGE:] or f"it ended with {ended.get('exitCode')}"
            return f"{which} ends again and again: {said}"
    return ""
