"""What the node plugin looks after: one dataset that is in trouble, and the others."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from csi.errors import refused
from csi.mounting import binds, node_mounts
from csi.mounting.custody import Custody
from csi.mounting.journal import DatasetMount, Publication
from csi.mounting.node_mounts import NodeMounts
from csi.mounting.paths import Place, Roots
from csi.mounting.plan import NodeDirectories
from csi.mounting.serving import Served
from fusecache.contract.keeping import GRACE_SECONDS
from tests.support.log_check import LogCheck


class Serving:
    """Every mount is at device 0:2 now; `waits`: of which the daemon is silent; `breaks`: of which nothing is known."""

    has_pods = True

    def __init__(self) -> None:
        self.restored: list[str] = []
        self.waits = ""
        self.breaks = ""

    async def restore(self, mount: DatasetMount) -> Served | None:
        self.restored.append(mount.id)
        if mount.id == self.breaks:
            raise TypeError("a field that nobody knows")
        if mount.id == self.waits:
            await asyncio.sleep(60)
        return Served("/mounts/one", "0:2") if mount.device != "0:2" else None

    async def hold(self, mount: DatasetMount) -> Served:
        return Served("/mounts/one", "0:3")


class RunningCustody(Custody):
    async def ensure_running(self) -> None:
        pass


class Node:
    def __init__(self, base: Path) -> None:
        self.serving = Serving()
        self.targets = [base / "pods" / name for name in ("a", "b")]
        self.targets[0].parent.mkdir()
        self.bound: list[str] = []
        self.tried: list[str] = []
        self.refusals = 0  # of binds of "b", from the first on
        custody = RunningCustody(base / "custody", None, GRACE_SECONDS)
        self.mounts = NodeMounts(NodeDirectories(base), Roots([str(base)]), custody, self.serving)  # type: ignore[arg-type]
        self.mounts.journal.put(self.mount("one"))

    def mount(self, dataset: str) -> DatasetMount:
        publications = {str(target): Publication("v", target.name, True, 0o750) for target in self.targets}
        return DatasetMount(dataset, {}, read_only=True, publications=publications if dataset == "one" else {}, device="0:1")

    def open_source(self, mountpoint: str, device: str, directory: str) -> int:
        self.tried.append(directory)
        if directory == "b" and self.tried.count("b") <= self.refusals:
            raise refused("the store does not answer")
        self.bound.append(directory)
        return os.open("/dev/null", os.O_RDONLY)

    def watch(self, until: Callable[[], bool]) -> None:
        """Look after the mounts until something is so."""

        async def run() -> None:
            watching = asyncio.create_task(self.mounts.watch())
            for _ in range(1000):
                if until():
                    break
                await asyncio.sleep(0.01)
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching

        asyncio.run(run())
        assert until()

    def device(self) -> str:
        mount = self.mounts.journal.get("one")
        assert mount is not None
        return mount.device


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    node = Node(tmp_path)
    monkeypatch.setattr(node_mounts, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(binds, "open_source", node.open_source)

    def attach(tree: int, place: Place, *, read_only: bool) -> None:
        os.close(tree)

    monkeypatch.setattr(binds, "attach", attach)
    return node


def test_a_bind_that_failed_is_tried_again(node: Node, monkeypatch: pytest.MonkeyPatch, expect_log: LogCheck) -> None:
    """It was noted as done, and the pod had a dead directory until it was deleted."""
    monkeypatch.setattr(node_mounts, "BIND_AGAIN_SECONDS", 0.0)
    expect_log("cannot be bound again", level=logging.ERROR)
    node.refusals = 3
    node.watch(lambda: node.device() == "0:2")
    assert node.tried.count("b") == 4
    assert node.bound[-1] == "b"


def test_a_bind_that_failed_has_a_pause(node: Node, expect_log: LogCheck) -> None:
    expect_log("cannot be bound again", level=logging.ERROR)
    node.refusals = 1
    node.watch(lambda: node.serving.restored.count("one") > 4)
    assert (node.tried, node.device()) == (["a", "b"], "0:1")


def test_a_place_that_is_gone_is_nothing_to_wait_for(node: Node) -> None:
    node.targets[0].parent.rmdir()
    node.watch(lambda: node.device() == "0:2")
    assert node.tried == []


def test_one_that_waits_keeps_no_other_waiting(node: Node) -> None:
    node.mounts.journal.put(node.mount("first"))
    node.serving.waits = "first"
    node.watch(lambda: node.device() == "0:2" and node.serving.restored.count("one") > 2)
    assert node.serving.restored.count("first") == 1


def test_nothing_ends_the_watch(node: Node, expect_log: LogCheck) -> None:
    expect_log("a field that nobody knows", level=logging.ERROR)
    node.mounts.journal.put(node.mount("first"))
    node.serving.breaks = "first"
    node.watch(lambda: node.device() == "0:2" and node.serving.restored.count("first") > 2)


def test_a_mount_that_nobody_uses_any_more_is_made_as_ordered(node: Node) -> None:
    """It stayed as it was made for pods that used it, until the node was started again."""
    journal = node.mounts.journal
    (mount,) = journal
    journal.put(replace(mount, holders=("pod",), order={"id": "one"}, publications={}, volumes={}))

    async def release_one() -> None:
        (held,) = journal
        journal.put(replace(held, holders=("pod", "other")))
        await node.mounts.release("other")

    asyncio.run(release_one())
    (mount,) = journal
    assert mount.device == "0:3"
