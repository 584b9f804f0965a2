"""What is seen of a Dataset, and the nodes that are chosen for it meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from csi.operator.app.attachments import Attachments
from csi.operator.app.daemons import Answers
from csi.operator.app.known import NODES, Known
from csi.operator.app.observation import Observer
from csi.operator.objects import Kind
from csi.operator.render.object_names import WORKER, node_label
from csi.operator.resolved import Resolved, ResolvedTier
from fusecache.base.units import GIB
from fusecache.contract.mount_spec import Medium
from tests.support.rendered_manifests import INSTALLATION

TIER = ResolvedTier("ssd-1", Medium.SSD, GIB, 0.95, 0.7, host_path="/ssd")


class Cluster:
    """Stands for an API server whose watches tell of a change a moment later, and for cache pods that are not there yet."""

    def __init__(self, *nodes: str) -> None:
        self.known = Known()
        for name in nodes:
            status = {"conditions": [{"type": "Ready", "status": "True"}]}
            self.known.note(NODES, None, {"metadata": {"name": name, "labels": {}}, "spec": {}, "status": status})
        self.observer = Observer(self.known, self, Attachments(self, self.known), INSTALLATION)  # type: ignore[arg-type]

    async def merge(self, kind: Kind, name: str, patch: Mapping[str, Any]) -> None:
        node = self.known.get(NODES, name)
        assert node is not None
        labels = {**node["metadata"]["labels"], **patch["metadata"]["labels"]}
        after = {**node, "metadata": {"name": name, "labels": {key: value for key, value in labels.items() if value}}}
        asyncio.get_running_loop().call_later(0.05, self.known.note, kind, "MODIFIED", after)

    async def list(self, kind: Kind) -> AsyncIterator[dict[str, Any]]:
        for one in ():
            yield one

    async def statuses(self, addresses: Iterable[str], token: str) -> Answers:
        return Answers([], [])

    def workers(self, name: str) -> list[str]:
        label = node_label("lab", name)
        return [one["metadata"]["name"] for one in self.known.all(NODES) if one["metadata"]["labels"].get(label) == WORKER]


def test_datasets_that_are_made_together_choose_one_after_the_other() -> None:
    """Both saw the same empty nodes, and both had the first one for themselves alone."""
    cluster = Cluster("n1", "n2", "n3")

    async def run() -> None:
        await asyncio.gather(
            *(
                cluster.observer.observe(
                    Resolved("lab", name, "AlluxioRuntime", replicas=1, tiers=(TIER,), is_exclusive=True), "token", {}
                )
                for name in ("a", "b", "c")
            )
        )

    asyncio.run(run())
    assert sorted(cluster.workers("a") + cluster.workers("b") + cluster.workers("c")) == ["n1", "n2", "n3"]
