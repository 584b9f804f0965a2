"""DataProcess: run a program of the user on a Dataset."""

from __future__ import annotations

from typing import Literal

from csi.operator.model.kubernetes import EnvVar, PodSpec, Resources, Volume, VolumeMount
from csi.operator.model.marks import Mark
from csi.operator.model.object import Object
from csi.operator.model.operation import OperationStatus, Repeated
from csi.operator.model.pod_metadata import PodMetadata
from csi.operator.model.structure import Structure, field


class ProcessedDataset(Structure):
    name: str = field(Mark.HONOURED, "Name of the Dataset.")
    namespace: str = field(
        Mark.HONOURED | Mark.REFUSABLE,
        "Namespace of the Dataset: the own one, others are refused.",
        "",
        default_text="the own namespace",
    )
    mount_path: str = field(Mark.HONOURED | Mark.REFUSABLE, "Where containers see the Dataset.")
    sub_path: str = field(Mark.HONOURED, "Directory of the Dataset that is mounted.", "", default_text="all of it")


class JobProcessor(Structure):
    pod_spec: PodSpec = field(Mark.PASSED_ON, "The pod. Every container of it gets the Dataset.", {})


class ScriptProcessor(Structure):
    source: str = field(Mark.HONOURED, "The script. It is a file, given to the command as its only argument.")
    command: list[str] = field(Mark.HONOURED, "What runs the script.", [], default_text="the image's entry point")
    image: str = field(Mark.PASSED_ON | Mark.REFUSABLE, "Image that the script runs in. Without one the operation fails.", "")
    image_tag: str = field(Mark.PASSED_ON, "Tag of the image.", "")
    image_pull_policy: str = field(Mark.PASSED_ON, "When nodes pull the image.", "")
    restart_policy: Literal["Never", "OnFailure"] = field(
        Mark.PASSED_ON, "What happens when the script fails.", "Never", written="Never"
    )
    env: list[EnvVar] = field(Mark.PASSED_ON, "Environment of the script.", [])
    volumes: list[Volume] = field(Mark.PASSED_ON, "Volumes of the pod.", [])
    volume_mounts: list[VolumeMount] = field(Mark.PASSED_ON, "Where the script sees the volumes.", [])
    resources: Resources = field(Mark.PASSED_ON, "CPU and memory of the script.", {})


class Processor(Structure):
    job: JobProcessor | None = field(Mark.HONOURED, "A whole pod; either this or script.", None)
    script: ScriptProcessor | None = field(Mark.HONOURED, "A script in an image; either this or job.", None)
    service_account_name: str = field(Mark.PASSED_ON, "Service account of the pod.", "", default_text="the namespace's")
    pod_metadata: PodMetadata = field(Mark.PASSED_ON, "Labels and annotations of the pod.", PodMetadata())


class DataProcessSpec(Repeated):
    dataset: ProcessedDataset = field(Mark.HONOURED, "Which Dataset, and where it is mounted.")
    processor: Processor = field(Mark.HONOURED, "What runs.")


class DataProcess(Object):
    """Runs a pod of the user with a Dataset mounted."""

    spec: DataProcessSpec = field(Mark.HONOURED, "What to run, and when.")
    status: OperationStatus = field(Mark.HONOURED, "What became of it.", OperationStatus())
