"""Conditions of a status."""

from __future__ import annotations

from csi.operator.model.scalars import Timestamp
from csi.operator.model.structure import Structure, status_field


class Condition(Structure):
    type: str = status_field("What the condition is about.", "", required=True)
    status: str = status_field("True, False or Unknown.", "", required=True)
    reason: str = status_field("Why, in one word.", "")
    message: str = status_field("Why, in a sentence.", "")
    last_transition_time: Timestamp = status_field("When status changed last.", "")


class UpdatedCondition(Condition):
    """Of Datasets."""

    last_update_time: Timestamp = status_field("When the condition was written last.", "")


class ProbedCondition(Condition):
    """Of runtimes and operations."""

    last_probe_time: Timestamp = status_field("When the condition was looked at last.", "")
