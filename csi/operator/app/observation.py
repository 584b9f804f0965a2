"""What there is of a Dataset: its nodes are chosen and labelled, its pods looked at, its daemons asked. Keeps nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from csi.operator.app.attachments import Attachments
from csi.operator.app.daemons import Daemons
from csi.operator.app.known import NODES, PODS, Key, Known
from csi.operator.app.pod_problems import pod_problems
from csi.operator.app.statuses import Seen
from csi.operator.figures import add_up
from csi.operator.placement import Node, choose_workers
from csi.operator.render.cache_pod import CONFIG_DIGEST
from csi.operator.render.object_names import CONSUMER, ROLE_LABEL, WORKER, node_label, selector
from csi.operator.render.pod_role import requested_memory
from csi.operator.render.surroundings import Installation
from csi.operator.resolved import Problem, Resolved

STORE_FAILED, PODS_FAILED = "StoreFailed", "CachePodsFailed"


class Observer:
    def __init__(self, known: Known, daemons: Daemons, attachments: Attachments, installation: Installation) -> None:
        self._known = known
        self._daemons = daemons
        self._attachments = attachments
        self._installation = installation
        # Two that chose at a time would both take the emptiest node, or each have it for itself alone.
        self._choosing = asyncio.Lock()

    async def observe(self, resolved: Resolved, token: str, digests: Mapping[str, str]) -> Seen:
        """`digests`: of the configuration that pods of each role are to have. Raises: ApiError, OSError."""
        key = (resolved.namespace, resolved.name)
        async with self._choosing:
            nodes = [Node.of_json(raw) for raw in self._known.all(NODES)]
            memory = requested_memory(resolved, self._installation)
            placement = choose_workers(resolved, nodes, memory, self._installation.plugin_selector)
            await self._attachments.label_nodes(resolved, nodes, placement.workers)
        pods = cache_pods(self._known, key)
        ready = [pod for pod in pods if is_ready(pod)]
        caching = [pod for pod in pods if role_of(pod) == WORKER]
        workers, others = await asyncio.gather(
            self._daemons.statuses(addresses(caching), token),
            self._daemons.statuses(addresses(pod for pod in pods if pod not in caching), token),
        )
        figures = add_up(workers.statuses, others.statuses)
        label = node_label(*key)
        mounting = {node.name for node in nodes if node.labels.get(label) == CONSUMER}
        problems = []
        if not figures.answered:
            problems = [Problem(STORE_FAILED, said, heals=True) for said in (*workers.problems, *others.problems)]
            problems += [Problem(PODS_FAILED, said, heals=True) for said in pod_problems(pods)]
        return Seen(
            figures=figures,
            workers_chosen=len(placement.workers),
            workers_ready=len(_nodes(pod for pod in caching if pod in ready) & set(placement.workers)),
            mounts_wanted=len(mounting),
            mounts_ready=len(_nodes(ready) & mounting),
            worker_reason=placement.reason,
            problems=problems,
            is_updating=any(_config_of(pod) not in ("", digests.get(role_of(pod), "")) for pod in pods),
            references=[f"{namespace}/{name}" for namespace, name in self._known.referring(key)],
        )


def cache_pods(known: Known, key: Key) -> list[dict[str, Any]]:
    """Return the cache pods of a Dataset that are not on their way out."""
    wanted = selector(key[1]).items()
    return [
        pod
        for pod in known.all(PODS)
        if pod["metadata"]["namespace"] == key[0]
        and wanted <= pod["metadata"].get("labels", {}).items()
        and "deletionTimestamp" not in pod["metadata"]
    ]


def addresses(pods: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return where pods that run can be asked."""
    running = (pod["status"] for pod in pods if pod.get("status", {}).get("phase") == "Running")
    return [status["podIP"] for status in running if status.get("podIP")]


def is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def wanted_digests(raws: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the digest of the configuration of each role, as the DaemonSets that were rendered say it."""
    templates = [raw["spec"]["template"]["metadata"] for raw in raws if raw["kind"] == "DaemonSet"]
    return {one["labels"][ROLE_LABEL]: one["annotations"][CONFIG_DIGEST] for one in templates}


def role_of(pod: Mapping[str, Any]) -> str:
    return str(pod["metadata"].get("labels", {}).get(ROLE_LABEL, ""))


def _config_of(pod: Mapping[str, Any]) -> str:
    return str(pod["metadata"].get("annotations", {}).get(CONFIG_DIGEST, ""))


def _nodes(pods: Iterable[Mapping[str, Any]]) -> set[str]:
    return {pod["spec"].get("nodeName", "") for pod in pods}
