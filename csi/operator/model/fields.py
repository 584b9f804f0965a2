"""The fields of a structure as data: what schemas, documents and checks are made from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from inspect import get_annotations
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from csi.operator.model.marks import Mark
from csi.operator.model.structure import Notes, Schema, Structure, json_key, notes_of


@dataclass(frozen=True, slots=True, eq=False)
class Leaf:
    """A value whose parts are not ours: a number, a text, a type of Kubernetes."""

    schema: Schema


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    each: Shape


@dataclass(frozen=True, slots=True)
class Nested:
    """A structure of ours."""

    structure: type[Structure]


Shape = Leaf | Items | Nested


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """A field. `key`: in JSON. `default`: in Python."""

    key: str
    shape: Shape
    notes: Notes
    default: Any

    @property
    def nested(self) -> type[Structure] | None:
        """The structure of the value or, for lists, of each entry."""
        shape = self.shape.each if isinstance(self.shape, Items) else self.shape
        return shape.structure if isinstance(shape, Nested) else None


_PLAIN = {
    str: Schema({"type": "string"}, "string"),
    bool: Schema({"type": "boolean"}, "boolean"),
    int: Schema({"type": "integer", "format": "int64"}, "integer"),
}


@cache
def members(structure: type[Structure]) -> tuple[Member, ...]:
    """Return the fields of a structure in the order of reading: those of its bases from left to right, then its own."""
    names = dict.fromkeys(_names(structure))
    return tuple(_member(name, structure.model_fields[name]) for name in names)


def _names(structure: type[Structure]) -> Iterator[str]:
    for base in structure.__bases__:
        if issubclass(base, Structure):
            yield from _names(base)
    yield from (name for name in get_annotations(structure) if name in structure.model_fields)


def members_by_key(structure: type[Structure]) -> dict[str, Member]:
    return {member.key: member for member in members(structure)}


def _member(name: str, info: FieldInfo) -> Member:
    default = info.get_default(call_default_factory=True)
    return Member(json_key(name, info), _shape(info.annotation, info.metadata), notes_of(info), default)


def _shape(annotation: Any, metadata: list[Any] | tuple[Any, ...] = ()) -> Shape:
    schema = next((entry for entry in metadata if isinstance(entry, Schema)), None)
    if schema is not None:
        return Leaf(schema)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _shape(arguments[0], arguments[1:])
    if origin in (Union, UnionType):
        (present,) = [argument for argument in arguments if argument is not NoneType]
        return _shape(present)
    if origin is list:
        return Items(_shape(arguments[0]))
    if origin is Literal:
        return Leaf(Schema({"type": "string", "enum": list(arguments)}, " or ".join(each or '""' for each in arguments)))
    if isinstance(annotation, type) and issubclass(annotation, Structure):
        return Nested(annotation)
    return Leaf(_PLAIN[annotation])


def mark_below(parent: Member, mark: Mark, key: str) -> Mark | None:
    """Return the mark that the field `key` of a structure gets from the field that holds the structure; None: its own counts."""
    if mark & (Mark.IGNORED | Mark.SILENT):
        return parent.notes.below.get(key, mark)
    return None


def walk(structure: type[Structure], before: str = "") -> Iterator[tuple[str, Member, Mark]]:
    """Yield every field below a structure with its path and its mark, `[]` standing for the entries of a list."""
    for member in members(structure):
        yield from _walk(member, f"{before}{member.key}", member.notes.mark)


def _walk(member: Member, path: str, mark: Mark) -> Iterator[tuple[str, Member, Mark]]:
    yield path, member, mark
    if member.nested is None:
        return
    entries = "[]" if isinstance(member.shape, Items) else ""
    for inner in members(member.nested):
        yield from _walk(inner, f"{path}{entries}.{inner.key}", mark_below(member, mark, inner.key) or inner.notes.mark)
