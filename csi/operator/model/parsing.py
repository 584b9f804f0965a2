"""From a manifest, as a cluster or a YAML file gives it, to the object it means.

Unknown keys are let through. What cannot be is refused in one sentence that names place, cause and cure; it may end up in an
event, so no value of an option is in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from csi.operator.model.json_path import json_path
from csi.operator.model.kinds import KINDS
from csi.operator.model.object import Object
from csi.operator.model.structure import FROM_MANIFEST
from csi.operator.names import API_VERSION
from fusecache.contract.errors import CacheError, ErrorKind

_STRICT_NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_MAX_VALUE = 60
_MAX_ERRORS = 3
# pydantic's name of an error -> what is needed, and how it is written.
_NEEDED = {
    "string_type": ("text", "put it into quotes"),
    "int_type": ("a whole number", "write it without quotes"),
    "int_from_float": ("a whole number", "leave the fraction out"),
    "bool_type": ("true or false", "write it without quotes"),
    "list_type": ("a list", "begin each entry with a dash"),
    "dict_type": ("a mapping", "write key: value below it"),
    "model_type": ("a mapping", "write key: value below it"),
}
_TYPES = {
    str: "text",
    bool: "true or false",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "a mapping",
    type(None): "null",
}


def parse(raw: Mapping[str, Any]) -> Object:
    """Return the object of a manifest: one of the classes in `kinds`. Raises: INVALID.

    A status that cannot be read counts as empty: somebody else may have written it, and it is ours to write anew.
    """
    model = KINDS[_kind(raw)].model
    status = raw.get("status")
    try:
        parsed = model.model_validate({key: value for key, value in raw.items() if key != "status"}, context=FROM_MANIFEST)
    except ValidationError as error:
        raise CacheError(ErrorKind.INVALID, _sentence(error)) from None  # the cause would show values
    check_name(parsed.kind, parsed.metadata.name)
    if isinstance(status, Mapping):
        try:
            return model.model_validate(raw, context=FROM_MANIFEST)
        except ValidationError:
            return parsed
    return parsed


def check_name(kind: str, name: str) -> None:
    """Refuse names of Datasets and runtimes that are no DNS-1035 labels: other names are made of them. Raises: INVALID."""
    if KINDS[kind].strict_name and not _STRICT_NAME.fullmatch(name):
        raise CacheError(
            ErrorKind.INVALID,
            f"metadata.name is {_shown(name)}: create the {kind} under a name of at most 63 lower case letters, digits and dashes"
            " that begins with a letter and does not end with a dash",
        )


def _kind(raw: Mapping[str, Any]) -> str:
    version, kind = raw.get("apiVersion"), raw.get("kind")
    if version != API_VERSION:
        raise CacheError(ErrorKind.INVALID, f"apiVersion is {_shown(version)}: only {API_VERSION} is served here")
    if kind not in KINDS:
        raise CacheError(ErrorKind.INVALID, f"kind is {_shown(kind)}: {API_VERSION} has {', '.join(sorted(KINDS))}")
    return str(kind)


def _sentence(error: ValidationError) -> str:
    errors = error.errors(include_url=False)
    told = "; ".join(_told(each) for each in errors[:_MAX_ERRORS])
    return told if len(errors) <= _MAX_ERRORS else f"{told}; and {len(errors) - _MAX_ERRORS} more"


def _told(error: ErrorDetails) -> str:
    path, value, limits = json_path(error["loc"]), error["input"], error.get("ctx", {})
    match error["type"]:
        case "missing":
            return f"{path} is missing: add it"
        case "literal_error":
            return f"{path} is {_shown(value)}: write {limits['expected']}"
        case "string_too_short":
            return f"{path} is {_shown(value)}: it should be at least {limits['min_length']} chars long"
        case "too_short":
            return f"{path} has {limits['actual_length']} entries: write at least {limits['min_length']}"
        case "too_long":
            return f"{path} has too many entries: {limits['max_length']} are allowed"
        case "greater_than_equal":
            return f"{path} is {value}: write {limits['ge']} or more"
        case "less_than_equal":
            return f"{path} is {value}: write {limits['le']} or less"
        case "value_error":
            return f"{path}: {limits['error']}"
        case kind if kind in _NEEDED:
            needed, cure = _NEEDED[kind]
            return f"{path} is {_TYPES.get(type(value), type(value).__name__)} where {needed} is needed: {cure}"
        case _:
            return f"{path}: {error['msg']}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_VALUE else text[:_MAX_VALUE] + "..."
