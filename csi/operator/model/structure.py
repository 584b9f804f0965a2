"""What structures of the model are made of: fields that carry their meaning, what becomes of them, and their schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import EllipsisType
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, model_validator
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo

from csi.operator.model.marks import IgnoredWhen, Mark

FROM_MANIFEST = "manifest"  # the validation context of `parsing`: keys are those of JSON, names of attributes are not


@dataclass(frozen=True, slots=True, eq=False)
class Schema:
    """The schema of an annotated type, where it is not the one of the Python type. `title`: the type's name in documents."""

    fragment: Mapping[str, Any]
    title: str


@dataclass(frozen=True, slots=True)
class Rule:
    """A condition on a structure that the API server checks: a CEL expression about `self`, with the message of its violation."""

    expression: str
    message: str


@dataclass(frozen=True, slots=True, eq=False)
class Notes:
    """What a field says besides its type.

    `written`: the API server writes the default into objects. `default_text`: what happens without a value, where the default
    alone does not say it. `required`: of the schema; may have a default in Python, where we are the writer. `below`: marks of
    single fields of the structure, by their JSON key, where the mark does not hold for the whole of it.
    """

    mark: Mark
    description: str
    required: bool
    written: Any
    default_text: str
    ignored_when: tuple[IgnoredWhen, ...]
    below: Mapping[str, Mark]
    limits: Mapping[str, Any]


class Structure(BaseModel):
    """A part of an object.

    Unknown keys are let through (`ignored` names them), and null is as good as absent, as it is for the API server.
    """

    model_config = ConfigDict(alias_generator=to_camel, extra="ignore", frozen=True, populate_by_name=True, strict=True)
    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _only_known_values(cls, raw: Any, info: ValidationInfo) -> Any:
        if not isinstance(raw, dict):
            return raw
        given = {key: value for key, value in raw.items() if value is not None}
        if info.context == FROM_MANIFEST:
            keys = {json_key(name, field) for name, field in cls.model_fields.items()}
            return {key: value for key, value in given.items() if key in keys}
        return given

    def to_raw(self) -> dict[str, Any]:
        """Return what stands in a manifest or a status: required fields, and those that differ from their default."""
        raw = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if notes_of(field).required or value != field.get_default(call_default_factory=True):
                raw[json_key(name, field)] = _plain(value)
        return raw


def field(
    mark: Mark,
    description: str,
    default: Any = ...,
    *,
    alias: str | None = None,
    written: Any = None,
    required: bool = False,
    default_text: str = "",
    ignored_when: IgnoredWhen | tuple[IgnoredWhen, ...] = (),
    below: Mapping[str, Mark] | None = None,
    **limits: Any,
) -> Any:
    """Declare a field of a structure; without a default it is required. `limits`: ge, le, min_length, max_length, pattern."""
    whens = (ignored_when,) if isinstance(ignored_when, IgnoredWhen) else ignored_when
    needed = required or isinstance(default, EllipsisType)
    info: FieldInfo = Field(default, alias=alias, description=description, **limits)
    info.metadata.append(Notes(mark, description, needed, written, default_text, whens, below or {}, limits))
    return info


def status_field(description: str, default: Any, *, required: bool = False, never: bool = False, alias: str | None = None) -> Any:
    """Declare a field that the operator writes. `never`: it is there for clients that know it, and stays empty."""
    mark = Mark.SILENT if never else Mark.HONOURED
    return field(mark, description, default, required=required, alias=alias)


def notes_of(info: FieldInfo) -> Notes:
    return next(entry for entry in info.metadata if isinstance(entry, Notes))


def json_key(name: str, info: FieldInfo) -> str:
    return info.alias or name


def _plain(value: Any) -> Any:
    if isinstance(value, Structure):
        return value.to_raw()
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return value
