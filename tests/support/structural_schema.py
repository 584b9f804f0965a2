"""Schemas of CustomResourceDefinitions: whether they are structural, and what the API server would say to a manifest.

An independent reading of the rules at https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
(structural schemas, field pruning), not of our generator. CEL rules are not evaluated.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jsonschema import Draft202012Validator

Node = dict[str, Any]

_ALLOWED = {
    "type",
    "description",
    "properties",
    "required",
    "items",
    "additionalProperties",
    "enum",
    "pattern",
    "format",
    "default",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-int-or-string",
    "x-kubernetes-validations",
}
_TYPES = {"object", "array", "string", "integer", "boolean", "number"}
_PRESERVE, _INT_OR_STRING = "x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string"


def faults(node: Node, path: str = "") -> Iterator[str]:
    """Yield what is wrong with a schema."""
    for key in node.keys() - _ALLOWED:
        yield f"{path}: {key} is not allowed"
    if node.get(_INT_OR_STRING):
        if "type" in node:
            yield f"{path}: an int-or-string has no type"
    elif node.get("type") not in _TYPES:
        yield f"{path}: no type"
    if "properties" in node and "additionalProperties" in node:
        yield f"{path}: properties and additionalProperties exclude each other"
    if not set(node.get("required", [])) <= node.get("properties", {}).keys():
        yield f"{path}: requires what it does not have"
    if ("items" in node) != (node.get("type") == "array"):
        yield f"{path}: items belong to arrays"
    if "default" in node:
        yield from (f"{path}: {error}" for error in refusals(node, node["default"]))
    if any(len(rule["message"]) > 2048 or "\n" in rule["message"] for rule in node.get("x-kubernetes-validations", [])):
        yield f"{path}: a message is one short line"
    for key, inner in _children(node):
        yield from faults(inner, f"{path}{key}")


def refusals(schema: Node, value: Any) -> list[str]:
    """Return what a strict client hears: unknown fields are errors, but where the schema lets them through."""
    found = Draft202012Validator(_strict(schema)).iter_errors(value)
    return sorted(f"{error.json_path}: {error.message}" for error in found)


def at(schema: Node, path: str) -> Node:
    """Return the schema of a field. `path`: such as spec.mounts[].name."""
    for part in path.split("."):
        name = part.removesuffix("[]")
        schema = schema["properties"][name]
        schema = schema["items"] if part.endswith("[]") else schema
    return schema


def _children(node: Node) -> Iterator[tuple[str, Node]]:
    for name, inner in node.get("properties", {}).items():
        yield f".{name}", inner
    if "items" in node:
        yield "[]", node["items"]
    if isinstance(node.get("additionalProperties"), dict):
        yield "{}", node["additionalProperties"]


def _strict(node: Node) -> Node:
    """Return the schema in the language of JSON Schema."""
    strict = {
        key: value for key, value in node.items() if not key.startswith("x-") and key not in ("description", "default", "format")
    }
    if node.get(_INT_OR_STRING):
        strict["type"] = ["integer", "string"]
    if "properties" in node:
        strict["properties"] = {name: _strict(inner) for name, inner in node["properties"].items()}
        strict["additionalProperties"] = bool(node.get(_PRESERVE))
    if "items" in node:
        strict["items"] = _strict(node["items"])
    if isinstance(node.get("additionalProperties"), dict):
        strict["additionalProperties"] = _strict(node["additionalProperties"])
    return strict
