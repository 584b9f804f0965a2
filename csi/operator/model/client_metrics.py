"""Who scrapes the metrics of mounts."""

from __future__ import annotations

from csi.operator.model.marks import Mark
from csi.operator.model.structure import Structure, field


class ClientMetrics(Structure):
    enabled: bool = field(Mark.HONOURED, "Annotate pods for a scraper. The metrics are there in any case.", False)
    scrape_target: str = field(
        Mark.HONOURED,
        "Which pods are annotated: MountPod, Sidecar, All, None, or several with commas between them.",
        "",
        default_text="None",
    )
