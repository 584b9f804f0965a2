"""What operations have in common: when they run, after what, where, and their status."""

from __future__ import annotations

from typing import Any, Literal

from csi.operator.model.conditions import ProbedCondition
from csi.operator.model.kubernetes import Affinity, NodeAffinity, Resources, Toleration
from csi.operator.model.marks import REPEATED, IgnoredWhen, Mark
from csi.operator.model.pod_metadata import PodMetadata
from csi.operator.model.scalars import Int32, StringMap, Timestamp
from csi.operator.model.structure import Structure, field, status_field

OperationKind = Literal["DataLoad", "DataBackup", "DataMigrate", "DataProcess"]


class OtherOperation(Structure):
    kind: OperationKind = field(Mark.HONOURED, "Kind of the operation.")
    name: str = field(Mark.HONOURED, "Name of the operation.")
    namespace: str = field(Mark.HONOURED, "Namespace of the operation.", "", default_text="the own namespace")
    api_version: str = field(Mark.SILENT, "Group and version of the operation.", "")


class RequiredLabel(Structure):
    name: str = field(Mark.HONOURED, "Label of nodes that must be as on the other operation's node.")


class PreferredLabel(Structure):
    name: str = field(Mark.HONOURED, "Label of nodes that should be as on the other operation's node.")
    weight: Int32 = field(Mark.HONOURED, "How much it counts, 1 to 100.")


class AffinityStrategy(Structure):
    policy: str = field(
        Mark.HONOURED | Mark.REFUSABLE,
        "Require or Prefer: must or should run where the other operation ran. Empty: anywhere.",
        "",
    )
    depend_on: OtherOperation | None = field(
        Mark.HONOURED, "Another operation whose place counts.", None, default_text="the one that it runs after"
    )
    requires: list[RequiredLabel] = field(
        Mark.HONOURED, "What Require means.", [], default_text="the same kubernetes.io/hostname"
    )
    prefers: list[PreferredLabel] = field(Mark.HONOURED, "What Prefer means.", [], default_text="the same kubernetes.io/hostname")


class RunAfter(OtherOperation):
    affinity_strategy: AffinityStrategy = field(Mark.HONOURED, "Whether to run where that operation ran.", AffinityStrategy())


def _ttl(*ignored_when: IgnoredWhen) -> Any:
    description = "Delete the object so many seconds after its end; 0: at once."
    return field(Mark.HONOURED, description, None, default_text="it stays", ignored_when=ignored_when, ge=0)


class Following(Structure):
    """Of every operation."""

    run_after: RunAfter | None = field(Mark.HONOURED, "Wait until this operation is complete.", None)
    ttl_seconds_after_finished: Int32 | None = _ttl()


class Repeated(Following):
    """Of operations that can run more than once."""

    policy: Literal["Once", "Cron", "OnEvent"] = field(
        Mark.HONOURED,
        "Once; Cron: whenever schedule says; OnEvent: once, and again when mounts of the Dataset, number or size of its files, "
        "or the annotation data.fluid.io/trigger change.",
        "Once",
        written="Once",
    )
    schedule: str = field(Mark.HONOURED | Mark.REFUSABLE, "When Cron runs: five fields, or @hourly and the like.", "")
    ttl_seconds_after_finished: Int32 | None = _ttl(REPEATED)


class Placed(Structure):
    """Of operations whose pods can be told where to run."""

    pod_metadata: PodMetadata = field(Mark.PASSED_ON, "Labels and annotations of the pods.", PodMetadata())
    affinity: Affinity = field(Mark.PASSED_ON, "Where the pods run.", {})
    tolerations: list[Toleration] = field(Mark.PASSED_ON, "Taints that the pods tolerate.", [])
    node_selector: StringMap = field(Mark.PASSED_ON, "Labels of the nodes that the pods may run on.", {})
    scheduler_name: str = field(Mark.PASSED_ON, "Scheduler of the pods.", "", default_text="the cluster's")
    resources: Resources = field(Mark.PASSED_ON, "CPU and memory of the pods.", {})


class WaitingFor(Structure):
    operation_complete: bool = status_field("Whether another operation has to be complete first.", False)


class OperationStatus(Structure):
    phase: str = status_field("Pending, Executing, Complete or Failed.", "", required=True)
    duration: str = status_field("How long it took, such as 2m1s; Unfinished until then.", "", required=True)
    conditions: list[ProbedCondition] = status_field("Complete or Failed, and why.", [], required=True)
    infos: StringMap = status_field("Figures, such as Progress and FilesDone.", {})
    last_schedule_time: Timestamp = status_field("When a Cron operation was started last.", "")
    last_successful_time: Timestamp = status_field("When a Cron operation was complete last.", "")
    waiting_for: WaitingFor = status_field("What the operation waits for.", WaitingFor())
    node_affinity: NodeAffinity = status_field("Where it ran.", {})
