"""Types of single values, and of maps of text: with the schema that the API server checks."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from csi.operator.formats import QUANTITY_PATTERN, quantity_bytes
from csi.operator.model.structure import Schema
from fusecache.contract.errors import CacheError

INT_OR_STRING = {"x-kubernetes-int-or-string": True}
_MAX_INT32 = 2**31 - 1
QUANTITY = {**INT_OR_STRING, "pattern": QUANTITY_PATTERN}


def _parse_size(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return quantity_bytes(value)
        except CacheError as error:
            raise ValueError(str(error)) from error
    return value


def _without_nulls(value: Any) -> Any:
    return {key: each for key, each in value.items() if each is not None} if isinstance(value, dict) else value


# The API server does not look at the range of a format by itself (1.34).
Int32 = Annotated[int, Field(le=_MAX_INT32), Schema({"type": "integer", "format": "int32", "maximum": _MAX_INT32}, "integer")]
Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63), Schema({"type": "integer", "format": "int64"}, "integer")]
PortNumbers = Annotated[
    dict[str, int],
    BeforeValidator(_without_nulls),
    Schema({"type": "object", "additionalProperties": {"type": "integer"}}, "map of numbers"),
]
Size = Annotated[int, BeforeValidator(_parse_size), Schema(QUANTITY, "quantity")]  # bytes
StringMap = Annotated[
    dict[str, str],
    BeforeValidator(_without_nulls),
    Schema({"type": "object", "additionalProperties": {"type": "string"}}, "map of strings"),
]
Timestamp = Annotated[str, Schema({"type": "string", "format": "date-time"}, "time")]

# Empty means: as if left out.
NetworkMode = Literal["HostNetwork", "ContainerNetwork", ""]
