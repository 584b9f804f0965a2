"""What the pod is doing: read by the HTTP server, written by the program. One object, one event loop."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    WAITING = "waiting"  # for something that somebody has to mend: see `reason`
    STANDBY = "standby"  # another pod has the cache
    STARTING = "starting"  # the supervisor has its order
    SERVING = "serving"
    ENDING = "ending"


@dataclass(slots=True)
class PodState:
    """`reason`: one sentence, for people."""

    phase: Phase = Phase.STARTING
    reason: str = "the pod starts"

    def enter(self, phase: Phase, reason: str) -> None:
        self.phase, self.reason = phase, reason
