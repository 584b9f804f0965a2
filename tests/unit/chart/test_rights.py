"""Who may do what: the least that works, nothing on nodes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from csi.operator.model.kinds import KINDS
from csi.operator.names import GROUP
from tests.support.controller_surroundings import documented_rules

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROLES = ("ClusterRole", "Role")


def _rules(objects: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for each in objects:
        if each["kind"] in ROLES:
            yield from ((each, rule) for rule in each["rules"])


def test_nothing_is_allowed_with_an_asterisk(objects: list[dict[str, Any]]) -> None:
    rules = list(_rules(objects))
    assert len(rules) > 10
    for role, rule in rules:
        for key in ("apiGroups", "resources", "verbs"):
            assert not [one for one in rule[key] if "*" in one], role["metadata"]["name"]
        assert "nonResourceURLs" not in rule


def test_secrets_are_read_one_by_one(objects: list[dict[str, Any]]) -> None:
    found = [(role, rule) for role, rule in _rules(objects) if "secrets" in rule["resources"]]
    assert found
    for role, rule in found:
        assert not {"list", "watch", "deletecollection"} & set(rule["verbs"]), role["metadata"]["name"]


def _allowed(rules: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
    return {
        (group, one, verb) for rule in rules for group in rule["apiGroups"] for one in rule["resources"] for verb in rule["verbs"]
    }


def test_the_controller_may_do_what_is_documented(objects: list[dict[str, Any]]) -> None:
    """What is documented is what tests of the controller give it (tests/cluster/test_controller.py)."""
    (role,) = (each for each in objects if each["kind"] == "ClusterRole" and each["metadata"]["name"] == "fusecache-controller")
    assert _allowed(role["rules"]) == _allowed(documented_rules())


def test_the_operator_may_read_the_definitions_of_all_kinds(objects: list[dict[str, Any]]) -> None:
    """What it may not read it takes for one of its own version (csi/operator/app/definitions_check.py)."""
    (rule,) = (rule for _, rule in _rules(objects) if "customresourcedefinitions" in rule["resources"])
    assert set(rule["resourceNames"]) == {f"{kind.plural}.{GROUP}" for kind in KINDS.values()}
    assert rule["verbs"] == ["get"]


def test_nobody_gives_rights_to_himself(objects: list[dict[str, Any]]) -> None:
    for role, rule in _rules(objects):
        assert "rbac.authorization.k8s.io" not in rule["apiGroups"], role["metadata"]["name"]
        assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"])
        assert not {"pods/exec", "serviceaccounts/token", "nodes/proxy"} & set(rule["resources"])


def test_only_operator_and_controller_write_nodes(objects: list[dict[str, Any]]) -> None:
    writers = {
        role["metadata"]["name"] for role, rule in _rules(objects) if "nodes" in rule["resources"] and "patch" in rule["verbs"]
    }
    assert writers == {"fusecache-operator", "fusecache-controller"}
    for role, rule in _rules(objects):
        if "nodes" in rule["resources"]:
            assert not {"create", "update", "delete"} & set(rule["verbs"]), role["metadata"]["name"]
    bindings = [each for each in objects if each["kind"] == "ClusterRoleBinding" and each["roleRef"]["name"] in writers]
    accounts = {subject["name"] for binding in bindings for subject in binding["subjects"]}
    assert accounts == {"fusecache-operator", "fusecache-controller"}


def test_each_role_is_bound_once_to_an_account_that_is_there(objects: list[dict[str, Any]]) -> None:
    accounts = {(each["metadata"]["namespace"], each["metadata"]["name"]) for each in objects if each["kind"] == "ServiceAccount"}
    roles = {(each["kind"], each["metadata"]["name"]) for each in objects if each["kind"] in ROLES}
    bindings = [each for each in objects if each["kind"].endswith("Binding")]
    assert sorted((each["roleRef"]["kind"], each["roleRef"]["name"]) for each in bindings) == sorted(roles)
    bound = {(one["namespace"], one["name"]) for each in bindings for one in each["subjects"]}
    assert bound == accounts


def test_pods_on_every_node_have_no_token_and_no_account(workloads: list[dict[str, Any]]) -> None:
    of_nodes = [each for each in workloads if each["kind"] == "DaemonSet"]
    assert {each["metadata"]["name"] for each in of_nodes} == {"fusecache-node", "fusecache-custody"}
    for each in of_nodes:
        spec = each["spec"]["template"]["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert "serviceAccountName" not in spec
        assert not [one for one in spec["volumes"] if "projected" in one or "secret" in one]
