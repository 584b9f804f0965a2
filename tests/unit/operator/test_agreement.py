"""What the schema lets into a cluster can be parsed, and most of what it refuses is refused, too.

The parser does not look into types of Kubernetes (tolerations, volumes, ...), so it may take what the schema refuses.
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from csi.operator.crds.definition import definition
from csi.operator.model.cache_tiers import CacheLevel, CacheTieredStore, HostPath
from csi.operator.model.ignored import ignored_fields
from csi.operator.model.kinds import KINDS
from csi.operator.model.parsing import parse
from fusecache.contract.errors import CacheError
from tests.support.structural_schema import Node, refusals

TEXTS = ("", "a", "s3://bucket", "1Gi", "5", "1e3", "-1")
WRONG = (-1, 2**40, "odd", True, [], {}, 0.5, None)
RULES = tuple(rule.message for structure in (CacheLevel, CacheTieredStore, HostPath) for rule in structure.rules)


def some_value(node: Node, random: Random) -> Any:
    """Return a value of a schema; one in fifty is wrong."""
    if random.random() < 0.02:
        return random.choice(WRONG)
    if "enum" in node:
        return random.choice(node["enum"])
    if node.get("x-kubernetes-int-or-string"):
        return random.choice((3, *TEXTS[3:]))
    match node["type"]:
        case "object" if "additionalProperties" in node:
            return {
                key: some_value(node["additionalProperties"], random) for key in random.sample(["a", "b.c"], random.randrange(3))
            }
        case "object":
            return some_object(node, random)
        case "array":
            return [some_value(node["items"], random) for _ in range(random.randrange(3))]
        case "string":
            return random.choice(TEXTS)
        case "integer":
            return random.randrange(4)
    return random.random() < 0.5


def some_object(node: Node, random: Random) -> dict[str, Any]:
    properties, required = node.get("properties", {}), node.get("required", [])
    keys = {key for key in properties if random.random() < (0.98 if key in required else 3 / len(properties))}
    return {key: some_value(properties[key], random) for key in sorted(keys)}


def without_nulls(value: Any) -> Any:
    """Return what is left when the API server has dropped the nulls."""
    if isinstance(value, dict):
        return {key: without_nulls(each) for key, each in value.items() if each is not None}
    return [without_nulls(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_schema_lets_in_is_parsed(kind: str) -> None:
    random = Random(kind)
    schema = definition(KINDS[kind])["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    keys = schema["properties"].keys() - {"apiVersion", "kind", "metadata", "status"}
    part = {**schema, "properties": {key: schema["properties"][key] for key in sorted(keys)}}
    accepted = parsed = 0
    for _ in range(100):
        raw = {"apiVersion": "data.fluid.io/v1alpha1", "kind": kind, "metadata": {"name": "a"}, **some_object(part, random)}
        refused = refusals(schema, without_nulls(raw))
        assert all(path.startswith(tuple(keys)) for path in ignored_fields(kind, raw))
        told = refusal(raw)
        if told and not refused:
            assert any(message in told for message in RULES), (told, raw)
        accepted += not refused
        parsed += not told
    assert accepted > 10
    assert parsed > 10


def refusal(raw: dict[str, Any]) -> str:
    try:
        parse(raw)
    except CacheError as error:
        return str(error)
    return ""
