"""Structural schemas of structures, as the API server wants them: every node with its type, nothing shared, no references.

In what users write, every object lets unknown keys through. Strict clients would refuse a manifest with a key that is missing
here, and the API server would drop it silently for all others; once through, the key is named in a Warning. Marking `spec` alone
would not do: below an object with properties of its own the API server goes back to dropping.
"""

from __future__ import annotations

from typing import Any

from csi.operator.crds.wording import explanation
from csi.operator.model.fields import Items, Leaf, Member, Shape, mark_below, members
from csi.operator.model.marks import Mark
from csi.operator.model.structure import Structure

Node = dict[str, Any]

OPEN = {"x-kubernetes-preserve-unknown-fields": True}
_LIMITS_OF_TEXT = {"min_length": "minLength", "max_length": "maxLength", "pattern": "pattern"}
_LIMITS_OF_LISTS = {"min_length": "minItems", "max_length": "maxItems"}
_LIMITS_OF_NUMBERS = {"ge": "minimum", "le": "maximum"}


def schema_of(structure: type[Structure], *, written_by_us: bool) -> Node:
    """Return the schema of an object. `written_by_us`: a status, whose fields are all known."""
    return _Schemas(written_by_us).object(structure, None, None)


def property_of(member: Member, *, written_by_us: bool) -> Node:
    """Return the schema of one field, with what is below it."""
    return _Schemas(written_by_us).property(member, member.notes.mark)


class _Schemas:
    def __init__(self, written_by_us: bool) -> None:
        self._written_by_us = written_by_us

    def object(self, structure: type[Structure], holder: Member | None, holder_mark: Mark | None) -> Node:
        node: Node = {"type": "object"}
        if not self._written_by_us:
            node |= OPEN
        if structure.rules:
            node["x-kubernetes-validations"] = [{"rule": rule.expression, "message": rule.message} for rule in structure.rules]
        required = [member.key for member in members(structure) if member.notes.required]
        if required:
            node["required"] = required
        properties = {}
        for member in members(structure):
            inherited = mark_below(holder, holder_mark, member.key) if holder and holder_mark else None
            properties[member.key] = self.property(member, inherited or member.notes.mark)
        return {**node, "properties": properties} if properties else node

    def property(self, member: Member, mark: Mark) -> Node:
        node: Node = {"description": explanation(member, mark, self._written_by_us)}
        if member.notes.written is not None:
            node["default"] = member.notes.written
        return node | self._shape(member.shape, member, mark) | _limits(member)

    def _shape(self, shape: Shape, member: Member, mark: Mark) -> Node:
        if isinstance(shape, Leaf):
            return dict(shape.schema.fragment)
        if isinstance(shape, Items):
            return {"type": "array", "items": self._shape(shape.each, member, mark)}
        return self.object(shape.structure, member, mark)


def _limits(member: Member) -> Node:
    if isinstance(member.shape, Items):
        names = _LIMITS_OF_LISTS
    elif isinstance(member.shape, Leaf) and member.shape.schema.fragment.get("type") == "integer":
        names = _LIMITS_OF_NUMBERS
    else:
        names = _LIMITS_OF_TEXT
    return {names[name]: value for name, value in member.notes.limits.items()}
