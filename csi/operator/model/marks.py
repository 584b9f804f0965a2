"""What becomes of a field that a user writes.

A field may be ignored (IGNORED, SILENT) only if dropping it cannot change which bytes a program reads, who may read them, or
where written bytes end up. Everything else is honoured in one way or another, or refused.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


class Mark(enum.Flag):
    HONOURED = enum.auto()  # does what the user means
    MAPPED = enum.auto()  # becomes a different setting of our cache
    PASSED_ON = enum.auto()  # goes to the pods or objects that the operator creates
    IGNORED = enum.auto()  # no effect, and a Warning event FieldIgnored names it
    SILENT = enum.auto()  # no effect, no event: informational, or what we do anyway
    REFUSABLE = enum.auto()  # with one of the others: some values are refused


@dataclass(frozen=True, slots=True)
class Place:
    """A value where it stands in an object, with what a rule may look at."""

    value: Any
    beside: Mapping[str, Any]  # the mapping that holds the value
    whole: Mapping[str, Any]  # the object
    schemes: frozenset[str] = field(default=frozenset())  # of the Dataset's mounts, as far as the caller knows

    @property
    def spec(self) -> Mapping[str, Any]:
        spec = self.whole.get("spec")
        return spec if isinstance(spec, Mapping) else {}


@dataclass(frozen=True, slots=True, eq=False)
class IgnoredWhen:
    """A field that is otherwise honoured has no effect when `holds` says so; `text` completes "ignored when"."""

    text: str
    holds: Callable[[Place], bool]


WITHOUT_HDFS = IgnoredWhen("no mount of the Dataset is hdfs://", lambda place: "hdfs" not in place.schemes)
REPEATED = IgnoredWhen("policy is Cron or OnEvent", lambda place: place.spec.get("policy") in ("Cron", "OnEvent"))
OTHER_REPLICAS = IgnoredWhen(
    "spec.replicas has another number", lambda place: place.spec.get("replicas") not in (None, place.value)
)
