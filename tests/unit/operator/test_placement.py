"""Which nodes cache a Dataset."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csi.operator.placement import EXCLUSIVE_LABEL, Node, choose_workers, exclusive_changes, label_changes
from csi.operator.render.object_names import CONSUMER, WORKER, node_label
from csi.operator.resolved import PodOptions, Resolved

KEY = node_label("team", "demo")
OTHER = node_label("team", "other")


def resolved(replicas: int = 1, **more: Any) -> Resolved:
    return Resolved("team", "demo", "AlluxioRuntime", replicas=replicas, **more)


def nodes(*labels: dict[str, str], **more: Any) -> list[Node]:
    return [Node(f"n{number}", one, **more) for number, one in enumerate(labels)]


def test_the_label_is_a_label() -> None:
    prefix, _, name = node_label("n" * 63, "d" * 63).partition("/")
    assert prefix == "fusecache.io"
    assert len(name) <= 63
    assert node_label("a", "b-c") != node_label("a-b", "c")


def test_workers_stay_and_are_spread() -> None:
    assert choose_workers(resolved(), nodes({}, {KEY: WORKER}, {})).workers == ("n1",)
    assert choose_workers(resolved(2), nodes({OTHER: WORKER}, {}, {KEY: WORKER})).workers == ("n2", "n1")
    assert choose_workers(resolved(), nodes({}, {KEY: CONSUMER})).workers == ("n1",), "where it is mounted anyway"
    assert choose_workers(resolved(1), nodes({KEY: WORKER}, {KEY: WORKER})).workers == ("n0",), "scaled in"
    assert choose_workers(resolved(0), nodes({KEY: WORKER})).workers == ()


def test_more_replicas_than_nodes() -> None:
    placement = choose_workers(resolved(3), [*nodes({}, {"disk": "none"}), Node("down", is_usable=False)])
    assert placement.workers == ("n0", "n1")
    assert "2 of 3 workers" in placement.reason
    assert "1 not ready" in placement.reason


def test_a_worker_whose_node_is_down_stays() -> None:
    down = Node("n0", {KEY: WORKER}, is_usable=False)
    assert choose_workers(resolved(), [down, Node("n1")]).workers == ("n0",)
    assert choose_workers(resolved(), [down, Node("n1", {KEY: WORKER})]).workers == ("n1",), "scaled in"


@pytest.mark.parametrize(("condition", "stays"), [("not-ready", True), ("disk-pressure", True), ("out-of-service", False)])
def test_taints_that_come_by_themselves(condition: str, stays: bool) -> None:
    """A node that rebooted lost its role, and the 256Mi that are left to a consumer threw its cache away."""
    taints = [{"key": f"node.kubernetes.io/{condition}", "effect": effect} for effect in ("NoSchedule", "NoExecute")]
    conditions = [{"type": "Ready", "status": "Unknown"}]
    down = Node.of_json(
        {"metadata": {"name": "n0", "labels": {KEY: WORKER}}, "spec": {"taints": taints}, "status": {"conditions": conditions}}
    )
    assert choose_workers(resolved(), [down, Node("n1")]).workers == (("n0",) if stays else ("n1",))
    fresh = Node("n0", taints=taints)
    assert choose_workers(resolved(), [fresh]).workers == (), "nobody begins to cache there"


def test_nodes_without_the_node_plugin() -> None:
    """The pod could not be made there, and the choice was kept."""
    found = nodes({}, {"storage": "yes"}, {"storage": "yes", "kubernetes.io/os": "windows"}, {KEY: WORKER})
    placement = choose_workers(resolved(2), found, plugin_selector={"storage": "yes"})
    assert placement.workers == ("n1",)
    assert "3 of them are shut out" in placement.reason


def test_a_node_that_is_drained_is_no_worker() -> None:
    taints = [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]
    assert choose_workers(resolved(), [Node("n0", {KEY: WORKER}, taints, is_usable=False), Node("n1")]).workers == ("n1",)


@pytest.mark.parametrize(
    ("tolerations", "fits"),
    [
        ((), False),
        (({"operator": "Exists"},), True),
        (({"key": "gpu", "operator": "Exists"},), True),
        (({"key": "gpu", "value": "yes", "effect": "NoSchedule"},), True),
        (({"key": "gpu", "value": "no"},), False),
        (({"key": "gpu", "operator": "Exists", "effect": "NoExecute"},), False),
    ],
)
def test_taints(tolerations: Any, fits: bool) -> None:
    tainted = nodes({}, taints=[{"key": "gpu", "value": "yes", "effect": "NoSchedule"}])
    assert bool(choose_workers(resolved(worker=PodOptions(tolerations=tolerations)), tainted).workers) == fits
    soft = nodes({}, taints=[{"key": "gpu", "value": "yes", "effect": "PreferNoSchedule"}])
    assert choose_workers(resolved(), soft).workers == ("n0",)


@pytest.mark.parametrize(
    ("expression", "chosen"),
    [
        ({"key": "zone", "operator": "In", "values": ["a", "b"]}, ("n0", "n1")),
        ({"key": "zone", "operator": "NotIn", "values": ["a"]}, ("n1", "n2")),
        ({"key": "zone", "operator": "Exists"}, ("n0", "n1")),
        ({"key": "zone", "operator": "DoesNotExist"}, ("n2",)),
        ({"key": "disks", "operator": "Gt", "values": ["2"]}, ("n0",)),
        ({"key": "disks", "operator": "Lt", "values": ["3"]}, ("n1",)),
        ({"key": "zone", "operator": "Unknown"}, ()),
    ],
)
def test_node_affinity(expression: dict[str, Any], chosen: tuple[str, ...]) -> None:
    every = nodes({"zone": "a", "disks": "4"}, {"zone": "b", "disks": "2"}, {})
    assert choose_workers(resolved(3, node_affinity=({"matchExpressions": [expression]},)), every).workers == chosen
    assert choose_workers(resolved(3, node_affinity=({},)), every).workers == ()
    by_name = ({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]},)
    assert choose_workers(resolved(3, node_affinity=by_name), every).workers == ("n2",)


def test_exclusive_datasets_share_no_node() -> None:
    every = nodes({OTHER: WORKER}, {})
    assert choose_workers(resolved(2, is_exclusive=True), every).workers == ("n1",)
    assert "another Dataset" in choose_workers(resolved(2, is_exclusive=True), every).reason
    assert choose_workers(resolved(2), nodes({OTHER: WORKER, EXCLUSIVE_LABEL: "true"}, {})).workers == ("n1",)


@pytest.mark.parametrize(
    ("has", "is_worker", "is_attached", "kept", "on_demand"),
    [
        ("", False, False, None, None),
        ("", False, True, CONSUMER, CONSUMER),
        ("", True, True, WORKER, WORKER),
        (CONSUMER, True, True, WORKER, WORKER),
        (CONSUMER, False, False, CONSUMER, None),
        (WORKER, False, True, CONSUMER, CONSUMER),
        (WORKER, False, False, None, None),
        (WORKER, True, False, WORKER, WORKER),
    ],
)
def test_labels_follow_workers_and_attachments(
    has: str, is_worker: bool, is_attached: bool, kept: str | None, on_demand: str | None
) -> None:
    (node,) = nodes({KEY: has} if has else {})
    for drops_consumers, becomes in ((False, kept), (True, on_demand)):
        workers, attached = [node.name] * is_worker, {node.name} if is_attached else set()
        changes = label_changes(KEY, [node], workers, attached, drops_consumers=drops_consumers)
        assert changes == ({} if becomes == (has or None) else {node.name: becomes})


def test_what_is_said_of_nodes_that_are_shared_with_nobody() -> None:
    every = [
        Node("n0", {KEY: WORKER}),
        Node("n1"),
        Node("n2", {KEY: CONSUMER}),
        Node("n3", {OTHER: WORKER, EXCLUSIVE_LABEL: "true"}),
    ]
    assert exclusive_changes(resolved(), every, ("n1",)) == {}
    assert exclusive_changes(resolved(is_exclusive=True), every, ("n1", "n2")) == {"n1": "true", "n2": "true"}
    taken = [Node("n0", {KEY: WORKER, EXCLUSIVE_LABEL: "true"})]
    assert exclusive_changes(resolved(is_exclusive=True), taken, ("n0",)) == {}
    assert exclusive_changes(resolved(), taken, ("n0",)) == {"n0": None}, "it is shared now"
    assert exclusive_changes(resolved(is_exclusive=True), taken, ()) == {"n0": None}


def test_a_worker_needs_memory_for_its_tiers() -> None:
    ready = {"type": "Ready", "status": "True"}
    every = [
        Node.of_json({"metadata": {"name": name}, "status": {"conditions": [ready], "allocatable": {"memory": memory}}})
        for name, memory in (("n0", "1Gi"), ("n1", "8148676Ki"), ("n2", "4Gi"))
    ]
    assert [node.memory_bytes for node in every] == [1 << 30, 8148676 << 10, 4 << 30]
    placement = choose_workers(resolved(3), every, 4 << 30)
    assert placement.workers == ("n1", "n2")
    assert "1 have less memory than a worker asks for (4.00GiB)" in placement.reason
    assert choose_workers(resolved(), nodes({KEY: WORKER}, memory_bytes=1), 2).workers == (), "its pod would not be scheduled"
    assert choose_workers(resolved(), nodes({}), 1 << 50).workers == ("n0",), "of some nothing is known"


@given(
    st.integers(0, 6),
    st.lists(st.tuples(st.sampled_from(["", WORKER, CONSUMER]), st.booleans()), max_size=6),
)
def test_choosing_again_changes_nothing(replicas: int, described: list[tuple[str, bool]]) -> None:
    every = [Node(f"n{number}", {KEY: role} if role else {}, (), usable) for number, (role, usable) in enumerate(described)]
    first = choose_workers(resolved(replicas), every)
    assert len(set(first.workers)) == len(first.workers) <= replicas
    assert bool(first.reason) == (len(first.workers) < replicas)
    labelled = [Node(one.name, {KEY: WORKER} if one.name in first.workers else {}, (), one.is_usable) for one in every]
    assert set(choose_workers(resolved(replicas), labelled).workers) == set(first.workers)
