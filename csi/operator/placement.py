"""Which nodes cache a Dataset: chosen once, kept as long as they will do. Pure: nodes in, labels out.

A worker is a node with tiers; a node that only mounts is a consumer, and is labelled when a pod is attached there. Both labels
have the Dataset's key, so that a node is one or the other: a worker that mounts is a worker.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from csi.operator.formats import format_size, parse_quantity
from csi.operator.names import OWN_DOMAIN
from csi.operator.render.object_names import CONSUMER, WORKER, node_label
from csi.operator.resolved import Resolved

EXCLUSIVE_LABEL = f"{OWN_DOMAIN}/exclusive"  # of a node whose worker shares it with no other Dataset's
_REFUSING = ("NoSchedule", "NoExecute")
# Taints that the cluster itself puts on a node for as long as something is wrong with it.
_PASSING = {
    f"node.kubernetes.io/{condition}"
    for condition in ("not-ready", "unreachable", "memory-pressure", "disk-pressure", "pid-pressure", "network-unavailable")
}


@dataclass(frozen=True, slots=True)
class Node:
    """What counts of a node. `is_usable`: ready, and not cordoned. `memory_bytes`: that pods may have; None: nobody says."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[Mapping[str, Any]] = ()
    is_usable: bool = True
    memory_bytes: int | None = None

    @classmethod
    def of_json(cls, raw: Mapping[str, Any]) -> Node:
        spec, conditions = raw.get("spec", {}), raw.get("status", {}).get("conditions", [])
        is_ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
        labels = raw["metadata"].get("labels", {})
        is_usable = is_ready and not spec.get("unschedulable", False)
        memory = raw.get("status", {}).get("allocatable", {}).get("memory")
        memory_bytes = int(parse_quantity(memory)) if memory else None
        return cls(raw["metadata"]["name"], labels, spec.get("taints", ()), is_usable, memory_bytes)

    def workers(self) -> list[str]:
        """Return the keys of Datasets that it caches."""
        return [key for key, value in self.labels.items() if key.startswith(f"{OWN_DOMAIN}/d-") and value == WORKER]


@dataclass(frozen=True, slots=True)
class Placement:
    """`workers`: names of nodes, the wanted number or fewer. `reason`: why there are fewer, in a sentence; else ""."""

    workers: tuple[str, ...]
    reason: str = ""


def choose_workers(
    resolved: Resolved, nodes: Iterable[Node], memory_bytes: int = 0, plugin_selector: Mapping[str, str] | None = None
) -> Placement:
    """Keep workers that may stay, and add the nodes with the fewest other workers. A node that is down for a while stays: what it
    has cached is there when it comes back; one that was cordoned is being drained. `memory_bytes`: that a worker asks for.
    `plugin_selector`: labels of the nodes that have the node plugin."""
    key = node_label(resolved.namespace, resolved.name)
    every = sorted(nodes, key=lambda node: node.name)
    able = [node for node in every if _has_plugin(node, plugin_selector or {})]
    matching = [node for node in able if _may_cache(resolved, node, is_worker=node.labels.get(key) == WORKER)]
    allowed = [node for node in matching if node.memory_bytes is None or node.memory_bytes >= memory_bytes]
    kept = sorted((node for node in allowed if node.labels.get(key) == WORKER), key=lambda node: not node.is_usable)
    kept = kept[: resolved.replicas]
    free = [node for node in allowed if node not in kept and node.is_usable and not _is_taken(resolved, node, key)]
    free.sort(key=lambda node: (node.labels.get(key) != CONSUMER, len(node.workers()), node.name))
    chosen = [*kept, *free[: resolved.replicas - len(kept)]]
    if len(chosen) == resolved.replicas:
        return Placement(tuple(node.name for node in chosen))
    missing = f"{len(matching) - len(allowed)} have less memory than a worker asks for ({format_size(memory_bytes)})"
    parts = [f"{len(every)} nodes", *_shut_out(every, matching), *([missing] if len(allowed) < len(matching) else [])]
    parts += _occupied(resolved, allowed, key)
    reason = (
        f"{len(chosen)} of {resolved.replicas} workers have a node: there are {', '.join(parts)}; lower replicas, or make room"
    )
    return Placement(tuple(node.name for node in chosen), reason)


