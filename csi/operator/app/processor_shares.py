"""Gives cache pods that run a share of their node's processors, as far as it has room.

Requested CPU is what the kernel divides a busy node by: a pod that requests none gets next to nothing there, and everybody who
reads waits for it (docs/kubernetes-internals.md has figures). In the DaemonSet the request would have the scheduler remove other
pods from a node that is full, even the one that waits for its data. A pod that runs already is given it by kubelet when there is
room, and loses nothing until then.

State: the pods that cannot have it, so that they are asked for once. Used from one event loop.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from lightkube import ApiError

from csi.operator.app.known import PODS, Known
from csi.operator.app.observation import cache_pods, role_of
from csi.operator.objects import Objects
from csi.operator.render.cache_pod import CONTAINER
from csi.operator.render.pod_role import processor_share, roles
from csi.operator.render.surroundings import Installation
from csi.operator.resolved import Resolved

log = logging.getLogger(__name__)

# Everything else below 500 is a refusal: a quota, a role of somebody's own, a cluster that has the call switched off.
AGAIN_CODES = (409, 429)


class ProcessorShares:
    def __init__(self, objects: Objects, known: Known, installation: Installation) -> None:
        self._objects = objects
        self._known = known
        self._installation = installation
        self._refused: set[str] = set()

    async def give(self, resolved: Resolved) -> None:
        """A Dataset goes on without: what the API server says is no reason to hold it up. Raises: OSError."""
        shares = {role.name: processor_share(role, self._installation) for role in roles(resolved)}
        for pod in cache_pods(self._known, (resolved.namespace, resolved.name)):
            share = shares.get(role_of(pod))
            if share and _wants_one(pod) and pod["metadata"]["uid"] not in self._refused:
                await self._give(pod, share)

    async def _give(self, pod: Mapping[str, Any], share: str) -> None:
        metadata, reason = pod["metadata"], "it has just gone, or Kubernetes is older than 1.33 and changes no pod that runs"
        try:
            if await self._objects.resize(PODS, metadata["name"], metadata["namespace"], {CONTAINER: {"cpu": share}}):
                return
        except ApiError as error:
            code, reason = error.status.code or 0, str(error.status.message)
            if code >= 500 or code in AGAIN_CODES:
                log.debug("%s/%s is given its share of the processors later: %s", metadata["namespace"], metadata["name"], reason)
                return
        there = {one["metadata"]["uid"] for one in self._known.all(PODS)}
        self._refused = (self._refused | {metadata["uid"]}) & there
        log.info(
            "%s/%s is given no share of the processors: %s; where nodes are busy, let worker.resources and fuse.resources request"
            " cpu", metadata["namespace"], metadata["name"], reason,
        )  # fmt: skip


def _wants_one(pod: Mapping[str, Any]) -> bool:
    if pod.get("status", {}).get("phase") != "Running":
        return False
    for container in pod["spec"]["containers"]:
        if container["name"] == CONTAINER:
            resources = container.get("resources", {})
            return not any("cpu" in resources.get(what, {}) for what in ("requests", "limits"))
    return False
