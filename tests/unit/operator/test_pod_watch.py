"""The watch of our own pods: it begins anew whatever becomes of its connection."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from csi.operator.app.known import PODS, Key, Known
from csi.operator.app.pod_watch import PodWatch
from csi.operator.objects import Kind
from csi.operator.render.object_names import DATASET_LABEL

POD = {"metadata": {"name": "demo-a", "namespace": "lab", "labels": {DATASET_LABEL: "demo"}}, "status": {"phase": "Running"}}


class DeafServer:
    """Its list tells what there is; its watch never brings anything, as if the connection had been dropped on the way."""

    def __init__(self) -> None:
        self.lists = 0

    async def list_with_version(self, kind: Kind, labels: Mapping[str, str]) -> tuple[list[dict[str, Any]], str]:
        self.lists += 1
        return ([POD] if self.lists == 2 else []), "1"

    async def watch(
        self, kind: Kind, resource_version: str, labels: Mapping[str, str]
    ) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        await asyncio.Event().wait()
        yield "ADDED", {}


def test_a_connection_that_was_dropped_without_a_word() -> None:
    """What came meanwhile was never seen: the Dataset waited for its cache until the operator was started again."""
    server, known, looked_at, broken = DeafServer(), Known(), list[Key](), list[bool]()

    async def run() -> None:
        watch = PodWatch(server, known, looked_at.append, lambda: broken.append(True), watch_seconds=0.05)  # type: ignore[arg-type]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(3.5):
                await watch.run()

    asyncio.run(run())
    assert server.lists == 2
    assert (looked_at, broken) == ([("lab", "demo")], [])
    assert known.get(PODS, "demo-a", "lab") == POD