def label_changes(
    label: str, nodes: Iterable[Node], workers: Collection[str], attached: Collection[str], *, drops_consumers: bool
) -> dict[str, str | None]:
    """Return what a Dataset's label becomes on nodes where it is not right, None where it goes.

    A node that mounts is a consumer unless it is a worker, also when it was one. Without `drops_consumers` a consumer stays one
    after its last pod: its cache is there for the next.
    """
    changes: dict[str, str | None] = {}
    for node in nodes:
        is_kept = node.labels.get(label) == CONSUMER and not drops_consumers
        wanted = WORKER if node.name in workers else CONSUMER if is_kept or node.name in attached else None
        if node.labels.get(label) != wanted:
            changes[node.name] = wanted
    return changes


def exclusive_changes(resolved: Resolved, nodes: Iterable[Node], workers: Collection[str]) -> dict[str, str | None]:
    """Return what EXCLUSIVE_LABEL becomes on nodes where it is not right: it says of a worker whether its Dataset is exclusive.

    On nodes that have nothing to do with the Dataset it is another one's."""
    key = node_label(resolved.namespace, resolved.name)
    changes: dict[str, str | None] = {}
    for node in nodes:
        if node.name in workers or node.labels.get(key) == WORKER:
            wanted = "true" if resolved.is_exclusive and node.name in workers else None
            if node.labels.get(EXCLUSIVE_LABEL) != wanted:
                changes[node.name] = wanted
    return changes


def _has_plugin(node: Node, selector: Mapping[str, str]) -> bool:
    is_linux = node.labels.get("kubernetes.io/os", "linux") == "linux"
    return is_linux and all(node.labels.get(name) == value for name, value in selector.items())


def _may_cache(resolved: Resolved, node: Node, *, is_worker: bool) -> bool:
    taints = [taint for taint in node.taints if not (is_worker and taint["key"] in _PASSING)]
    return (
        all(node.labels.get(name) == value for name, value in resolved.worker.node_selector.items())
        and (not resolved.node_affinity or any(_matches(term, node) for term in resolved.node_affinity))
        and all(_is_tolerated(taint, resolved.worker.tolerations) for taint in taints if taint["effect"] in _REFUSING)
    )


def _is_taken(resolved: Resolved, node: Node, key: str) -> bool:
    others = [other for other in node.workers() if other != key]
    return bool(others) and (resolved.is_exclusive or node.labels.get(EXCLUSIVE_LABEL) == "true")


def _shut_out(every: Sequence[Node], matching: Sequence[Node]) -> list[str]:
    number = len(every) - len(matching)
    return [f"{number} of them are shut out by nodeSelector, nodeAffinity or taints"] if number else []


def _occupied(resolved: Resolved, allowed: Sequence[Node], key: str) -> list[str]:
    taken = [node for node in allowed if _is_taken(resolved, node, key)]
    unusable = [node for node in allowed if not node.is_usable]
    found = [f"{len(unusable)} not ready or cordoned"] if unusable else []
    return [*found, f"{len(taken)} held by another Dataset (placement Exclusive)"] if taken else found


def _is_tolerated(taint: Mapping[str, Any], tolerations: Iterable[Mapping[str, Any]]) -> bool:
    return any(
        one.get("effect", "") in ("", taint["effect"])
        and (
            (one.get("operator", "Equal") == "Exists" and one.get("key", "") in ("", taint["key"]))
            or (one.get("operator", "Equal") == "Equal" and one.get("key") == taint["key"] and _same_value(one, taint))
        )
        for one in tolerations
    )


def _same_value(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    return bool(toleration.get("value", "") == taint.get("value", ""))


def _matches(term: Mapping[str, Any], node: Node) -> bool:
    """One term of a node selector: all of its expressions. An empty term matches nothing, as in Kubernetes."""
    expressions = [(node.labels, one) for one in term.get("matchExpressions", ())]
    expressions += [({"metadata.name": node.name}, one) for one in term.get("matchFields", ())]
    return bool(expressions) and all(_holds(labels, one) for labels, one in expressions)


def _holds(labels: Mapping[str, str], expression: Mapping[str, Any]) -> bool:
    key, operator, values = expression["key"], expression["operator"], expression.get("values", ())
    value = labels.get(key)
    match operator:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt":
            return _is_number(value) and _is_number(values[0]) and _compare(operator, int(value or 0), int(values[0]))
    return False


def _is_number(text: str | None) -> bool:
    return text is not None and text.lstrip("-").isdigit()


def _compare(operator: str, left: int, right: int) -> bool:
    return left > right if operator == "Gt" else left < right
