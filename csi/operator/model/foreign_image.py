"""Images that other engines would run. We run our own, so that only the pull policy matters."""

from __future__ import annotations

from csi.operator.model.kubernetes import Resources
from csi.operator.model.marks import Mark
from csi.operator.model.scalars import StringMap
from csi.operator.model.structure import Structure, field


class VersionSpec(Structure):
    image: str = field(Mark.IGNORED, "Image of the engine.", "")
    image_tag: str = field(Mark.IGNORED, "Tag of the image.", "")
    image_pull_policy: str = field(Mark.PASSED_ON, "When nodes pull our image: Always, IfNotPresent or Never.", "")


class InitUsers(Structure):
    image: str = field(Mark.IGNORED, "Image of a container that creates users.", "")
    image_tag: str = field(Mark.IGNORED, "Tag of that image.", "")
    image_pull_policy: str = field(Mark.IGNORED, "When nodes pull that image.", "")
    env: StringMap = field(Mark.IGNORED, "Environment of that container.", {})
    resources: Resources = field(Mark.IGNORED, "Resources of that container.", {})
