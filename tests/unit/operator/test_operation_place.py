"""Where an operation ran, and how another one follows it."""

from __future__ import annotations

from typing import Any

from csi.operator.operation_place import HOSTNAME, place_of, sent_after
from csi.operator.resolved_load import Predecessor

LABELS = {HOSTNAME: "node-1", "topology.kubernetes.io/zone": "z", "rack": "r", "other": "o"}
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
PLACE = place_of(LABELS, {"data-operation.fluid.io/affinity.labels": "rack, missing"})


def expression(name: str) -> dict[str, Any]:
    return {"key": name, "operator": "In", "values": [LABELS[name]]}


def after(affinity: str, **more: Any) -> Predecessor:
    return Predecessor("DataLoad", "lab", "first", affinity, **more)


def test_what_is_kept_of_a_node() -> None:
    (term,) = PLACE[REQUIRED]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [expression(name) for name in (HOSTNAME, "topology.kubernetes.io/zone", "rack")]
    old = place_of(LABELS, {"affinity.dataflow.fluid.io/labels": "rack"})
    assert old == PLACE
    assert place_of({}, {}) == {}


def test_the_same_node_by_default() -> None:
    required = sent_after({}, after("Require"), PLACE)["nodeAffinity"][REQUIRED]["nodeSelectorTerms"]
    assert required == [{"matchExpressions": [expression(HOSTNAME)]}]
    (preferred,) = sent_after({}, after("Prefer"), PLACE)["nodeAffinity"][PREFERRED]
    assert preferred == {"weight": 100, "preference": {"matchExpressions": [expression(HOSTNAME)]}}


def test_what_is_asked_for_is_added_to_what_is_there() -> None:
    own = {"matchExpressions": [{"key": "a", "operator": "Exists"}]}
    affinity = {"podAffinity": {}, "nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [own, {}]}}}
    sent = sent_after(affinity, after("Require", requires=("rack", "missing")), PLACE)
    assert sent["podAffinity"] == {}
    assert sent["nodeAffinity"][REQUIRED]["nodeSelectorTerms"] == [
        {"matchExpressions": [*own["matchExpressions"], expression("rack")]},
        {"matchExpressions": [expression("rack")]},
    ], "terms are alternatives"
    preferred = sent_after(affinity, after("Prefer", prefers=(("rack", 500),)), PLACE)["nodeAffinity"][PREFERRED]
    assert [one["weight"] for one in preferred] == [100]


def test_nothing_is_asked_for() -> None:
    assert sent_after({"a": 1}, after(""), PLACE) == {"a": 1}
    assert sent_after({"a": 1}, after("Require"), {}) == {"a": 1}
    assert sent_after({"a": 1}, after("Require", requires=("missing",)), PLACE) == {"a": 1}
